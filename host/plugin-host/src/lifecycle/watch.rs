//! Watches the plugins directory and reloads after changes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::host::PluginHost;
use crate::loading::loader::LoadError;

/// A change is often one of several, such as a copy in progress. Reload after the directory has been quiet for this
/// long …
const QUIET_PERIOD: Duration = Duration::from_millis(200);
/// … but after this many waits at the latest, if changes never stop.
const MAX_QUIET_WAITS: usize = 25;

/// Watching ends when this is dropped.
#[derive(Debug)]
pub struct DirectoryWatch {
    _watcher: Option<RecommendedWatcher>,
}

impl PluginHost {
    /// Reloads after every change in the plugins directory, and passes each result to `report`. Failed reloads are
    /// already logged.
    pub fn watch(
        self: &Arc<Self>,
        report: impl Fn(Result<(), LoadError>) + Send + 'static,
    ) -> Result<DirectoryWatch, notify::Error> {
        let Some(dir) = self.dir() else { return Ok(DirectoryWatch { _watcher: None }) };
        // One pending notification stands for any number of changes.
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
        // Reading the files is an event too, and must not cause another reload. A lost event may be anything, so it
        // counts as a change.
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

/// Ends when the watcher, which holds the channel's other end, or the host is dropped.
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
