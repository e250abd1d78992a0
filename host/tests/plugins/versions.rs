//! What becomes of a version that fails, and of files that may not be plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arcyou_plugin_host::{BreakerState, Options, PluginHost, PluginStatus};
use serde_json::json;

use crate::support::guests::{CACHE_HOME, Dir, LIMITS, built, logged, send, status};

/// The guest, which does this with every message.
fn guest(filter: &str, more: &str) -> String {
    format!(
        "[[plugin]]\nname = \"guest\"\n{more}[plugin.limits]\ndeadline_ms = 10000\n[plugin.config]\nfilter = \"{filter}\"\n"
    )
}

fn outcome(host: &PluginHost) -> &'static str {
    send(host, json!({})).outcome
}

fn plugin(host: &PluginHost, name: &str) -> PluginStatus {
    host.status().into_iter().find(|status| status.plugin == name).unwrap()
}

#[test]
fn a_version_that_fails_goes_back_by_itself_and_stays_refused() {
    let dir = Dir::guest("");
    dir.manifest(&guest("discard", ""));
    let host = dir.host();
    assert!(!status(&host).watched, "there is nothing to go back to");
    dir.manifest(&guest("panic", ""));
    host.reload().unwrap();
    assert!(status(&host).watched);
    let lines = logged(|| {
        let outcomes: Vec<_> = (0..7).map(|_| outcome(&host)).collect();
        assert_eq!(
            outcomes,
            [["failed"; 5].as_slice(), &["discarded"; 2]].concat(),
            "no message waits for the breaker"
        );
    });
    assert!(lines.iter().any(|line| line.starts_with("ERROR guest: the plugin is rolled back")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("left alone")), "{lines:?}");
    let back = status(&host).rolled_back.unwrap();
    assert!(back.reason.starts_with("5 of 10 calls failed, the last one: trap: "), "{}", back.reason);
    assert_eq!((status(&host).breaker, status(&host).failures), (BreakerState::Closed, 0));

    // The same file and entry are refused again, without being tried; what else changes takes effect.
    dir.copy("misbehaving.wasm", "other.wasm");
    host.reload().unwrap();
    assert_eq!((outcome(&host), host.status().len()), ("discarded", 2));
    assert!(plugin(&host, "guest").rolled_back.is_some());

    // Its entry changes: another try, and this one is well.
    dir.manifest(&guest("reject", ""));
    host.reload().unwrap();
    assert_eq!(outcome(&host), "rejected");
    assert!(plugin(&host, "guest").rolled_back.is_none());
    // The old file again: what was refused is forgotten, and may fail again.
    dir.manifest(&guest("panic", ""));
    host.reload().unwrap();
    assert_eq!(outcome(&host), "failed");
}

#[test]
fn a_version_that_fails_now_and_then_goes_when_its_share_is_used_up() {
    let dir = Dir::guest("");
    dir.manifest(&guest("accept", ""));
    let host = dir.host();
    let more = "[plugin.rollback]\ncalls = 20\nfailures_percent = 10\n";
    dir.manifest(&guest("discard", more));
    host.reload().unwrap();
    let fail = |times: usize| {
        for _ in 0..times {
            assert_eq!(send(&host, json!({"filter": "panic"})).outcome, "failed");
            assert_eq!(outcome(&host), "discarded");
        }
    };
    // Two calls for each message: two failures of twenty calls, and again, are allowed; a third is not.
    for _ in 0..2 {
        fail(2);
        (0..6).for_each(|_| assert_eq!(outcome(&host), "discarded"));
    }
    fail(2);
    assert_eq!(send(&host, json!({"filter": "panic"})).outcome, "failed");
    assert_eq!(outcome(&host), "stored", "the version before accepts");
    assert!(status(&host).rolled_back.unwrap().reason.starts_with("3 of 10 calls failed"));
}

#[test]
fn a_version_is_proven_in_time_and_rests_then_like_any_other() {
    for (more, seconds) in
        [("", 600), ("[plugin.rollback]\nwindow_s = 5\n", 5), ("[plugin.rollback]\nenabled = false\n", 0)]
    {
        let dir = Dir::guest("");
        dir.manifest(&guest("accept", ""));
        let host = dir.host();
        dir.manifest(&guest("panic", more));
        host.reload().unwrap();
        dir.clock.store(seconds * 1000, Ordering::SeqCst);
        host.expire();
        assert!(!status(&host).watched);
        for _ in 0..6 {
            assert_eq!(outcome(&host), "failed");
        }
        assert_eq!(status(&host).breaker, BreakerState::Open, "{more}");
        assert!(status(&host).rolled_back.is_none());
    }
}

#[test]
fn a_canary_that_fails_gives_its_conversations_back() {
    let dir = Dir::guest("");
    dir.manifest(&guest("discard", ""));
    let host = dir.host();
    dir.write("bad.wasm", &with_section(&fs::read(built().join("misbehaving.wasm")).unwrap(), "note", "bad"));
    let canary = "[plugin.canary]\nfile = \"bad.wasm\"\npercent = 100\n";
    dir.manifest(&guest("discard", canary));
    host.reload().unwrap();
    for _ in 0..5 {
        assert_eq!(send(&host, json!({"validate": "panic"})).plugin.as_deref(), Some("guest.canary"));
    }
    let after = send(&host, json!({}));
    assert_eq!((after.outcome, after.plugin.as_deref()), ("discarded", Some("guest.canary")));
    let canary = plugin(&host, "guest.canary");
    assert_eq!(canary.sha256, plugin(&host, "guest").sha256, "the plugin itself stands in");
    assert_ne!(canary.rolled_back.unwrap().sha256, canary.sha256);
}

#[test]
fn a_failing_version_that_many_threads_call_goes_once() {
    let dir = Dir::guest("");
    dir.manifest(&guest("discard", ""));
    let host = dir.host();
    dir.manifest(&guest("panic", ""));
    host.reload().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(send(&host, json!({})))));
        }
    });
    assert_eq!(outcome(&host), "discarded");
    assert!(status(&host).rolled_back.is_some());
}

#[test]
fn only_files_on_the_list_are_plugins() {
    let dir = Dir::guest("");
    let digest = status(&dir.host()).sha256;
    let allow = |digests: &str| format!("[chain]\nallowed_sha256 = [{digests}]\n");
    dir.manifest(&allow(&format!("\"{}\"", digest.to_uppercase())));
    assert_eq!(outcome(&dir.host()), "stored");
    dir.manifest(&allow(""));
    let expected = format!(
        "plugin guest: guest.wasm is not allowed: its SHA-256 {digest} is not in `allowed_sha256` of plugins.toml"
    );
    assert_eq!(dir.error(), expected);
    dir.manifest(&allow("\"abc\""));
    assert!(dir.error().contains("line 2"), "{}", dir.error());
}

#[test]
fn a_plugin_tells_its_version_and_what_it_did() {
    let dir = Dir::guest("");
    let host = dir.host();
    send(&host, json!({"filter": "panic"}));
    send(&host, json!({"filter": "replace"}));
    let status = status(&host);
    assert_eq!(status.version.as_deref(), Some(env!("CARGO_PKG_VERSION")), "the SDK puts the crate's there");
    assert_eq!(status.verdicts, [("accept", 3), ("replace", 1)].into());
    assert_eq!(status.failures_by_kind, [("trap", 1)].into());
    assert_eq!(status.instances, 1, "the other one is gone");
    assert!(status.memory_bytes > 0 && status.memory_bytes <= 16 << 20);
    let module = fs::read(built().join("misbehaving.wasm")).unwrap();
    let component = wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    dir.write("guest.wasm", &component);
    assert_eq!(crate::support::guests::status(&dir.host()).version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_takes_long_to_compile_is_refused_until_it_is_done() {
    let (dir, cache) = (Dir::guest(""), tempfile::tempdir().unwrap());
    let options = || Options::new(Some(dir.path()), Some(cache.path()), LIMITS);
    let hasty = Options { compile_within: Duration::ZERO, ..options() };
    let host = Arc::new(PluginHost::new(Options { dir: Some(cache.path().to_owned()), ..hasty.clone() }).unwrap());
    assert!(host.chain().is_empty());
    let error = PluginHost::new(hasty).err().unwrap().to_string();
    assert_eq!(error, "plugin guest: it takes longer than 0ns to compile");
    // The compiler goes on, and what comes of it is kept.
    while fs::read_dir(cache.path()).unwrap().flatten().all(|entry| entry.path().extension().is_none()) {
        std::thread::yield_now();
    }
    let lines = logged(|| assert_eq!(outcome(&PluginHost::new(options()).unwrap()), "stored"));
    assert!(!lines.iter().any(|line| line.contains("compiling")), "{lines:?}");
}

/// The same WebAssembly with a custom section at its end.
fn with_section(wasm: &[u8], name: &str, text: &str) -> Vec<u8> {
    let content = [&[name.len() as u8], name.as_bytes(), text.as_bytes()].concat();
    [wasm, &[0, content.len() as u8], &content].concat()
}

/// Runs `plugin replay` on a record; its report, and whether it says that the failure is the same.
pub(crate) fn replay(record: &Path, more: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let output =
        command.env("XDG_CACHE_HOME", CACHE_HOME).args(["plugin", "replay"]).arg(record).args(more).output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.success())
}

pub(crate) fn records(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".record.json"));
    files.sort();
    files
}

#[test]
fn what_a_plugin_fails_on_is_kept_and_fails_again() {
    let (dir, state) = (Dir::guest("[plugin.config]\nvalidate = \"annotate\"\n"), tempfile::tempdir().unwrap());
    let kept = state.path().join("records");
    let host =
        PluginHost::new(Options { records_dir: Some(kept.clone()), ..Options::new(Some(dir.path()), None, LIMITS) })
            .unwrap();
    for (at, (deed, kind)) in [("panic", "trap"), ("replace-garbage", "invalid_replacement")].into_iter().enumerate() {
        send(&host, json!({"filter": deed, "text": "secret"}));
        while records(&kept).len() == at {
            std::thread::yield_now();
        }
        let record = &records(&kept)[at];
        let mode = fs::metadata(record).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, record.to_string_lossy().contains(kind)), (0o600, true), "{record:?}");
        let (report, same) = replay(record, &[]);
        assert!(same && report.contains(&format!("kept         {kind}: ")), "{report}");
    }
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
    let panic = &records(&kept)[0];
    let (report, _) = replay(panic, &[]);
    assert!(report.contains("this is what I panic about") && report.contains("same         yes"), "{report}");
    // Another version that does not fail on it.
    let mended = built().join("body-shape.wasm");
    let (report, same) = replay(panic, &["--plugin", mended.to_str().unwrap()]);
    assert!(!same && report.contains("refuses its configuration"), "{report}");
    // What needs several messages.
    fs::write(panic, fs::read_to_string(panic).unwrap().replace("panic\\\"", "seventh\\\"")).unwrap();
    assert!(replay(panic, &[]).0.contains("it does not fail"));
    let (report, same) = replay(panic, &["--times", "10"]);
    assert!(same && report.contains("7 made"), "{report}");
}

#[test]
fn a_plugin_that_was_granted_something_fails_again_with_the_same() {
    let (dir, state) = (Dir::empty(), tempfile::tempdir().unwrap());
    dir.copy("dice.wasm", "dice.wasm");
    dir.manifest(
        "[[plugin]]\nname = \"dice\"\ngrants = [\"clock\", \"kv\", \"random\"]\n\
        [plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\n",
    );
    let mut options = Options::new(Some(dir.path()), None, LIMITS);
    options.records_dir = Some(state.path().to_owned());
    let host = PluginHost::new(options).unwrap();
    assert_eq!(send(&host, json!({"key": "a"})).outcome, "stored");
    assert_eq!(send(&host, json!({"key": "a", "bytes": "65537"})).outcome, "failed");
    while records(state.path()).is_empty() {
        std::thread::yield_now();
    }
    let (report, same) = replay(&records(state.path())[0], &[]);
    assert!(same && report.contains("65537 random bytes at once"), "{report}");
}
