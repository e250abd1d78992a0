//! The table `[plugin.when]`: which messages a plugin is called for, decided without a call. Pure.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, de};
use sha2::{Digest as _, Sha256};

use crate::runtime::input::HookInput;

/// Limit for a compiled pattern, which bounds the memory it takes and the time that matching takes.
const PATTERN_BYTES: usize = 1 << 20;

/// Every field that is set must match. With no field set, every message matches.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Condition {
    /// The sender's role is one of these; empty: any.
    roles: Vec<String>,
    /// The sender's role is none of these.
    except_roles: Vec<String>,
    /// The conversation's id begins with one of these; empty: any.
    #[serde(deserialize_with = "prefixes")]
    conversations: Vec<String>,
    /// The minimum length of the body's JSON text, in bytes.
    min_body_bytes: Option<usize>,
    /// The maximum length of the body's JSON text, in bytes.
    max_body_bytes: Option<usize>,
    /// The body's JSON text, as the plugins before left it, has a match.
    body_matches: Option<Pattern>,
    /// A share of the conversations, which is always the same.
    percent: Option<Percent>,
}

impl Condition {
    /// Whether `plugin` is called for this input.
    pub(crate) fn matches(&self, plugin: &str, input: &HookInput<'_>) -> bool {
        let Self { roles, except_roles, conversations, min_body_bytes, max_body_bytes, body_matches, percent } = self;
        (roles.is_empty() || roles.iter().any(|role| role == input.role))
            && except_roles.iter().all(|role| role != input.role)
            && (conversations.is_empty() || conversations.iter().any(|prefix| input.conversation.starts_with(prefix)))
            && min_body_bytes.is_none_or(|min| input.body.len() >= min)
            && max_body_bytes.is_none_or(|max| input.body.len() <= max)
            && percent.is_none_or(|percent| percent.includes(plugin, input.conversation))
            && body_matches.as_ref().is_none_or(|pattern| pattern.0.is_match(input.body))
    }
}

/// A share of all conversations, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percent(f64);

impl Percent {
    /// Whether a conversation belongs to the share that `salt` selects. The result is the same on every gateway and at
    /// any time. A larger share includes every smaller one.
    pub(crate) fn includes(self, salt: &str, conversation: &str) -> bool {
        let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(conversation).finalize();
        let drawn = digest.iter().take(4).fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        f64::from(drawn) < self.0 / 100.0 * (f64::from(u32::MAX) + 1.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Self(percent))
        } else {
            Err(de::Error::custom(format_args!("{percent} is not within 0 and 100")))
        }
    }
}

/// A regular expression. Two patterns are equal if their texts are.
#[derive(Debug, Clone)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RegexBuilder::new(&text).size_limit(PATTERN_BYTES).build().map(Self).map_err(de::Error::custom)
    }
}

/// Prefixes of UUIDs in lower case with hyphens.
fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let prefixes = Vec::<String>::deserialize(deserializer)?;
    let is_prefix = |text: &String| {
        let is_digit = |(at, c): (usize, char)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        };
        (1..=36).contains(&text.len()) && text.chars().enumerate().all(is_digit)
    };
    match prefixes.iter().find(|text| !is_prefix(text)) {
        None => Ok(prefixes),
        Some(other) => {
            Err(de::Error::custom(format_args!("{other:?} is not the beginning of a UUID in lower case with hyphens")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const INPUT: HookInput<'_> = HookInput {
        conversation: "8f14e45f-ceea-467f-a8f3-4e2a1c9d7b60",
        sender: "",
        role: "member",
        body: r#"{"text":"Hello"}"#,
        annotations: &[],
        edits: None,
        deadline: None,
        now: None,
    };

    fn holds(condition: &str) -> bool {
        toml::from_str::<Condition>(condition).unwrap().matches("p", &INPUT)
    }

    #[test]
    fn every_field_can_exclude_a_message() {
        for condition in [
            "",
            "roles = [\"guest\", \"member\"]",
            "except_roles = [\"bot\"]",
            "conversations = [\"0\", \"8f14e45f-ce\"]",
            "min_body_bytes = 16\nmax_body_bytes = 16",
            "body_matches = '(?i)hello'",
            "percent = 100",
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in [
            "roles = [\"guest\"]",
            "except_roles = [\"member\"]",
            "conversations = [\"8f14e45e\"]",
            "min_body_bytes = 17",
            "max_body_bytes = 15",
            "body_matches = 'hello'",
            "percent = 0",
            "roles = [\"member\"]\npercent = 0.0",
        ] {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn a_share_has_about_its_size_and_a_larger_one_includes_it() {
        let ids: Vec<String> = (0..10_000_u128).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
        let taken = |percent: f64, salt: &str| -> Vec<bool> {
            ids.iter().map(|id| Percent(percent).includes(salt, id)).collect()
        };
        let (five, six, other) = (taken(5.0, "a"), taken(6.0, "a"), taken(5.0, "b"));
        let count = |taken: &[bool]| taken.iter().filter(|taken| **taken).count();
        assert!((400..600).contains(&count(&five)), "{}", count(&five));
        assert!(five.iter().zip(&six).all(|(five, six)| *six || !*five));
        assert_ne!(five, other, "each plugin has a share of its own");
    }

    #[test]
    fn invalid_values_are_rejected() {
        for condition in
            ["percent = 101", "percent = -1", "body_matches = '('", "conversations = [\"8F14\"]", "colour = \"red\""]
        {
            assert!(toml::from_str::<Condition>(condition).is_err(), "{condition}");
        }
    }
}
