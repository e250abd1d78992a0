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
    assert!(done(&project, &["test", "."]).contains("4 passed, 0 failed"));
    std::fs::write(project.join("m.json"), r#"{"text": "HELLO THERE"}"#).unwrap();
    let said = done(&project, &["run", ".", "--message", "m.json"]);
    assert!(said.contains("stored") && said.contains("hello there"), "{said}");
    let said = done(&project, &["check", "."]);
    assert!(said.contains("arcyou:gateway/filter") && said.contains("all hold"), "{said}");

    // What the commands do with it comes from its own file; a gateway's is not theirs to write.
    let operators = "[[plugin]]\nname = \"another\"\nenabled = false\n";
    let theirs = folder.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("plugins.toml"), operators).unwrap();
    std::fs::write(project.join("plugin.toml"), "[limits]\nmemory_mib = 7\n[config]\nmin_chars = 100\n").unwrap();
    let said = done(&project, &["run", ".", "--message", "m.json"]);
    assert!(said.contains("stored") && !said.contains("hello there") && said.contains("of 7,168 KiB"), "{said}");
    let said = done(&project, &["build", "--out", theirs.to_str().unwrap()]);
    assert!(said.contains("name = \"my-rule\"") && said.contains("min_chars = 100"), "{said}");
    assert_eq!(std::fs::read_to_string(theirs.join("plugins.toml")).unwrap(), operators);
    std::fs::write(theirs.join("plugins.toml"), format!("{operators}[[plugin]]\nname = \"my-rule\"\n")).unwrap();
    let said = done(&project, &["build", "--out", theirs.to_str().unwrap()]);
    assert!(!said.contains("[[plugin]]"), "{said}");

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
        assert!(done(&project, &["test"]).contains("4 passed, 0 failed"));
        let dir = Dir::empty();
        std::fs::copy(project.join(format!("target/plugins/{language}.wasm")), dir.path().join("rule.wasm")).unwrap();
        let patience = "[plugin.limits]\nstartup_ms = 60000\ndeadline_ms = 10000\n";
        dir.manifest(&format!("[chain]\ndeadline_ms = 10000\n[[plugin]]\nname = \"rule\"\n{patience}"));
        let body = send(&dir.host(), json!({"text": "HELLO THERE", "n": 1})).body.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), json!({"text": "hello there", "n": 1}));
        slips_are_told(language, &project);
    }
}

/// What looks like a slip ends the build, with words.
fn slips_are_told(language: &str, project: &Path) {
    let (file, slips): (_, &[_]) = match language {
        "javascript" => (
            "plugin.js",
            &[
                (
                    "{ configure, filter }",
                    "{ configure, filter: fitler }",
                    "exports fitler, which no gateway calls; did you mean filter",
                ),
                ("{ configure, filter }", "{ filter }", "does not export configure"),
                ("{ configure, filter }", "{ configure, filter, validate }", "has no method validate"),
                ("{ configure, filter }", "{ configure }", "none of the hooks"),
                (
                    "    filter({ body",
                    "    on_join() {}\n    filter({ body",
                    "has the method on_join, which no gateway calls; did you mean onJoin",
                ),
                (
                    "    filter({ body",
                    "    onJoin() {}\n    filter({ body",
                    "has the method onJoin, and it is not exported",
                ),
            ],
        ),
        _ => (
            "plugin.py",
            &[
                ("Configure, Filter =", "Configure, Fitler =", "the class Filter is called Fitler"),
                (", \"filter\")", ", \"fitler\")", "there is no hook \"fitler\""),
                ("Configure, Filter =", "Configure, Filter, Validate =", "has no method validate"),
                (
                    "    def filter(self",
                    "    def onjoin(self):\n        pass\n\n    def filter(self",
                    "did you mean on_join",
                ),
                (
                    "    def filter(self",
                    "    def validate(self):\n        pass\n\n    def filter(self",
                    "has the method validate, and plugin(…) does not name it",
                ),
            ],
        ),
    };
    let file = project.join(file);
    let source = std::fs::read_to_string(&file).unwrap();
    for (right, wrong, words) in slips {
        let mut changed = source.replace(right, wrong);
        if wrong.contains("Validate =") {
            changed = changed.replace(", \"filter\")", ", \"filter\", \"validate\")");
        }
        assert_ne!(changed, source);
        std::fs::write(&file, changed).unwrap();
        let (built, said) = plugin(project, &["build"]);
        assert!(!built && said.contains(words), "{wrong}: {said}");
    }
    std::fs::write(&file, source).unwrap();
}
