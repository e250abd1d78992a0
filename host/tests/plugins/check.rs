//! What an operator learns of a plugins directory before a gateway does, and what a refusal says.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::guests::{CACHE_HOME, Dir};

/// `arcyou-gateway plugin check DIR`: whether it is content, and what it says.
fn check(dir: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let output = command.env("XDG_CACHE_HOME", CACHE_HOME).args(["plugin", "check"]).arg(dir).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[test]
fn a_whole_directory_is_checked_and_everything_wrong_is_told_at_once() {
    let dir = Dir::empty();
    dir.copy("misbehaving.wasm", "good.wasm");
    dir.manifest("[[plugin]]\nname = \"good\"\n[[plugin]]\nname = \"later\"\nenabled = false\n");
    let (content, said) = check(dir.path());
    assert!(content && said.contains("ok       good") && said.contains("off      later"), "{said}");
    assert_eq!(dir.host().status().len(), 1);

    dir.copy("dice.wasm", "dice.wasm");
    dir.write("broken.wasm", b"broken");
    dir.manifest("[[plugin]]\nname = \"good\"\n[plugin.config]\nfilter = 5\n");
    let (content, said) = check(dir.path());
    assert!(!content && said.contains("0 loaded, 3 refused"), "{said}");
    let told =
        ["config.filter: invalid type: integer `5`", "broken: the file is not WebAssembly", "plugin dice: it imports"];
    assert!(told.iter().all(|words| said.contains(words)), "{said}");
    // A gateway says the same.
    let refused = dir.error();
    assert!(told.iter().all(|words| refused.contains(words)), "{refused}");
    dir.manifest("[[plugin]]\ncolour = \"red\"\n");
    let (content, said) = check(dir.path());
    assert!(!content && said.contains("line 2"), "{said}");
}

#[test]
fn all_missing_grants_are_told_with_one_line_that_keeps_the_others() {
    let dir = Dir::empty();
    dir.copy("dice.wasm", "dice.wasm");
    let line = "grants = [\"clock\", \"random\", \"kv\"]";
    let unlisted = dir.error();
    assert!(unlisted.contains(&format!("[[plugin]] with name = \"dice\" and {line}")), "{unlisted}");
    dir.manifest("[[plugin]]\nname = \"dice\"\ngrants = [\"random\"]\n");
    let listed = dir.error();
    assert!(listed.contains("clock@1.0.0`") && listed.contains("kv@1.0.0`") && !listed.contains("random@"), "{listed}");
    let told = listed.split("in plugins.toml: ").nth(1).unwrap();
    assert_eq!(told, line);
    dir.manifest(&format!("[[plugin]]\nname = \"dice\"\n{told}\n"));
    dir.host();
}
