//! Failure records quote messages. They go when what they may quote is deleted: the record of a sender in a
//! conversation in which a message of that sender was deleted since, whichever it was, and every record of a
//! conversation that is gone.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcyou_plugin_host::{KeptRecord, kept_records};

use crate::store::{SchemaGate, Store};

/// Between looks.
const EVERY: Duration = Duration::from_secs(5);
/// What the clocks of this machine and of the database differ by at most.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);

/// Removes records for as long as it runs.
pub(crate) async fn keep_erasing(dir: PathBuf, store: Store, gate: SchemaGate) {
    gate.opened().await;
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = erase(&dir, &store).await {
            tracing::debug!(dir = %dir.display(), %error, "whether failure records quote what was deleted is not known");
        }
    }
}

async fn erase(dir: &Path, store: &Store) -> anyhow::Result<()> {
    let folder = dir.to_owned();
    let records = tokio::task::spawn_blocking(move || kept_records(&folder)).await??;
    if records.is_empty() {
        return Ok(());
    }
    for KeptRecord { path, .. } in store.quoting_deleted(&records, CLOCKS_DIFFER).await? {
        match fs::remove_file(&path) {
            // Another gateway on this machine may have the same directory.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            removed => removed?,
        }
        tracing::info!(file = %path.display(), "a failure record is removed: its sender has deleted a message since");
    }
    Ok(())
}
