//! Plugins judge edits as they judge messages, and are told what is edited, by whatever way they are called.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use arcyou_plugin_host::{Options, PluginHost};
use serde_json::json;

use super::shipped::scripted;
use super::versions::{records, replay};
use crate::support::guests::{CACHE_HOME, Dir, LIMITS, annotations, built, edit, send};

/// How the plugins of these tests tell of an edit of this body.
const SEEN: &str = r#"7 3 {"text":"old"}"#;

#[test]
fn each_plugin_of_a_chain_sees_what_stands_and_not_what_the_one_before_left() {
    let dir = Dir::empty();
    dir.copy("misbehaving.wasm", "a.wasm");
    dir.copy("misbehaving.wasm", "b.wasm");
    dir.manifest(
        "[[plugin]]\nname = \"a\"\n[plugin.config]\nvalidate = \"edits\"\nfilter = \"append\"\n\
         [[plugin]]\nname = \"b\"\n[plugin.config]\nfilter = \"edits\"\n",
    );
    let host = dir.host();
    let edited = edit(&host, &json!({"text": "old"}), &json!({"text": "new"}));
    assert_eq!((edited.outcome, edited.body.as_deref()), ("stored", Some(r#"{"text":"new+"}"#)));
    assert_eq!(annotations(&edited), json!({"a": {"edits": SEEN}, "b": {"edits": SEEN}}));
    let sent = annotations(&send(&host, json!({"text": "new"})));
    assert_eq!(sent, json!({"a": {"edits": "nothing"}, "b": {"edits": "nothing"}}));
}

#[test]
fn each_verdict_is_given_about_edits_too() {
    let dir = Dir::guest("");
    let host = dir.host();
    for hook in ["validate", "filter"] {
        for (deed, outcome) in [
            ("accept", "stored"),
            ("reject", "rejected"),
            ("discard", "discarded"),
            ("hold", "held"),
            ("panic", "failed"),
        ] {
            assert_eq!(edit(&host, &json!({"text": "old"}), &json!({hook: deed})).outcome, outcome, "{hook}: {deed}");
        }
    }
    // What stands is told, and not judged.
    assert_eq!(edit(&host, &json!({"filter": "reject"}), &json!({})).outcome, "stored");
}

#[test]
fn a_plugin_that_may_wait_sees_what_is_edited() {
    let dir = Dir::empty();
    dir.copy("dice.wasm", "dice.wasm");
    dir.manifest(
        "[[plugin]]\nname = \"dice\"\ngrants = [\"clock\", \"kv\", \"random\"]\n\
         [plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\n",
    );
    let host = dir.host();
    assert_eq!(annotations(&edit(&host, &json!({}), &json!({"key": "a"})))["dice"]["edits"], "7");
    assert_eq!(annotations(&send(&host, json!({"key": "a"})))["dice"]["edits"], "0");
}

#[test]
fn javascript_and_python_see_what_is_edited() {
    for name in ["throwing", "raising"] {
        let dir = Dir::empty();
        dir.write(&format!("{name}.wasm"), &fs::read(scripted().join(format!("{name}.wasm"))).unwrap());
        dir.manifest(&format!(
            "[chain]\ndeadline_ms = 10000\n[[plugin]]\nname = {name:?}\n[plugin.limits]\nstartup_ms = 60000\n\
             memory_mib = 32\ndeadline_ms = 10000\n"
        ));
        let host = dir.host();
        let told = annotations(&edit(&host, &json!({"text": "old"}), &json!({"text": "edits"})));
        assert_eq!(told[name]["edits"], format!("{SEEN} true"), "{name}");
        assert_eq!(annotations(&send(&host, json!({"text": "edits"})))[name]["edits"], "nothing", "{name}");
    }
}

#[test]
fn an_edit_that_a_plugin_fails_on_is_kept_and_fails_again() {
    let (dir, state) = (Dir::guest("[plugin.config]\nfilter = \"panic-of-edits\"\n"), tempfile::tempdir().unwrap());
    let options = Options::new(Some(dir.path()), None, LIMITS);
    let host = PluginHost::new(Options { records_dir: Some(state.path().to_owned()), ..options }).unwrap();
    assert_eq!(send(&host, json!({"text": "new"})).outcome, "stored");
    assert_eq!(edit(&host, &json!({"text": "old"}), &json!({"text": "new"})).outcome, "failed");
    while records(state.path()).is_empty() {
        std::thread::yield_now();
    }
    let record = &records(state.path())[0];
    let (report, same) = replay(record, &[]);
    assert!(same && report.contains(&format!("I edit {SEEN}")), "{report}");
    // A record of a message that was sent has no such part, nor has one of an older gateway.
    let mut sent: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    sent["message"].as_object_mut().unwrap().remove("edits").unwrap();
    fs::write(record, sent.to_string()).unwrap();
    assert!(replay(record, &[]).0.contains("it does not fail"));
}

#[test]
fn cases_are_edits_if_they_say_what_stands() {
    let dir = Dir::guest("[plugin.config]\nfilter = \"edits\"\n");
    let case = |edits: &str, seen: &str| {
        let expect = format!("{{ verdict = \"accept\", annotations = {{ edits = '{seen}' }} }}");
        format!("[[case]]\n{edits}body = {{ text = \"new\" }}\nexpect = {expect}\n")
    };
    let cases = case("edits = { message_id = 7, version = 3, body = { text = \"old\" } }\n", SEEN)
        + &case("edits = { body = { n = 1.50 } }\n", r#"1 1 {"n":1.5}"#)
        + &case("", "nothing");
    dir.write("guest.cases.toml", cases.as_bytes());
    dir.host();
    dir.write("guest.cases.toml", cases.replace("version = 3", "version = 4").as_bytes());
    let error = dir.error();
    assert!(error.contains("annotations.edits: expected") && error.contains("7 4 "), "{error}");
}

#[test]
fn an_author_runs_a_plugin_with_an_edit() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("config.toml", "filter = \"edits\"\n");
    write("new.json", r#"{"text": "new"}"#);
    write("old.json", r#"{"text": "old"}"#);
    let wasm = built().join("misbehaving.wasm");
    let run = |more: &[&str]| plugin_run(folder.path(), &wasm, more);
    let (done, said) = run(&["--edits", "old.json", "--edits-id", "7", "--edits-version", "3"]);
    assert!(done && said.contains(&SEEN.replace('"', "\\\"")), "{said}");
    assert!(run(&["--edits", "old.json"]).1.contains("1 1 {"));
    assert!(run(&[]).1.contains("nothing"));
    for wrong in [&["--edits-id", "7"][..], &["--edits", "config.toml"], &["--edits", "none.json"]] {
        assert!(!run(wrong).0, "{wrong:?}");
    }
}

/// `plugin run` about the message `new.json`: whether it works, and what it says.
fn plugin_run(folder: &Path, wasm: &Path, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.current_dir(folder).env("XDG_CACHE_HOME", CACHE_HOME).args(["plugin", "run"]).arg(wasm);
    let output = command.args(["--config", "config.toml", "--message", "new.json"]).args(more).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}
