//! Rejects messages, edits and joins of a user who writes or joins too often, or repeats the same text. It counts across
//! all gateways.
//!
//! Needs `grants = ["kv"]`. Counts are kept in windows. A user may write `messages` times in each `seconds`, in all
//! conversations together, and the same text `repeats` times in each `repeat_seconds` in one conversation. An edit is
//! written like a message. A text is repeated by every other message that says it, and never by edits of the message that
//! said it already.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use arcyou_plugin_sdk::{Admission, Edited, Filter, Join, Message, OnJoin, Plugin, Verdict, kv, warn};

/// The table `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Messages and edits of one user in each window of `seconds`.
    messages: u32,
    /// The window for messages and joins.
    seconds: u32,
    /// Messages with the same text by one user in one conversation, in each window of `repeat_seconds`.
    repeats: u32,
    /// The window for repetitions.
    repeat_seconds: u32,
    /// Joins of one user in each window of `seconds`.
    joins: u32,
    /// Roles that are not limited.
    exempt_roles: Vec<String>,
    /// Whether messages are accepted while nothing can be counted; otherwise they are rejected.
    accept_uncounted: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            messages: 20,
            seconds: 10,
            repeats: 3,
            repeat_seconds: 60,
            joins: 100,
            exempt_roles: Vec::new(),
            accept_uncounted: true,
        }
    }
}

/// The plugin.
pub struct FloodGuard(Config);

impl Plugin for FloodGuard {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let Config { messages, seconds, repeats, repeat_seconds, joins, .. } = config;
        if [messages, seconds, repeats, repeat_seconds, joins].contains(&0) {
            return Err("`messages`, `seconds`, `repeats`, `repeat_seconds` and `joins` must be at least 1".into());
        }
        Ok(Self(config))
    }
}

/// This is a filter although it changes nothing. A validator would be called, and count, twice for a message that
/// another filter changes.
impl Filter for FloodGuard {
    fn filter(&self, message: &Message) -> Verdict {
        if self.0.exempt_roles.iter().any(|role| role == message.sender_role()) {
            return Verdict::accept();
        }
        match self.count(message) {
            Ok(verdict) => verdict,
            Err(error) => {
                warn!("the message was not counted: {error}");
                if self.0.accept_uncounted {
                    Verdict::accept()
                } else {
                    Verdict::reject("not_counted", "messages cannot be taken for the moment").retry_after(SOON)
                }
            }
        }
    }
}

impl OnJoin for FloodGuard {
    fn on_join(&self, join: &Join) -> Admission {
        let window = Duration::from_secs(u64::from(self.0.seconds));
        if self.0.exempt_roles.iter().any(|role| role == join.role()) {
            return Admission::allow();
        }
        match kv::increment(&format!("joins:{}", join.user_id()), 1, window) {
            Ok(count) if count > i64::from(self.0.joins) => {
                Admission::refuse("too_fast", "you join too often, wait a moment").retry_after(window)
            }
            Ok(_) => Admission::allow(),
            Err(error) => {
                warn!("the join was not counted: {error}");
                Admission::allow()
            }
        }
    }
}

const SOON: Duration = Duration::from_secs(2);

impl FloodGuard {
    fn count(&self, message: &Message) -> Result<Verdict, kv::Error> {
        let Config { messages, seconds, repeats, repeat_seconds, .. } = &self.0;
        let window = Duration::from_secs(u64::from(*seconds));
        if kv::increment(&format!("rate:{}", message.sender_id()), 1, window)? > i64::from(*messages) {
            let reason = format!("no more than {messages} messages and edits in {seconds} seconds, please");
            return Ok(Verdict::reject("too_fast", reason).retry_after(window));
        }
        let Some(text) = message.text("text") else { return Ok(Verdict::accept()) };
        let window = Duration::from_secs(u64::from(*repeat_seconds));
        let key = |text: &str| {
            format!("said:{}:{}:{:016x}", message.conversation_id(), message.sender_id(), fingerprint(text))
        };
        let (said, edits) = (key(&text), message.edits());
        let stood = edits.and_then(|edited| edited.text("text")).map(|text| key(&text));
        if let Some(edited) = edits
            && (stood.as_ref() == Some(&said) || kv::get(&said_by(edited, &said))?.is_some())
        {
            return Ok(Verdict::accept());
        }
        if kv::increment(&said, 1, window)? > i64::from(*repeats) {
            let reason = "you have said this often enough";
            return Ok(Verdict::reject("repeated", reason).retry_after(window));
        }
        // Noted only now: what was refused is no more allowed when it is tried again.
        if let Some(edited) = edits {
            for said in stood.iter().chain([&said]) {
                kv::set(&said_by(edited, said), b"", window)?;
            }
        }
        Ok(Verdict::accept())
    }
}

/// The key under which it is noted that a message said a text, or says it, so that its author may go back to it.
fn said_by(edited: &Edited, said: &str) -> String {
    format!("{said}:{}", edited.message_id())
}

/// The characters of a text in which case, spaces and punctuation do not count. To find out what each is costs a hundred
/// times as much as hashing it, and nobody varies more.
const MAX_FOLDED_CHARS: usize = 2000;

/// A hash that ignores case, spaces and punctuation, except in texts without letters or digits.
fn fingerprint(text: &str) -> u64 {
    let begins_exact = text.char_indices().nth(MAX_FOLDED_CHARS).map_or(text.len(), |(at, _)| at);
    let (folded, exact) = text.split_at(begins_exact);
    let letters: String = folded.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let mut hasher = DefaultHasher::new();
    if letters.is_empty() {
        text.hash(&mut hasher)
    } else {
        (letters, exact).hash(&mut hasher)
    }
    hasher.finish()
}

arcyou_plugin_sdk::export!(FloodGuard: filter, on_join);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::testing::{check_cases, edited, fail_kv, join, message, plugin, set_clock, try_plugin};
    use serde_json::{Value, json};

    use super::*;

    /// The code of the rejection, if there is one.
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

    /// Edits the message with this id from one text to another.
    fn edit(plugin: &FloodGuard, id: i64, from: &str, to: &str) -> Option<String> {
        let edit = message(json!({"text": to})).with_edits(edited(json!({"text": from})).with_message_id(id));
        plugin.filter(&edit).code().map(str::to_owned)
    }

    #[test]
    fn an_edit_counts_like_a_message() {
        let plugin = guard(json!({"messages": 2}));
        assert_eq!([say(&plugin, "a"), edit(&plugin, 1, "a", "a!")], [None, None]);
        assert_eq!(edit(&plugin, 1, "a!", "a").as_deref(), Some("too_fast"));
        assert_eq!(say(&plugin, "b").as_deref(), Some("too_fast"));
    }

    #[test]
    fn no_message_repeats_itself_when_it_is_edited() {
        let plugin = guard(json!({"repeats": 1}));
        assert_eq!(say(&plugin, "Hello, all"), None);
        for (from, to) in [("Hello, all", "hello all!"), ("hello all!", "Hello, you"), ("Hello, you", "Hello, all")] {
            assert_eq!(edit(&plugin, 1, from, to), None, "{from} becomes {to}");
        }
        assert_eq!(say(&plugin, "hello you").as_deref(), Some("repeated"), "the edit has said it");
        // With nothing else changed, too: what stood may have had no text.
        let image = message(json!({"text": "Look"})).with_edits(edited(json!({"image": "x"})).with_message_id(2));
        assert!(plugin.filter(&image).is_accept() && plugin.filter(&image).is_accept());
    }

    #[test]
    fn other_messages_are_not_edited_into_repetitions() {
        let plugin = guard(json!({"repeats": 2}));
        assert_eq!([say(&plugin, "one"), say(&plugin, "two"), say(&plugin, "three")], [None, None, None]);
        assert_eq!([edit(&plugin, 1, "one", "buy this"), edit(&plugin, 2, "two", "Buy this!")], [None, None]);
        for _ in 0..2 {
            assert_eq!(edit(&plugin, 3, "three", "buy this").as_deref(), Some("repeated"), "however often it is tried");
        }
        assert_eq!(edit(&plugin, 3, "three", "something else"), None);
        set_clock(Duration::from_secs(1_060));
        assert_eq!(edit(&plugin, 3, "something else", "buy this"), None);
    }

    #[test]
    fn of_a_long_text_only_the_beginning_may_vary() {
        let long = |begin: &str, end: &str| fingerprint(&format!("{begin}{}{end}", "x ".repeat(3000)));
        assert_eq!(long("Buy  THIS", "now"), long("buy  this", "now"));
        assert_ne!(long("buy this", "now"), long("buy this", "NOW"));
        assert_ne!(long("buy this", "now"), long("buy that", "now"));
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
}
