//! Reloads by themselves when the plugins directory changes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::host::PluginHost;
use crate::loading::loader::LoadError;

/// A change is often one of several, a copy in the making: wait until it has been quiet for so long …
const QUIET_PERIOD: Duration = Duration::from_millis(200);
/// … but not for ever, where something never stops.
const MAX_QUIET_WAITS: usize = 25;

/// Watches as long as it lives.
#[derive(Debug)]
pub struct DirectoryWatch {
    _watcher: Option<RecommendedWatcher>,
}

impl PluginHost {
    /// From now on reloads after every change in the plugins directory, and tells `report` how each result. A refused
    /// reload is in the log already.
    pub fn watch(
        self: &Arc<Self>,
        report: impl Fn(Result<(), LoadError>) + Send + 'static,
    ) -> Result<DirectoryWatch, notify::Error> {
        let Some(dir) = self.dir() else { return Ok(DirectoryWatch { _watcher: None }) };
        // One pending change is as good as many.
        let (changed, changes) = sync_channel(1);
        let watcher = watcher(dir, changed)?;
        let host = Arc::downgrade(self);
        thread::Builder::new()
            .name("plugin-watch".into())
            .spawn(move || run(&host, &changes, report))
            .map_err(notify::Error::io)?;
        Ok(DirectoryWatch { _watcher: Some(watcher) })
    }
}

fn watcher(dir: &Path, changed: SyncSender<()>) -> Result<RecommendedWatcher, notify::Error> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading the files is an event as well, and must not lead to reading them again. A lost event may be anything.
        let read_only = event.is_ok_and(|event| match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            kind => kind.is_access(),
        });
        if !read_only {
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Ends with the watcher, which has the other end of the channel, or with the host.
fn run(host: &Weak<PluginHost>, changes: &Receiver<()>, report: impl Fn(Result<(), LoadError>)) {
    while changes.recv().is_ok() {
        for _ in 0..MAX_QUIET_WAITS {
            match changes.recv_timeout(QUIET_PERIOD) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        let Some(host) = host.upgrade() else { return };
        report(host.reload_and_log());
    }
}
