//! Watches the plugins directory and reloads after changes. What the file system reports is a hint; the truth is what
//! the directory looks like, which is looked at after each hint and every few seconds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::host::PluginHost;
use super::way::Way;
use crate::loading::error::LoadError;

/// A change is often one of several, such as a copy in progress. Reload after the directory has been quiet for this
/// long …
const QUIET_PERIOD: Duration = Duration::from_millis(200);
/// … but after this many waits at the latest, if changes never stop.
const MAX_QUIET_WAITS: usize = 25;
/// How often the directory is looked at without a hint. Network file systems give none, and a hint can be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watching ends when this is dropped.
#[derive(Debug)]
pub struct DirectoryWatch {
    _alive: Option<Arc<Alive>>,
}

/// Wakes the watching thread when it is dropped, and the thread finds it gone.
#[derive(Debug)]
struct Alive(SyncSender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl PluginHost {
    /// Reloads after every change in the plugins directory, also if it is replaced by another one, and passes each
    /// result to `report`. Failed reloads are already logged.
    pub fn watch(
        self: &Arc<Self>,
        report: impl Fn(Result<(), LoadError>) + Send + 'static,
    ) -> io::Result<DirectoryWatch> {
        let Some(dir) = self.dir().map(Path::to_owned) else { return Ok(DirectoryWatch { _alive: None }) };
        // One pending notification stands for any number of changes.
        let (hint, hints) = sync_channel(1);
        let hinter = match Hinter::new(hint.clone()) {
            Ok(hinter) => Some(hinter),
            Err(error) => {
                tracing::warn!(%error, "the plugins directory cannot be watched, only looked at every few seconds");
                None
            }
        };
        let alive = Arc::new(Alive(hint));
        let looker = Looker { host: Arc::downgrade(self), alive: Arc::downgrade(&alive), dir, hints, hinter };
        thread::Builder::new().name("plugin-watch".into()).spawn(move || looker.run(LOOK_EVERY, report))?;
        Ok(DirectoryWatch { _alive: Some(alive) })
    }
}

/// Looks at the directory, on a thread of its own.
struct Looker {
    host: Weak<PluginHost>,
    alive: Weak<Alive>,
    dir: PathBuf,
    hints: Receiver<()>,
    hinter: Option<Hinter>,
}

impl Looker {
    /// Ends when the watch or the host is dropped.
    fn run(mut self, every: Duration, report: impl Fn(Result<(), LoadError>)) {
        loop {
            // Interest is registered before the look, so that a change between the two is not lost.
            if let Some(hinter) = &mut self.hinter {
                hinter.listen(&self.dir);
            }
            match self.host.upgrade() {
                None => return,
                Some(host) => host.reload_if_changed().into_iter().for_each(&report),
            }
            if self.hints.recv_timeout(every) == Ok(()) && self.alive.upgrade().is_some() {
                self.wait_until_quiet();
            }
            if self.alive.upgrade().is_none() {
                return;
            }
        }
    }

    fn wait_until_quiet(&self) {
        for _ in 0..MAX_QUIET_WAITS {
            if self.hints.recv_timeout(QUIET_PERIOD) == Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    }
}

/// Asks the file system to report changes. What is watched is the directory that was there at that time, so it has to
/// be asked again when the way leads to another one.
struct Hinter {
    watcher: RecommendedWatcher,
    way: Arc<Mutex<Way>>,
    /// The directories that are watched, each with its device and inode.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Hinter {
    fn new(hint: SyncSender<()>) -> notify::Result<Self> {
        let way = Arc::<Mutex<Way>>::default();
        let known = way.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // A lost event may be anything, so it counts as a change.
            if event.is_ok_and(|event| !is_change(&event, &known)) {
                return;
            }
            let _ = hint.try_send(());
        })?;
        Ok(Self { watcher, way, watched: BTreeMap::new() })
    }

    /// Listens to what leads to `dir` now. A directory that cannot be watched is left to the next look.
    fn listen(&mut self, dir: &Path) {
        let way = Way::to(dir);
        let identity = |place: &Path| {
            let metadata = fs::metadata(place).ok()?;
            Some((place.to_owned(), (metadata.dev(), metadata.ino())))
        };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = way.places().filter_map(identity).collect();
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
        let stale = self.watched.iter().filter(|(place, identity)| wanted.get(*place) != Some(identity));
        for (place, _) in stale {
            let _ = self.watcher.unwatch(place);
        }
        // Again even if it is watched already: the watcher forgets a directory of which it hears that it was deleted,
        // also if there is another one under the same name by then.
        for place in wanted.keys() {
            let _ = self.watcher.watch(place, RecursiveMode::NonRecursive);
        }
        self.watched = wanted;
    }
}

/// Reading the files is an event too, and must not cause another reload.
fn is_change(event: &Event, way: &Way) -> bool {
    let read_only = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        kind => kind.is_access(),
    };
    let concerns = event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| way.concerns(path));
    !read_only && concerns
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use arcyou_protocol::body::BodyLimits;

    use super::*;
    use crate::lifecycle::host::Options;

    #[test]
    fn a_change_that_nobody_hints_at_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Some(dir.path()), None, BodyLimits::default());
        let host = Arc::new(PluginHost::new(options).unwrap());
        let (hint, hints) = sync_channel(1);
        let alive = Arc::new(Alive(hint));
        let (weak, dir_path) = (Arc::downgrade(&host), dir.path().to_owned());
        let looker = Looker { host: weak, alive: Arc::downgrade(&alive), dir: dir_path, hints, hinter: None };
        let (done, reloads) = mpsc::channel();
        thread::spawn(move || {
            looker.run(Duration::from_millis(5), move |result| done.send(result.is_ok()).unwrap());
        });
        // Moved there in one step: a look may come between a file's creation and its writing.
        let elsewhere = tempfile::tempdir().unwrap();
        let configure = |text: &str| {
            let written = elsewhere.path().join("plugins.toml");
            fs::write(&written, text).unwrap();
            fs::rename(written, dir.path().join("plugins.toml")).unwrap();
        };
        configure("nonsense");
        assert_eq!(reloads.recv(), Ok(false));
        configure("# nothing");
        assert_eq!(reloads.recv(), Ok(true));
        drop(alive);
        assert!(reloads.recv().is_err(), "nothing changed, and the watch has ended");
    }
}
