//! A row in `plugin_audit` for each message that plugins keep from being stored, written beside the message's path: in
//! batches, never waited for, and lossy when more comes than the database takes. (What was held or replaced leaves its
//! row in the message's own transaction, and so does a reviewer's decision.) Old rows are removed here as well, and so
//! are held messages that were refused as long ago.

use std::time::{Duration, Instant};

use arcyou_platform::outage_log::OutageLog;
use arcyou_plugin_host::Rejection;
use metrics::counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::screen::Screening;
use crate::store::{AuditEntry, Store, StoreError};

/// Rows that wait; more are lost.
const QUEUE: usize = 4096;
/// Rows of one statement.
const BATCH: usize = 512;
/// Between attempts while the database is away.
const AGAIN: Duration = Duration::from_secs(1);
/// Between looks for old rows.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Old rows that are removed at once, and the pause after them.
const PAGE: i64 = 1000;
const PAUSE: Duration = Duration::from_millis(100);

/// What is kept of plugins' verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditConfig {
    /// Whether rows are written at all.
    pub enabled: bool,
    /// How long a row is kept, and a held message after it was refused; none: for ever.
    pub keep: Option<Duration>,
}

/// Takes note of what plugins decided. Clones share one queue; its rest is written when all are gone.
#[derive(Debug, Clone)]
pub struct Audit(Option<mpsc::Sender<AuditEntry>>);

impl Audit {
    /// Starts writing on `writers`, which end when every clone is gone, and pruning on `upkeep` until it `ends`.
    pub fn start(
        store: &Store,
        config: AuditConfig,
        writers: &TaskTracker,
        upkeep: &TaskTracker,
        ends: CancellationToken,
    ) -> Self {
        if let Some(keep) = config.keep {
            upkeep.spawn(ends.run_until_cancelled_owned(prune(store.clone(), keep)));
        }
        if !config.enabled {
            return Self(None);
        }
        let (sender, entries) = mpsc::channel(QUEUE);
        writers.spawn(write(store.clone(), entries));
        Self(Some(sender))
    }

    /// What there is to note about a message, if it is kept from being stored.
    pub fn about(&self, conversation: Uuid, sender: Uuid, screening: &Screening) -> Option<Box<AuditEntry>> {
        self.0.as_ref()?;
        let (verdict, by, code, reason) = match screening {
            Screening::Screened(_) => return None,
            Screening::Discarded { by } => ("discarded", by, None, None),
            Screening::Failed { by, reason } => ("failed", by, None, Some(&**reason)),
            Screening::Rejected(Rejection { by, code, reason, .. }) => ("rejected", by, Some(code), Some(&**reason)),
        };
        let (by, code, reason) = (by.clone(), code.cloned(), reason.map(str::to_owned));
        Some(Box::new(AuditEntry { conversation, sender, verdict, by, code, reason, at: Instant::now() }))
    }

    /// Takes note of it. Never waits.
    pub fn note(&self, entry: Option<Box<AuditEntry>>) {
        let (Some(queue), Some(entry)) = (&self.0, entry) else { return };
        if queue.try_send(*entry).is_err() {
            counter!("arcyou_audit_lost_total").increment(1);
        }
    }
}

async fn write(store: Store, mut queue: mpsc::Receiver<AuditEntry>) {
    let (mut batch, outage) = (Vec::with_capacity(BATCH), OutageLog::new());
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // A statement that perhaps was done is not done again: two rows would be worse than none.
        while let Err(error) = store.insert_audit(&batch).await {
            if let Some(line) = outage.failed(Instant::now()) {
                let seconds = line.lasted.as_secs();
                tracing::warn!(%error, rows = batch.len(), seconds, "plugins' verdicts were not noted");
            }
            if queue.is_closed() || !error.did_nothing_for_now() {
                counter!("arcyou_audit_lost_total").increment(batch.len() as u64);
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        outage.worked(Instant::now());
        batch.clear();
    }
}

/// The larger number of rows that were removed from either table.
async fn prune_page(store: &Store, keep: Duration) -> Result<u64, StoreError> {
    Ok(store.prune_audit(keep, PAGE).await?.max(store.prune_refused(keep, PAGE).await?))
}

async fn prune(store: Store, keep: Duration) {
    loop {
        match prune_page(&store, keep).await {
            Ok(removed) if removed >= PAGE as u64 => tokio::time::sleep(PAUSE).await,
            Ok(_) => tokio::time::sleep(PRUNE_EVERY).await,
            Err(error) => {
                tracing::debug!(%error, "pruning of audit rows and refused messages is interrupted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
