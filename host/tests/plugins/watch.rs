//! A plugins directory that changes as deployments change it: by a link that moves, or by another directory in its
//! place. Each is loaded by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, mpsc::RecvTimeoutError};
use std::time::Duration;

use arcyou_plugin_host::{DirectoryWatch, Options, PluginHost};
use serde_json::json;
use tempfile::TempDir;

use crate::support::guests::{LIMITS, built, cache, send};

/// When to give up. Nothing is this slow.
const HANG: Duration = Duration::from_secs(120);

/// Puts a plugin into `dir` that answers each message like this.
fn fill(dir: &Path, verdict: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::copy(built().join("misbehaving.wasm"), dir.join("guest.wasm")).unwrap();
    configure(dir, verdict);
}

fn configure(dir: &Path, verdict: &str) {
    let limits = "[plugin.limits]\ndeadline_ms = 10000\n";
    let manifest = format!("[[plugin]]\nname = \"guest\"\n{limits}[plugin.config]\nfilter = \"{verdict}\"\n");
    fs::write(dir.join("plugins.toml"), manifest).unwrap();
}

struct Watched {
    place: TempDir,
    host: Arc<PluginHost>,
    reloads: Receiver<bool>,
    _watch: DirectoryWatch,
}

impl Watched {
    /// A host that watches the directory of this name, made by `make`.
    fn new(name: &str, make: impl FnOnce(&Path)) -> Self {
        let place = tempfile::tempdir().unwrap();
        make(place.path());
        let options = Options::new(Some(&place.path().join(name)), Some(&cache()), LIMITS);
        let host = Arc::new(PluginHost::new(options).unwrap());
        let (done, reloads) = channel();
        let watch = host.watch(move |result| done.send(result.is_ok()).unwrap_or_default()).unwrap();
        Self { place, host, reloads, _watch: watch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Waits until messages are treated like this. A change may be seen half done, and is seen again then.
    fn until(&self, outcome: &str) {
        while send(&self.host, json!({})).outcome != outcome {
            let waited: Result<bool, RecvTimeoutError> = self.reloads.recv_timeout(HANG);
            waited.expect("the change was not noticed");
        }
    }
}

/// Replaces a link in one step, as `ln -sfn` and orchestrators do.
fn relink(target: &str, link: &Path) {
    let next = link.with_file_name("next-link");
    symlink(target, &next).unwrap();
    fs::rename(next, link).unwrap();
}

#[test]
fn another_directory_takes_its_place() {
    let watched = Watched::new("plugins", |place| fill(&place.join("plugins"), "accept"));
    watched.until("stored");
    for (round, (verdict, outcome)) in
        [("discard", "discarded"), ("reject", "rejected"), ("hold", "held")].iter().enumerate()
    {
        let next = watched.at(&format!("next-{round}"));
        fill(&next, verdict);
        fs::remove_dir_all(watched.at("plugins")).unwrap();
        fs::rename(next, watched.at("plugins")).unwrap();
        watched.until(outcome);
    }
    // The one that is there now is watched, too.
    configure(&watched.at("plugins"), "discard");
    watched.until("discarded");
}

#[test]
fn a_directory_that_is_away_for_a_while_is_loaded_when_it_is_back() {
    let watched = Watched::new("plugins", |place| fill(&place.join("plugins"), "accept"));
    fs::rename(watched.at("plugins"), watched.at("elsewhere")).unwrap();
    assert_eq!(watched.reloads.recv_timeout(HANG), Ok(false), "it is said that it is away");
    assert_eq!(send(&watched.host, json!({})).outcome, "stored", "the old plugins go on");
    configure(&watched.at("elsewhere"), "discard");
    fs::rename(watched.at("elsewhere"), watched.at("plugins")).unwrap();
    watched.until("discarded");
}

#[test]
fn a_link_moves_to_another_directory() {
    let watched = Watched::new("plugins", |place| {
        ["one", "two"].iter().zip(["accept", "discard"]).for_each(|(name, verdict)| fill(&place.join(name), verdict));
        symlink("one", place.join("plugins")).unwrap();
    });
    watched.until("stored");
    relink("two", &watched.at("plugins"));
    watched.until("discarded");
    configure(&watched.at("two"), "reject");
    watched.until("rejected");
    relink("one", &watched.at("plugins"));
    watched.until("stored");
}

/// As `current/plugins`, where each release has a folder of its own.
#[test]
fn a_link_above_the_directory_moves() {
    let watched = Watched::new("current/plugins", |place| {
        fill(&place.join("1/plugins"), "accept");
        fill(&place.join("2/plugins"), "discard");
        symlink("1", place.join("current")).unwrap();
    });
    watched.until("stored");
    relink("2", &watched.at("current"));
    watched.until("discarded");
}

/// A Kubernetes volume: the files are links through `..data`, which moves to a new directory.
#[test]
fn a_config_map_is_updated() {
    for name in ["volume", "volume/..data"] {
        let watched = Watched::new(name, |place| {
            fill(&place.join("volume/..2026_01"), "accept");
            symlink("..2026_01", place.join("volume/..data")).unwrap();
            for file in ["guest.wasm", "plugins.toml"] {
                symlink(format!("..data/{file}"), place.join("volume").join(file)).unwrap();
            }
        });
        watched.until("stored");
        fill(&watched.at("volume/..2026_02"), "discard");
        relink("..2026_02", &watched.at("volume/..data"));
        fs::remove_dir_all(watched.at("volume/..2026_01")).unwrap();
        watched.until("discarded");
    }
}
