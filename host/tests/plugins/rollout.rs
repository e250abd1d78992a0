//! Which messages a plugin is asked about, whether its verdict counts, and how it is rolled out.

use arcyou_plugin_host::{Candidate, PluginHost, Preview};
use arcyou_protocol::body::Body;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::guests::{Dir, LIMITS, annotations, logged, send, status};

/// What becomes of a message of some conversation and of a sender with some role.
fn send_as(host: &PluginHost, conversation: u128, role: &str, body: &Value) -> Preview {
    let body = Body::parse(&body.to_string(), &LIMITS).unwrap();
    let (conversation, sender, body) = (Uuid::from_u128(conversation), Uuid::from_u128(2), &body);
    host.chain().preview(Candidate { conversation, sender, role, body, edits: None })
}

#[test]
fn a_plugin_is_asked_only_about_what_its_conditions_let_through() {
    let dir = Dir::guest(
        "[plugin.config]\nfilter = \"reject\"\n[plugin.when]\nexcept_roles = [\"admin\"]\nbody_matches = '(?i)https?://'\n",
    );
    let host = dir.host();
    let link = json!({"text": "see HTTPS://example.com"});
    assert_eq!(send_as(&host, 1, "member", &link).outcome, "rejected");
    assert_eq!(send_as(&host, 1, "admin", &link).outcome, "stored");
    assert_eq!(send_as(&host, 1, "member", &json!({"text": "no link"})).outcome, "stored");
}

#[test]
fn conditions_see_what_the_plugin_before_left() {
    let dir = Dir::empty();
    dir.copy("misbehaving.wasm", "a.wasm");
    dir.copy("misbehaving.wasm", "b.wasm");
    dir.manifest(
        "[[plugin]]\nname = \"a\"\n[plugin.config]\nfilter = \"append\"\n\
         [[plugin]]\nname = \"b\"\n[plugin.when]\nbody_matches = 'hi\\+'\n[plugin.config]\nfilter = \"reject\"\n",
    );
    assert_eq!(send(&dir.host(), json!({"text": "hi"})).plugin.as_deref(), Some("b"));
}

#[test]
fn an_observed_plugin_changes_nothing_and_is_told_of() {
    let dir = Dir::guest("mode = \"observe\"\n");
    let host = dir.host();
    for told in ["reject", "hold", "discard", "replace", "annotate", "panic"] {
        let mut preview = Preview::default();
        let lines = logged(|| preview = send(&host, json!({"filter": told})));
        assert_eq!(preview, Preview { outcome: "stored", ..Preview::default() }, "{told}");
        let expected = if told == "panic" { "plugin failed" } else { "observed" };
        assert_eq!(lines.iter().any(|line| line.contains(expected)), told != "annotate", "{told}: {lines:?}");
    }
    assert_eq!(status(&host).failures, 1);
}

#[test]
fn a_canary_stands_in_for_its_plugin_on_its_share_alone() {
    let dir = Dir::empty();
    dir.copy("misbehaving.wasm", "a.wasm");
    dir.copy("misbehaving.wasm", "a2.wasm");
    let manifest = |percent: u32| {
        let canary = format!("[plugin.canary]\nfile = \"a2.wasm\"\npercent = {percent}\n");
        format!("[[plugin]]\nname = \"a\"\n{canary}[plugin.config]\nfilter = \"reject\"\n")
    };
    dir.manifest(&manifest(30));
    let host = dir.host();
    let deciders = |host: &PluginHost| -> Vec<String> {
        (0..200).map(|conversation| send_as(host, conversation, "member", &json!({})).plugin.unwrap()).collect()
    };
    let first = deciders(&host);
    let canaries = first.iter().filter(|name| *name == "a.canary").count();
    assert!((30..90).contains(&canaries) && first.iter().all(|name| name.starts_with('a')), "{canaries} of 200");
    assert_eq!(deciders(&host), first, "a conversation keeps its version");
    for (percent, name) in [(0, "a"), (100, "a.canary")] {
        dir.manifest(&manifest(percent));
        host.reload().unwrap();
        assert!(deciders(&host).iter().all(|decider| decider == name), "{percent} %");
    }
}

#[test]
fn a_fresh_instance_remembers_nothing() {
    for (isolation, counted) in [("warm", ["2", "4"]), ("fresh", ["1", "1"])] {
        let dir = Dir::guest(&format!("isolation = \"{isolation}\"\n[plugin.config]\nfilter = \"annotate\"\n"));
        let host = dir.host();
        let calls =
            [(); 2].map(|()| annotations(&send(&host, json!({})))["guest"]["calls"].as_str().unwrap().to_owned());
        assert_eq!(calls, counted, "{isolation}");
    }
}

#[test]
fn one_deadline_is_shared_out_and_who_comes_too_late_is_not_blamed() {
    let dir = Dir::empty();
    for file in ["a.wasm", "b.wasm"] {
        dir.copy("misbehaving.wasm", file);
    }
    dir.manifest(
        "[chain]\ndeadline_ms = 200\n[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.limits]\ndeadline_ms = 10000\n\
         [[plugin]]\nname = \"b\"\n[plugin.config]\nfilter = \"accept\"\n",
    );
    let host = dir.host();
    // The clock of the host stands still in these tests: the whole of the chain's time is each call's.
    assert_eq!(send(&host, json!({"validate": "loop"})).plugin.as_deref(), Some("b"), "b's own deadline is shorter");
    let [a, b]: [_; 2] = host.status().try_into().unwrap();
    assert_eq!((a.failures, b.failures), (0, 1));
}
