//! An author's first five minutes, from an empty folder and with nothing but the gateway's binary.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::guests::{CACHE_HOME, Dir, send};

/// `arcyou-gateway plugin …` in a folder, and what it said.
fn plugin(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.current_dir(folder).env_remove("CARGO_TARGET_DIR").env("XDG_CACHE_HOME", CACHE_HOME);
    // What a crate depends on is compiled once, by the first run of this test.
    command.env("CARGO_BUILD_BUILD_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/authors-build"));
    let output = command.arg("plugin").args(arguments).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let (done, said) = plugin(folder, arguments);
    assert!(done, "{arguments:?}: {said}");
    said
}

#[test]
fn from_an_empty_folder_to_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), &["new", "my-rule"]);
    let (again, said) = plugin(folder.path(), &["new", "my-rule"]);
    assert!(!again && said.contains("my-rule"), "{said}");
    assert!(!plugin(folder.path(), &["new", "No Name"]).0);

    let project = folder.path().join("my-rule");
    assert!(done(&project, &["test", "."]).contains("3 passed, 0 failed"));
    std::fs::write(project.join("m.json"), r#"{"text": "HELLO THERE"}"#).unwrap();
    let said = done(&project, &["run", ".", "--message", "m.json"]);
    assert!(said.contains("stored") && said.contains("hello there"), "{said}");
    let said = done(&project, &["check", "."]);
    assert!(said.contains("arcyou:gateway/filter") && said.contains("all hold"), "{said}");

    // A gateway takes it with its cases, and leaves it when they do not hold.
    done(&project, &["build"]);
    let dir = Dir::empty();
    let built = project.join("target/plugins");
    for file in ["my-rule.wasm", "my-rule.cases.toml"] {
        std::fs::copy(built.join(file), dir.path().join(file)).unwrap();
    }
    let host = dir.host();
    let preview = send(&host, json!({"text": "HELLO THERE"}));
    assert_eq!(preview.body.as_deref(), Some(r#"{"text":"hello there"}"#));
    let cases = std::fs::read_to_string(built.join("my-rule.cases.toml")).unwrap();
    dir.write("my-rule.cases.toml", cases.replace("replace", "reject").as_bytes());
    let refused = host.reload().unwrap_err().to_string();
    assert!(refused.contains("my-rule") && refused.contains("cases"), "{refused}");
    assert_eq!(send(&host, json!({"text": "HELLO THERE"})).body, preview.body, "the old one goes on");
    dir.manifest("[[plugin]]\nname = \"my-rule\"\ncases = false\n");
    host.reload().unwrap();
}

/// The same path in languages that have compilers of their own, which each plugin's `build.sh` installs beside it.
#[test]
fn from_an_empty_folder_in_other_languages() {
    let folder = tempfile::tempdir().unwrap();
    for (language, rule) in [("javascript", "plugin.js"), ("python", "plugin.py")] {
        let said = done(folder.path(), &["new", language, "--language", language, "--sdk", "sdk"]);
        assert!(said.contains(rule), "{said}");
        let project = folder.path().join(language);
        assert!(done(&project, &["test"]).contains("3 passed, 0 failed"));
        let dir = Dir::empty();
        std::fs::copy(project.join(format!("target/plugins/{language}.wasm")), dir.path().join("rule.wasm")).unwrap();
        let patience = "[plugin.limits]\nstartup_ms = 60000\ndeadline_ms = 10000\n";
        dir.manifest(&format!("[chain]\ndeadline_ms = 10000\n[[plugin]]\nname = \"rule\"\n{patience}"));
        let body = send(&dir.host(), json!({"text": "HELLO THERE", "n": 1})).body.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), json!({"text": "hello there", "n": 1}));
    }
}
