//! Accepts only bodies of the expected shape: a `text` of a certain length, and no unknown fields.

use std::collections::BTreeMap;

use arcyou_plugin_sdk::{Message, Plugin, Validate, Verdict};
use serde_json::value::RawValue;

/// The table `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The minimum and the maximum length of the text, in Unicode scalar values: `한` counts as one, like `a`.
    min_chars: usize,
    max_chars: usize,
    /// Fields that are allowed beside `text`.
    fields: Vec<String>,
    /// Whether any other field is allowed too.
    allow_unknown: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_chars: 1, max_chars: 4000, fields: Vec::new(), allow_unknown: false }
    }
}

struct BodyShape(Config);

impl Plugin for BodyShape {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if config.min_chars > config.max_chars {
            return Err(format!("min_chars {} is above max_chars {}", config.min_chars, config.max_chars));
        }
        Ok(Self(config))
    }
}

impl Validate for BodyShape {
    fn validate(&self, message: &Message) -> Verdict {
        let Config { min_chars, max_chars, fields, allow_unknown } = &self.0;
        // Only the text is made a value: a tree of all the others costs ten times as much as reading the body.
        let Ok(body) = message.body::<BTreeMap<String, &RawValue>>() else {
            return Verdict::reject("body", "the body must be a JSON object");
        };
        let Some(text) = body.get("text") else {
            return Verdict::reject("text_missing", "the body needs a `text`");
        };
        let Ok(text) = serde_json::from_str::<String>(text.get()) else {
            return Verdict::reject("text_type", "`text` must be a string");
        };
        let chars = text.chars().count();
        if chars < *min_chars {
            return Verdict::reject("text_too_short", format!("`text` needs at least {min_chars} characters"));
        }
        if chars > *max_chars {
            return Verdict::reject("text_too_long", format!("`text` has {chars} characters, {max_chars} are allowed"));
        }
        if !allow_unknown && let Some(field) = body.keys().find(|field| *field != "text" && !fields.contains(field)) {
            return Verdict::reject("unknown_field", format!("the body has an unknown field {field:?}"));
        }
        Verdict::accept()
    }
}

arcyou_plugin_sdk::export!(BodyShape: validate);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::testing::{check_cases, message, plugin, try_plugin};
    use serde_json::{Value, json};

    use super::*;

    fn code(config: Value, body: Value) -> Option<String> {
        plugin::<BodyShape>(config).validate(&message(body)).code().map(str::to_owned)
    }

    #[test]
    fn the_cases_hold() {
        check_cases::<BodyShape>(include_str!("../cases.toml"));
    }

    #[test]
    fn text_must_be_there_and_a_string() {
        assert_eq!(code(json!({}), json!({"text": "hello"})), None);
        assert_eq!(code(json!({}), json!({})).as_deref(), Some("text_missing"));
        assert_eq!(code(json!({}), json!({"text": 7})).as_deref(), Some("text_type"));
        assert_eq!(code(json!({}), json!({"text": ""})).as_deref(), Some("text_too_short"));
    }

    #[test]
    fn length_counts_unicode_scalars() {
        let config = json!({"min_chars": 2, "max_chars": 3});
        assert_eq!(code(config.clone(), json!({"text": "한국어"})), None);
        assert_eq!(code(config.clone(), json!({"text": "한"})).as_deref(), Some("text_too_short"));
        assert_eq!(code(config.clone(), json!({"text": "한국어!"})).as_deref(), Some("text_too_long"));
        assert_eq!(code(config, json!({"text": "👍👍👍"})), None);
    }

    #[test]
    fn unknown_fields_need_a_permit() {
        let body = json!({"text": "hi", "reply_to": 4});
        assert_eq!(code(json!({}), body.clone()).as_deref(), Some("unknown_field"));
        assert_eq!(code(json!({"fields": ["reply_to"]}), body.clone()), None);
        assert_eq!(code(json!({"allow_unknown": true}), body), None);
    }

    #[test]
    fn mistakes_in_the_configuration_are_reported() {
        let error = |config| try_plugin::<BodyShape>(config).err().unwrap_or_default();
        assert!(error(json!({"max_char": 3})).contains("max_char"));
        assert!(error(json!({"min_chars": 3, "max_chars": 2})).contains("above"));
    }
}
