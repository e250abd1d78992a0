//! Sends the text of each message, and of each edit, to a moderation service over HTTP.
//!
//! Needs `grants = ["http"]` and the service's host under `[plugin.http]`. The service gets `POST {"text": …}` and
//! responds with `{"score": 0.93}`, from 0 (harmless) to 1. For another service, `score_at` says where the number is in
//! the response.

use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict, http, warn};
use serde::Deserialize;

/// The table `[plugin.config]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The URL of the service.
    url: String,
    /// The value of the header `authorization`, if it is needed: `Bearer …`.
    #[serde(default)]
    authorization: Option<String>,
    /// The path of fields to the number, separated by dots.
    #[serde(default = "Config::score_at")]
    score_at: String,
    /// The score from which a message is rejected.
    #[serde(default = "Config::reject_from")]
    reject_from: f64,
    /// The score from which a message is held for review.
    #[serde(default = "Config::hold_from")]
    hold_from: f64,
    /// What happens to messages while the service does not respond.
    #[serde(default)]
    unanswered: Unanswered,
}

/// What happens to messages without a score.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Unanswered {
    /// They are accepted, with an annotation that the score is unknown.
    #[default]
    Accept,
    /// They are held for review.
    Hold,
    /// They are refused.
    Reject,
}

impl Config {
    fn score_at() -> String {
        "score".to_owned()
    }

    const fn reject_from() -> f64 {
        0.9
    }

    const fn hold_from() -> f64 {
        0.7
    }
}

/// The plugin.
pub struct ToxicityHook(Config);

impl Plugin for ToxicityHook {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if !(config.url.starts_with("https://") || config.url.starts_with("http://")) {
            return Err("`url` must begin with https:// or http://".into());
        }
        Ok(Self(config))
    }
}

impl Filter for ToxicityHook {
    fn filter(&self, message: &Message) -> Verdict {
        let Some(text) = message.text("text").filter(|text| !text.trim().is_empty()) else { return Verdict::accept() };
        let score = match self.score(&text) {
            Ok(score) => score,
            Err(error) => {
                warn!("the moderation service gave no score: {error}");
                return self.unanswered();
            }
        };
        let Config { reject_from, hold_from, .. } = self.0;
        let verdict = if score >= reject_from {
            Verdict::reject("toxic", "the message was found to be hurtful; please say it another way")
        } else if score >= hold_from {
            Verdict::hold(format!("the moderation service gives it {score:.2}"))
        } else {
            Verdict::accept()
        };
        verdict.annotate("score", format!("{score:.3}"))
    }
}

impl ToxicityHook {
    fn score(&self, text: &str) -> Result<f64, String> {
        let mut request = http::Request::post(&self.0.url).json(&Question { text });
        if let Some(authorization) = &self.0.authorization {
            request = request.header("authorization", authorization);
        }
        let response = request.send().map_err(|error| error.to_string())?;
        if !response.is_success() {
            return Err(format!("its status is {}", response.status));
        }
        let answer: serde_json::Value = response.json().map_err(|error| format!("its answer is no JSON: {error}"))?;
        let found = self.0.score_at.split('.').try_fold(&answer, |value, field| value.get(field));
        let score = found.and_then(serde_json::Value::as_f64).filter(|score| (0.0..=1.0).contains(score));
        score.ok_or_else(|| format!("there is no number from 0 to 1 at {:?} in its answer", self.0.score_at))
    }

    fn unanswered(&self) -> Verdict {
        match self.0.unanswered {
            Unanswered::Accept => Verdict::accept().annotate("score", "unknown"),
            Unanswered::Hold => Verdict::hold("the moderation service did not answer"),
            Unanswered::Reject => {
                Verdict::reject("not_checked", "messages cannot be checked for the moment, try again")
            }
        }
    }
}

/// The request to the service.
#[derive(serde::Serialize)]
struct Question<'a> {
    text: &'a str,
}

arcyou_plugin_sdk::export!(ToxicityHook: filter);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::Outcome;
    use arcyou_plugin_sdk::testing::{answer_http, check_cases, edited, message, plugin, try_plugin};
    use serde_json::{Value, json};

    use super::*;

    /// The verdict on a message for which the service responds with this status and body.
    fn judge(config: Value, status: u16, answer: &str) -> Verdict {
        let body = answer.as_bytes().to_vec();
        answer_http(move |request| {
            assert_eq!(
                (request.method.as_str(), request.url.as_str()),
                ("POST", "https://moderation.example.com/score")
            );
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
    fn an_edit_is_scored_by_what_it_says() {
        answer_http(|request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let score = if asked == json!({"text": "new"}) { "0.95" } else { "0.1" };
            Ok(http::Response { status: 200, headers: Vec::new(), body: format!("{{\"score\": {score}}}").into() })
        });
        let plugin: ToxicityHook = plugin(json!({"url": "https://moderation.example.com/score"}));
        let edit = |from: &str, to: &str| message(json!({"text": to})).with_edits(edited(json!({"text": from})));
        assert_eq!(plugin.filter(&edit("old", "new")).code(), Some("toxic"));
        assert!(plugin.filter(&edit("new", "old")).is_accept());
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
    fn a_message_without_text_is_not_sent_and_mistakes_are_reported() {
        answer_http(|_| panic!("nobody should ask"));
        let plugin: ToxicityHook = plugin(json!({"url": "https://moderation.example.com/score"}));
        assert!(plugin.filter(&message(json!({"image": "x"}))).is_accept());
        assert!(
            try_plugin::<ToxicityHook>(json!({"url": "moderation"})).is_err_and(|error| error.contains("https://"))
        );
    }
}
