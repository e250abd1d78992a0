//! Turns shouting into speech.

use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};

/// The table `[plugin.config]` in `plugins.toml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Shorter texts, such as "OK", may be in capitals.
    min_chars: usize,
    /// Roles that may shout.
    allowed_roles: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_chars: 6, allowed_roles: Vec::new() }
    }
}

struct {{type}}(Config);

impl Plugin for {{type}} {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }
}

/// A filter may change the message. A plugin that only accepts or rejects messages implements `Validate`. Both are
/// asked about edits too: `message.edits()` tells what is edited.
impl Filter for {{type}} {
    fn filter(&self, message: &Message) -> Verdict {
        let Config { min_chars, allowed_roles } = &self.0;
        let Some(text) = message.text("text") else { return Verdict::accept() };
        let shouts = text.contains(char::is_uppercase) && !text.contains(char::is_lowercase);
        let may_shout = allowed_roles.iter().any(|role| role == message.sender_role());
        if !shouts || may_shout || text.chars().count() < *min_chars {
            return Verdict::accept();
        }
        message.replace_field("text", &text.to_lowercase()).annotate("shouted", "yes")
    }
}

arcyou_plugin_sdk::export!({{type}}: filter);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::testing::{check_cases, message, plugin, try_plugin};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cases_hold() {
        check_cases::<{{type}}>(include_str!("../cases.toml"));
    }

    #[test]
    fn other_fields_stay_as_they_are() {
        let plugin: {{type}} = plugin(json!({}));
        let verdict = plugin.filter(&message(json!({"text": "LISTEN TO ME", "n": 1})));
        assert_eq!(verdict.replacement(), Some(json!({"text": "listen to me", "n": 1})));
    }

    #[test]
    fn mistakes_in_the_configuration_are_reported() {
        assert!(try_plugin::<{{type}}>(json!({"min_char": 3})).is_err_and(|error| error.contains("min_char")));
    }
}
