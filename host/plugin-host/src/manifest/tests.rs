//! What `plugins.toml` may contain, and how mistakes in it are reported.

#![allow(clippy::unwrap_used)]

use super::*;

fn names(manifest: Option<&str>, files: &[&str]) -> Vec<String> {
    let files = files.iter().map(|file| (*file).to_owned()).collect();
    parse(manifest, files).unwrap().entries.into_iter().map(|entry| entry.name).collect()
}

fn error(manifest: &str) -> String {
    parse(Some(manifest), Vec::new()).unwrap_err()
}

#[test]
fn order_is_the_files_then_names() {
    assert_eq!(names(None, &["b.wasm", "a.wasm"]), ["a", "b"]);
    let manifest = "[[plugin]]\nname = \"z\"\n[[plugin]]\nname = \"y\"\nfile = \"b.wasm\"\nenabled = false\n";
    assert_eq!(names(Some(manifest), &["a.wasm", "b.wasm", "z.wasm"]), ["z", "y", "a"]);
}

#[test]
fn everything_can_be_set() {
    let Manifest { entries, .. } = parse(
        Some(
            "[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.limits]\nmemory_mib = 3\n[plugin.breaker]\n\
             failures = 2\n[plugin.config]\nwords = [\"x\", 1, 1.5, true, 1979-05-27]\n[plugin.config.deep]\nn = 1\n",
        ),
        Vec::new(),
    )
    .unwrap();
    let entry = &entries[0];
    assert_eq!((entry.on_error, entry.limits.memory_mib.get(), entry.breaker.failures.get()), (OnError::Accept, 3, 2));
    assert_eq!(entry.limits.deadline_ms, Limits::default().deadline_ms);
    assert_eq!(entry.config.to_string(), r#"{"deep":{"n":1},"words":["x",1,1.5,true,"1979-05-27"]}"#);
}

#[test]
fn the_guides_example_sets_the_defaults() {
    let guide = include_str!("../../../../plugin-sdk/README.md");
    let example = guide.split("```toml\n").find(|part| part.starts_with("[[plugin]]")).unwrap();
    let Manifest { entries, chain, .. } = parse(Some(example.split("```").next().unwrap()), Vec::new()).unwrap();
    assert_eq!(chain, ChainLimits::default());
    assert_eq!(entries[0].limits, Limits::default());
    assert_eq!(entries[0].breaker, BreakerConfig::default());
    assert_eq!(entries[0].rollback, RollbackConfig::default());
}

#[test]
fn slips_are_shown_with_their_line() {
    let unknown = error("[[plugin]]\nname = \"a\"\ndeadline = 5\n");
    assert!(unknown.contains("line 3") && unknown.contains("`deadline`"), "{unknown}");
    let bound = error("[[plugin]]\nname = \"a\"\n[plugin.limits]\ndeadline_ms = 0\n");
    assert!(bound.contains("line 4") && bound.contains("not within 1 and 10000"), "{bound}");
    assert!(error("[[plugin]]\nname = \"a\"\n[plugin.limits]\ndeadline = 1\n").contains("line 4"));
    assert!(error("[[plugin]]\nname = \"a b\"\n").contains("line 2"));
    assert!(error("[[plugin]]\nname = \"a\"\nfile = \"../a.wasm\"\n").contains("line 3"));
    assert!(error("[[plugin]]\nname = \"a\"\non_error = \"ignore\"\n").contains("line 3"));
    assert!(error("[[plugin]]\nname = \"a\"\n[[plugin]]\nname = \"a\"\n").contains("two plugins named \"a\""));
    assert!(error("[[plugin]]\nname = \"a\"\n[plugin.config]\nx = nan\n").contains("plugin a, config"));
    assert!(error("[[plugins]]\n").contains("line 1"));
    assert!(parse(None, vec!["a b.wasm".into()]).is_err());
}

#[test]
fn plugins_move_only_as_far_as_they_must() {
    let plugin = |name: &str, more: &str| format!("[[plugin]]\nname = \"{name}\"\n{more}\n");
    let manifest =
        [plugin("a", "order = 5"), plugin("b", ""), plugin("c", "before = [\"b\"]"), plugin("d", "order = -1")];
    assert_eq!(names(Some(&manifest.concat()), &["z.wasm"]), ["d", "c", "b", "a", "z"]);
    let manifest = [plugin("a", "after = [\"c\", \"z\"]"), plugin("b", ""), plugin("c", "")].concat();
    assert_eq!(names(Some(&manifest), &["z.wasm"]), ["b", "c", "z", "a"]);
    let unknown = error(&plugin("a", "after = [\"x\"]"));
    assert_eq!(unknown, "plugin a: `after` names \"x\", and there is no such plugin");
    let round = [plugin("a", "before = [\"b\"]"), plugin("b", "before = [\"a\"]"), plugin("c", "")].concat();
    assert_eq!(error(&round), "`before` and `after` of a, b contradict one another");
    assert!(error(&plugin("a", "after = [\"a\"]")).contains("contradict"));
}

#[test]
fn a_canary_stands_beside_its_plugin_with_all_that_it_has() {
    let manifest = "[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.canary]\nfile = \"a2.wasm\"\npercent = 5\n\
        [plugin.config]\nx = 1\n[[plugin]]\nname = \"b\"\n";
    let Manifest { entries, .. } = parse(Some(manifest), Vec::new()).unwrap();
    let shown: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.name.as_str(), entry.file.as_str())).collect();
    assert_eq!(shown, [("a", "a.wasm"), ("a.canary", "a2.wasm"), ("b", "b.wasm")]);
    assert_eq!((&entries[1].config, entries[1].on_error), (&entries[0].config, OnError::Accept));
    assert!(matches!(&entries[1].share, Share::Canary(name, _) if name == "a"));
    assert!(matches!(&entries[0].share, Share::Rest(_)));
}
