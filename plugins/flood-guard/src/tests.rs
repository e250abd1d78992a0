use arcyou_plugin_sdk::testing::{check_cases, fail_kv, join, message, plugin, set_clock, try_plugin};
use serde_json::{Value, json};

use super::*;

/// The code of the refusal, if there is one.
fn say(plugin: &FloodGuard, text: &str) -> Option<String> {
    plugin.filter(&message(json!({"text": text}))).code().map(str::to_owned)
}

fn guard(config: Value) -> FloodGuard {
    set_clock(Duration::from_secs(1_000));
    plugin(config)
}

#[test]
fn the_cases_hold() {
    check_cases::<FloodGuard>(include_str!("../cases.toml"));
}

#[test]
fn who_writes_too_fast_waits_for_the_next_window() {
    let plugin = guard(json!({"messages": 2, "seconds": 10}));
    assert_eq!([say(&plugin, "a"), say(&plugin, "b")], [None, None]);
    let refusal = plugin.filter(&message(json!({"text": "c"})));
    assert_eq!(refusal.code(), Some("too_fast"));
    let other = message(json!({"text": "c"})).with_sender("00000000-0000-4000-8000-000000000002");
    assert!(plugin.filter(&other).is_accept(), "everybody has a count of their own");
    set_clock(Duration::from_secs(1_010));
    assert_eq!(say(&plugin, "d"), None);
}

#[test]
fn what_is_said_again_and_again_is_refused() {
    let plugin = guard(json!({"repeats": 2}));
    assert_eq!([say(&plugin, "Buy this!"), say(&plugin, "buy  THIS")], [None, None]);
    assert_eq!(say(&plugin, "b.u.y this").as_deref(), Some("repeated"));
    assert_eq!(say(&plugin, "something else"), None);
    let elsewhere = message(json!({"text": "buy this"})).with_conversation("00000000-0000-4000-8000-00000000beef");
    assert!(plugin.filter(&elsewhere).is_accept());
    assert_eq!([say(&plugin, ":)"), say(&plugin, ":("), say(&plugin, "!")], [None, None, None]);
}

#[test]
fn some_roles_are_not_counted() {
    let plugin = guard(json!({"messages": 1, "exempt_roles": ["admin"]}));
    assert_eq!(say(&plugin, "a"), None);
    assert!(plugin.filter(&message(json!({"text": "b"})).with_role("admin")).is_accept());
}

#[test]
fn while_nothing_can_be_counted_the_operator_decides() {
    let (open, closed) = (guard(json!({})), guard(json!({"accept_uncounted": false})));
    fail_kv(Some(kv::Error::Unavailable));
    assert_eq!(say(&open, "a"), None);
    assert_eq!(say(&closed, "a").as_deref(), Some("not_counted"));
    assert!(try_plugin::<FloodGuard>(json!({"messages": 0})).is_err_and(|error| error.contains("at least 1")));
}

#[test]
fn who_joins_too_often_waits() {
    let plugin = guard(json!({"joins": 1}));
    assert!(plugin.on_join(&join()).is_allowed());
    assert_eq!(plugin.on_join(&join()).code(), Some("too_fast"));
    fail_kv(Some(kv::Error::Unavailable));
    assert!(plugin.on_join(&join()).is_allowed());
}
