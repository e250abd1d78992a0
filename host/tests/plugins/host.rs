//! The plugin host with real plugins: the repository's own, and one that misbehaves in every way.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use arcyou_plugin_host::{BreakerState, Candidate, LoadError, Options, PluginHost, Preview};
use arcyou_protocol::body::Body;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::guests::{Dir, LIMITS, annotations, built, logged, send, send_from, status};

/// Sends one message that makes the guest fail, and answers the kind and text of the failure.
fn failure(settings: &str, body: Value) -> String {
    let dir = Dir::guest(settings);
    let host = dir.host();
    let preview = send(&host, body);
    assert_eq!((preview.outcome, preview.plugin.as_deref()), ("failed", Some("guest")));
    assert_eq!(send(&host, json!({})).outcome, "stored", "the next message must not suffer");
    status(&host).last_failure.unwrap()
}

#[test]
fn each_verdict_has_its_effect() {
    let dir = Dir::guest("");
    let host = dir.host();
    for hook in ["validate", "filter"] {
        assert_eq!(send(&host, json!({hook: "accept"})), Preview { outcome: "stored", ..Preview::default() });
        let rejected = send(&host, json!({hook: "reject"}));
        assert_eq!((rejected.outcome, rejected.plugin.as_deref()), ("rejected", Some("guest")));
        assert_eq!((rejected.code.as_deref(), rejected.reason.as_deref()), (Some("told_to"), Some("I was told to")));
        assert_eq!(rejected.retry_after_ms, Some(1500));
        assert_eq!(send(&host, json!({hook: "discard"})).outcome, "discarded");
        let held = send(&host, json!({hook: "hold"}));
        assert_eq!((held.outcome, held.reason.as_deref()), ("held", Some("somebody should look")));
    }
    let replaced = send(&host, json!({"filter": "replace", "n": 1}));
    assert_eq!((replaced.outcome, replaced.body.as_deref()), ("stored", Some(r#"{"text":"replaced"}"#)));
    assert_eq!(status(&host).failures, 0);
    assert_eq!(status(&host).hooks, ["validate", "filter"]);
}

#[test]
fn filters_see_what_the_one_before_left_and_validators_see_the_end() {
    let dir = Dir::empty();
    let manifest = "[[plugin]]\nname = \"last-word\"\nfile = \"a.wasm\"\n[plugin.config]\nvalidate = \"reject-replaced\"\n\
        [[plugin]]\nname = \"plus\"\nfile = \"b.wasm\"\n[plugin.config]\nfilter = \"append\"\n\
        [[plugin]]\nname = \"plus-2\"\nfile = \"b.wasm\"\n[plugin.config]\nfilter = \"append\"\n";
    dir.copy("misbehaving.wasm", "a.wasm");
    dir.copy("misbehaving.wasm", "b.wasm");
    dir.manifest(manifest);
    let host = dir.host();
    let preview = send(&host, json!({"text": "hi", "n": 1.5}));
    assert_eq!(preview.body.as_deref(), Some(r#"{"n":1.5,"text":"hi++"}"#));
    assert_eq!(preview.plugin.as_deref(), Some("plus-2"));
    dir.manifest(&manifest.replacen("filter = \"append\"", "filter = \"replace\"", 2).replace("plus-2", "other"));
    host.reload().unwrap();
    let preview = send(&host, json!({"text": "hi"}));
    assert_eq!(
        (preview.outcome, preview.plugin.as_deref(), preview.code.as_deref()),
        ("rejected", Some("last-word"), Some("seen"))
    );
}

#[test]
fn annotations_travel_along_the_chain_and_are_stored() {
    let dir = Dir::empty();
    dir.copy("misbehaving.wasm", "a.wasm");
    dir.copy("misbehaving.wasm", "b.wasm");
    let config = |filter: &str| format!("[plugin.config]\nfilter = \"{filter}\"\n");
    dir.manifest(&format!(
        "[[plugin]]\nname = \"a\"\n{}[[plugin]]\nname = \"b\"\n{}",
        config("annotate"),
        config("see")
    ));
    let host = dir.host();
    let noted = annotations(&send(&host, json!({})));
    assert_eq!(noted, json!({"a": {"role": "member", "calls": "2"}, "b": {"saw": "role=member,calls=2"}}));
    let ids = annotations(&send_from(&host, 2, json!({"validate": "echo"})));
    assert_eq!(ids["a"]["ids"], "00000000-0000-0000-0000-000000000001 00000000-0000-0000-0000-000000000002");
}

#[test]
fn a_failing_plugin_harms_one_message() {
    for hook in ["validate", "filter"] {
        let panic = failure("", json!({hook: "panic"}));
        assert!(panic.starts_with("trap: panicked at ") && panic.contains("this is what I panic about"), "{panic}");
    }
    let slow = failure("[plugin.limits]\ndeadline_ms = 300\n", json!({"validate": "loop"}));
    assert_eq!(slow, "deadline: it took longer than its deadline");
    let memory = failure("[plugin.limits]\nmemory_mib = 4\ndeadline_ms = 10000\n", json!({"validate": "memory"}));
    assert!(memory.starts_with("memory: it wants ") && memory.ends_with("may have 4194304"), "{memory}");
    let stack = failure("", json!({"filter": "recurse"}));
    assert!(stack.starts_with("trap: ") || stack.starts_with("stack: "), "{stack}");
    let huge = failure("[plugin.limits]\ndeadline_ms = 10000\nmemory_mib = 64\n", json!({"filter": "replace-huge"}));
    assert_eq!(huge, "output: it hands over more than its output limit");
}

#[test]
fn an_impossible_answer_is_a_failure() {
    let garbage = failure("", json!({"filter": "replace-garbage"}));
    assert!(garbage.starts_with("invalid_replacement: the body has the key \"a\" twice"), "{garbage}");
    let replace = failure("", json!({"validate": "replace"}));
    assert_eq!(replace, "invalid_verdict: a validator must not replace the body");
    assert!(failure("", json!({"filter": "reject-odd"})).contains("is no token"));
    assert!(failure("", json!({"filter": "annotate-flood"})).contains("100 annotations"));
    let text = failure("", json!({"filter": "bad-text"}));
    assert!(text.starts_with("abi: "), "{text}");
}

#[test]
fn long_reasons_are_cut_and_cleaned() {
    let dir = Dir::guest("");
    let reason = send(&dir.host(), json!({"filter": "reject-long"})).reason.unwrap();
    assert!(reason.starts_with("forged line 한") && reason.len() <= 1024 && reason.len() > 1000);
}

#[test]
fn on_error_accept_lets_the_message_go_on() {
    let dir = Dir::guest("on_error = \"accept\"\n");
    let host = dir.host();
    for told in ["panic", "replace-garbage"] {
        assert_eq!(send(&host, json!({"filter": told})), Preview { outcome: "stored", ..Preview::default() });
    }
    assert_eq!(status(&host).failures, 2);
}

#[test]
fn the_breaker_opens_and_closes_by_itself() {
    let dir = Dir::guest("on_error = \"accept\"\n[plugin.breaker]\nfailures = 3\ncool_down_ms = 1000\n");
    let host = dir.host();
    let (bad, good) = (json!({"filter": "panic"}), json!({"filter": "reject"}));
    for _ in 0..3 {
        assert_eq!(status(&host).breaker, BreakerState::Closed);
        send(&host, bad.clone());
    }
    assert_eq!(status(&host).breaker, BreakerState::Open);
    assert_eq!(send(&host, good.clone()).outcome, "stored", "an open breaker leaves the plugin alone");
    dir.clock.store(1000, Ordering::SeqCst);
    assert_eq!(send(&host, good.clone()).outcome, "rejected", "a trial that goes well closes it");
    assert_eq!((status(&host).breaker, status(&host).failures), (BreakerState::Closed, 3));
}

#[test]
fn one_senders_messages_open_the_breaker_for_nobody_else() {
    let dir = Dir::guest("[plugin.breaker]\nfailures = 3\ncool_down_ms = 1000\n");
    let host = dir.host();
    let (attacker, bystander) = (1_000_000, 1_000_001);
    for _ in 0..10 {
        assert_eq!(send_from(&host, attacker, json!({"filter": "panic"})).outcome, "failed");
        assert_eq!(send_from(&host, bystander, json!({})).outcome, "stored");
    }
    let seen = status(&host);
    assert_eq!((seen.failures, seen.skipped), (3, 7), "after three, it is not asked about the attacker's messages");
    assert_eq!((seen.breaker, seen.refused_senders), (BreakerState::Closed, 1));
    dir.clock.store(1000, Ordering::SeqCst);
    assert_eq!(send_from(&host, attacker, json!({})).outcome, "stored", "one good message, and all is well");
    assert_eq!(status(&host).refused_senders, 0);
}

#[test]
fn an_open_breaker_refuses_if_on_error_does() {
    let dir = Dir::guest("[plugin.breaker]\nfailures = 1\n");
    let host = dir.host();
    send(&host, json!({"filter": "panic"}));
    assert_eq!(send(&host, json!({})).outcome, "failed");
    assert_eq!(status(&host).failures, 1, "it was not called");
}

#[test]
fn instances_are_reused_and_replaced_after_a_fault_or_when_worn() {
    let dir = Dir::guest("[plugin.limits]\nmemory_mib = 32\ndeadline_ms = 10000\n");
    let host = dir.host();
    for _ in 0..10 {
        send(&host, json!({}));
    }
    assert_eq!(status(&host).instances_started, 1);
    send(&host, json!({"filter": "panic"}));
    assert_eq!(annotations(&send(&host, json!({"validate": "annotate"})))["guest"]["calls"], "1");
    assert_eq!(status(&host).instances_started, 2);
    // It may keep 6 MiB, and 12; at 18 it has taken more than half of what it may grow by.
    for _ in 0..3 {
        assert_eq!(send(&host, json!({"filter": "leak"})).outcome, "stored");
    }
    send(&host, json!({}));
    assert_eq!(status(&host).instances_started, 3);

    let dir = Dir::guest("[plugin.limits]\ncalls_per_instance = 4\ndeadline_ms = 10000\n");
    let host = dir.host();
    for _ in 0..6 {
        send(&host, json!({}));
    }
    assert_eq!(status(&host).instances_started, 3, "each message is two calls");
}

#[test]
fn what_a_plugin_logs_is_limited_and_cannot_forge_lines() {
    let dir = Dir::guest("[plugin.limits]\nlog_lines = 5\ndeadline_ms = 10000\n");
    let host = dir.host();
    let lines = logged(|| {
        assert_eq!(send(&host, json!({"filter": "log-flood"})).outcome, "stored");
        send(&host, json!({"filter": "log-forge"}));
        send(&host, json!({"filter": "panic"}));
    });
    assert_eq!(lines.iter().filter(|line| line.contains("guest: line ")).count(), 5);
    assert!(lines.iter().any(|line| line.contains("dropped=99995")), "{lines:?}");
    let flooded = logged(|| drop(send(&host, json!({"filter": "log-flood-panic"}))));
    assert!(flooded.iter().any(|line| line.contains("last words")), "{flooded:?}");
    assert!(lines.iter().any(|line| line == "INFO guest: first ERROR forged"), "{lines:?}");
    let panic = lines.iter().find(|line| line.starts_with("ERROR guest: ")).unwrap();
    assert!(panic.contains("this is what I panic about") && panic.contains("lib.rs:"), "{panic}");
}

#[test]
fn without_a_manifest_every_file_is_a_plugin() {
    let dir = Dir::empty();
    dir.copy("word-filter.wasm", "b.wasm");
    dir.copy("body-shape.wasm", "a.wasm");
    dir.write(".half-written.wasm", b"");
    dir.write("README.md", b"not a plugin");
    let host = dir.host();
    let names: Vec<_> = host.status().into_iter().map(|status| status.plugin).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(send(&host, json!({})).plugin.as_deref(), Some("a"));
}

#[test]
fn a_component_is_as_good_as_a_core_module() {
    let module = fs::read(built().join("word-filter.wasm")).unwrap();
    let component = wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    let dir = Dir::empty();
    dir.write("words.wasm", &component);
    dir.manifest("[[plugin]]\nname = \"words\"\n[plugin.config]\nmask = [\"bad\"]\n");
    assert_eq!(send(&dir.host(), json!({"text": "bad"})).body.as_deref(), Some(r#"{"text":"***"}"#));
}

#[test]
fn files_that_are_no_plugins_are_refused_by_name() {
    let refused = |bytes: &[u8]| {
        let dir = Dir::empty();
        dir.write("x.wasm", bytes);
        dir.error()
    };
    assert_eq!(refused(b"hello"), "plugin x: the file is not WebAssembly");
    assert_eq!(refused(b""), "plugin x: the file is not WebAssembly");
    let whole = fs::read(built().join("word-filter.wasm")).unwrap();
    for part in 1..12 {
        let cut = refused(&whole[..whole.len() * part / 12]);
        assert!(cut.starts_with("plugin x: the module is no plugin: "), "{cut}");
    }
    let component = wit_component::ComponentEncoder::default().module(&whole).unwrap().encode().unwrap();
    assert!(refused(&component[..component.len() / 2]).starts_with("plugin x: "));
    assert!(refused(b"\0asm\x0d\0\x01\0").starts_with("plugin x: it exports none of"));
    assert!(refused(b"\0asm\x01\0\0\0").starts_with("plugin x: "));
}

#[test]
fn nothing_but_the_log_is_granted() {
    let refused = |bytes: &[u8]| {
        let dir = Dir::empty();
        dir.write("x.wasm", bytes);
        dir.error()
    };
    // (module (type (func)) (import "env" "foo" (func (type 0))))
    let core = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0b\x01\x03env\x03foo\0\0";
    assert!(refused(core).contains("env"), "{}", refused(core));
    // (component (import "wasi:cli/environment@0.2.0" (instance)))
    let name = b"wasi:cli/environment@0.2.0";
    let mut component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0\x0a".to_vec();
    component.extend([name.len() as u8 + 5, 1, 0, name.len() as u8]);
    component.extend(name);
    component.extend(b"\x05\0");
    let expected = "plugin x: it imports `wasi:cli/environment@0.2.0`, which is not granted";
    assert!(refused(&component).starts_with(expected), "{}", refused(&component));
}

#[test]
fn plugins_must_start_and_like_their_configuration() {
    let error = |settings: &str| Dir::guest(settings).error();
    assert_eq!(
        error("[plugin.config]\nstart = \"refuse\"\n"),
        "plugin guest refuses its configuration: I do not like my configuration"
    );
    let panic = error("[plugin.config]\nstart = \"panic\"\n");
    assert!(panic.starts_with("plugin guest does not start: ") && panic.contains("cannot start"), "{panic}");
    let slow = error("[plugin.limits]\nstartup_ms = 20\n[plugin.config]\nstart = \"loop\"\n");
    assert_eq!(slow, "plugin guest does not start: it took longer than its deadline");
    assert!(error("[plugin.config]\ntypo = 1\n").contains("unknown field `typo`"));
    assert_eq!(
        error("[plugin.config]\nfilter = 5\n"),
        "plugin guest refuses its configuration: config.filter: invalid type: integer `5`, expected a string"
    );
    assert!(error("deadline = 5\n").contains("line 3"));
    assert!(error("[plugin.limits]\nmemory_mib = 1\n").contains("does not start: it wants "));
    let missing = Dir::empty();
    missing.manifest("[[plugin]]\nname = \"gone\"\n");
    assert!(missing.error().contains("gone.wasm"));
}

#[test]
fn a_reload_takes_effect_at_once_or_not_at_all() {
    let dir = Dir::guest("");
    let host = dir.host();
    let before = host.chain();
    send(&host, json!({"filter": "panic"}));
    dir.manifest("[[plugin]]\nname = \"guest\"\n[plugin.config]\nfilter = \"discard\"\n");
    assert_eq!(send(&host, json!({})).outcome, "stored", "nothing changes before a reload");
    host.reload().unwrap();
    assert_eq!(send(&host, json!({})).outcome, "discarded");
    let body = Body::parse("{}", &LIMITS).unwrap();
    let (conversation, sender, body) = (Uuid::nil(), Uuid::nil(), &body);
    let old = before.preview(Candidate { conversation, sender, role: "member", body, edits: None });
    assert_eq!(old.outcome, "stored", "a message stays in the chain that it began in");

    dir.write("broken.wasm", b"\0asm\x01\0\0\0garbage");
    assert!(host.reload().is_err());
    assert_eq!(send(&host, json!({})).outcome, "discarded", "the old chain goes on");
    fs::remove_file(dir.path().join("broken.wasm")).unwrap();
    dir.manifest("[[plugin]]\nnome = 1\n");
    assert!(matches!(host.reload(), Err(LoadError::Manifest(_))));
    assert_eq!(send(&host, json!({})).outcome, "discarded");
    fs::remove_file(dir.path().join("guest.wasm")).unwrap();
    fs::remove_file(dir.path().join("plugins.toml")).unwrap();
    host.reload().unwrap();
    assert!(host.chain().is_empty());
    assert_eq!(send(&host, json!({})).outcome, "stored");
}

#[test]
fn a_reload_leaves_unchanged_plugins_running() {
    let dir = Dir::guest("");
    let host = dir.host();
    send(&host, json!({"filter": "panic"}));
    dir.copy("body-shape.wasm", "zz-shape.wasm");
    host.reload().unwrap();
    let status = host.status();
    assert_eq!((status.len(), status[0].failures, status[1].failures), (2, 1, 0));
}

#[test]
fn compiled_code_is_kept_in_a_private_directory() {
    let (dir, cache) = (Dir::guest(""), tempfile::tempdir().unwrap());
    let cache_dir = cache.path().join("compiled");
    let start = || logged(|| drop(PluginHost::new(Options::new(Some(dir.path()), Some(&cache_dir), LIMITS)).unwrap()));
    assert!(start().iter().any(|line| line.contains("compiling")));
    assert!(!start().iter().any(|line| line.contains("compiling")));
    let files = fs::read_dir(&cache_dir).unwrap().map(|entry| entry.unwrap().path());
    let compiled: Vec<_> = files.filter(|path| path.extension().is_some_and(|name| name == "compiled")).collect();
    assert_eq!(compiled.len(), 1, "{compiled:?}");
    // What is compiled is no plugin: code is only ever run from where the gateway put it.
    let code = fs::read(&compiled[0]).unwrap();
    for bytes in [&code[..], &code[32..]] {
        dir.write("guest.wasm", bytes);
        assert_eq!(dir.error(), "plugin guest: the file is not WebAssembly");
    }
}

#[test]
fn many_threads_share_a_chain() {
    let dir = Dir::guest("");
    let host = dir.host();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200 {
                    let filter = ["accept", "reject", "discard", "hold"][n % 4];
                    let expected = ["stored", "rejected", "discarded", "held"][n % 4];
                    assert_eq!(send(&host, json!({"filter": filter})).outcome, expected);
                }
            });
        }
    });
    assert!(status(&host).instances_started <= 8 + 1);
}

#[test]
fn a_changed_file_is_loaded_by_itself() {
    let dir = Dir::guest("");
    let host = Arc::new(dir.host());
    let (done, reloads) = mpsc::channel();
    let watch = host.watch(move |result| done.send(result.map_err(|error| error.to_string())).unwrap()).unwrap();
    dir.manifest("[[plugin]]\nname = \"guest\"\n[plugin.config]\nfilter = \"discard\"\n");
    assert_eq!(reloads.recv(), Ok(Ok(())));
    assert_eq!(send(&host, json!({})).outcome, "discarded");
    dir.write("broken.wasm", b"broken");
    assert!(reloads.recv().unwrap().unwrap_err().contains("broken"));
    assert_eq!(send(&host, json!({})).outcome, "discarded");
    drop(watch);
    assert!(reloads.recv().is_err(), "reading the directory is no change, and the watch has ended");
}
