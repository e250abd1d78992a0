//! What becomes of a plugin in whose call a gateway died.

use std::fs;

use arcyou_plugin_host::{LoadError, Options, PluginHost};
use serde_json::json;

use crate::support::guests::{Dir, LIMITS, logged, send, status};

#[test]
fn what_a_gateway_died_of_is_not_run_again_until_somebody_acts() {
    let dir = Dir::guest("");
    let cache = tempfile::tempdir().unwrap();
    let start = || PluginHost::new(Options::new(Some(dir.path()), Some(cache.path()), LIMITS));
    let sha256 = status(&start().unwrap()).sha256;

    let marks = cache.path().join("crashed");
    fs::write(&marks, format!("{}\n{sha256}\n", "0".repeat(64))).unwrap();
    let mut host = None;
    let lines = logged(|| host = Some(start().unwrap()));
    let host = host.unwrap();
    assert!(lines.iter().any(|line| line.starts_with("ERROR") && line.contains("a gateway died")), "{lines:?}");
    assert_eq!(send(&host, json!({})).outcome, "failed", "what a plugin should have seen is not stored without it");
    assert!(status(&host).quarantined);
    assert_eq!((status(&host).instances_started, status(&host).skipped), (0, 1));

    // Neither a reload nor another entry runs it.
    host.reload().unwrap();
    dir.manifest("[[plugin]]\nname = \"guest\"\non_error = \"accept\"\n");
    let refused = host.reload();
    assert!(matches!(&refused, Err(LoadError::Crashed { plugin }) if plugin == "guest"), "{refused:?}");
    assert_eq!(status(&start().unwrap()).instances_started, 0);
    assert_eq!(send(&start().unwrap(), json!({})).outcome, "stored", "its entry says what happens without it");

    // Somebody wants to try it again.
    fs::remove_file(&marks).unwrap();
    host.reload().unwrap();
    assert!(!status(&host).quarantined);
    assert_eq!(send(&host, json!({})).outcome, "stored");
}

#[test]
fn what_the_compiler_died_of_is_not_compiled_again() {
    let dir = Dir::guest("");
    let cache = tempfile::tempdir().unwrap();
    let start = || PluginHost::new(Options::new(Some(dir.path()), Some(cache.path()), LIMITS));
    let sha256 = status(&start().unwrap()).sha256;
    for compiled in fs::read_dir(cache.path()).unwrap() {
        fs::remove_file(compiled.unwrap().path()).unwrap();
    }
    fs::write(cache.path().join("crashed"), format!("{sha256}\n")).unwrap();
    assert!(matches!(start(), Err(LoadError::Crashed { .. })));
}

/// The engine's handler of signals must come before the one that marks crashes, whichever engine was first.
#[test]
fn a_trap_is_no_crash() {
    let dir = Dir::guest("");
    let early = PluginHost::new(Options::new(Some(dir.path()), None, LIMITS)).unwrap();
    let host = dir.host();
    for host in [&early, &host, &early, &host] {
        assert_eq!(send(host, json!({"filter": "panic"})).outcome, "failed");
    }
    assert!(!status(&dir.host()).quarantined);
}
