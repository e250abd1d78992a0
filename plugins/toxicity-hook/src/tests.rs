use arcyou_plugin_sdk::Outcome;
use arcyou_plugin_sdk::testing::{answer_http, check_cases, message, plugin, try_plugin};
use serde_json::{Value, json};

use super::*;

/// The verdict on a message that the service answers with this status and body.
fn judge(config: Value, status: u16, answer: &str) -> Verdict {
    let body = answer.as_bytes().to_vec();
    answer_http(move |request| {
        assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://moderation.example.com/score"));
        assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap_or_default(), json!({"text": "hm"}));
        Ok(http::Response { status, headers: Vec::new(), body: body.clone() })
    });
    let mut whole = json!({"url": "https://moderation.example.com/score"});
    whole.as_object_mut().into_iter().zip(config.as_object()).for_each(|(whole, more)| whole.extend(more.clone()));
    plugin::<ToxicityHook>(whole).filter(&message(json!({"text": "hm"})))
}

#[test]
fn the_cases_hold() {
    check_cases::<ToxicityHook>(include_str!("../cases.toml"));
}

#[test]
fn the_score_decides() {
    let outcome = |answer: &str| judge(json!({}), 200, answer);
    assert!(outcome(r#"{"score": 0.2}"#).is_accept());
    assert!(matches!(outcome(r#"{"score": 0.7}"#).outcome(), Outcome::Hold(_)));
    let refused = outcome(r#"{"score": 0.95}"#);
    assert_eq!((refused.code(), refused.annotations()[0].value.as_str()), (Some("toxic"), "0.950"));
    let nested =
        judge(json!({"score_at": "result.toxicity", "reject_from": 0.5}), 200, r#"{"result": {"toxicity": 0.6}}"#);
    assert_eq!(nested.code(), Some("toxic"));
}

#[test]
fn while_the_service_does_not_answer_the_operator_decides() {
    for (status, answer) in [(500, r#"{"score": 0}"#), (200, "oops"), (200, r#"{"score": 7}"#), (200, "{}")] {
        assert!(judge(json!({}), status, answer).is_accept(), "{answer}");
        assert_eq!(judge(json!({"unanswered": "reject"}), status, answer).code(), Some("not_checked"));
        assert!(matches!(judge(json!({"unanswered": "hold"}), status, answer).outcome(), Outcome::Hold(_)));
    }
}

#[test]
fn a_message_without_text_is_not_sent_and_slips_are_named() {
    answer_http(|_| panic!("nobody should ask"));
    let plugin: ToxicityHook = plugin(json!({"url": "https://moderation.example.com/score"}));
    assert!(plugin.filter(&message(json!({"image": "x"}))).is_accept());
    assert!(try_plugin::<ToxicityHook>(json!({"url": "moderation"})).is_err_and(|error| error.contains("https://")));
}
