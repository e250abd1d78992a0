//! Refuses a user who writes or joins too much or says the same thing again and again, whichever gateways the messages
//! go through.
//!
//! Needs `grants = ["kv"]`. Counts stand in windows: a user may write `messages` times in each `seconds`, in all
//! conversations together, and the same text `repeats` times in each `repeat_seconds` in one conversation.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use arcyou_plugin_sdk::{Admission, Filter, Join, Message, OnJoin, Plugin, Verdict, kv, warn};

/// What stands under `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Messages of one user in each window.
    messages: u32,
    /// The window.
    seconds: u32,
    /// The same text by one user in one conversation, in each window of its own.
    repeats: u32,
    /// That window.
    repeat_seconds: u32,
    /// Joins of one user in each window of `seconds`.
    joins: u32,
    /// Roles that may do as they like.
    exempt_roles: Vec<String>,
    /// Whether messages stand while nothing can be counted; otherwise they are refused then.
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

/// A filter, though it changes nothing: a validator would be asked, and count, twice about what another filter
/// rewrites.
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
            let reason = format!("no more than {messages} messages in {seconds} seconds, please");
            return Ok(Verdict::reject("too_fast", reason).retry_after(window));
        }
        let Some(text) = message.text("text") else { return Ok(Verdict::accept()) };
        let window = Duration::from_secs(u64::from(*repeat_seconds));
        let key = format!("said:{}:{}:{:016x}", message.conversation_id(), message.sender_id(), fingerprint(&text));
        if kv::increment(&key, 1, window)? > i64::from(*repeats) {
            let reason = "you have said this often enough";
            return Ok(Verdict::reject("repeated", reason).retry_after(window));
        }
        Ok(Verdict::accept())
    }
}

/// The same for texts that differ in case, spaces and punctuation alone, but not for those without letters.
fn fingerprint(text: &str) -> u64 {
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let mut hasher = DefaultHasher::new();
    if letters.is_empty() {
        text.hash(&mut hasher)
    } else {
        letters.hash(&mut hasher)
    }
    hasher.finish()
}

arcyou_plugin_sdk::export!(FloodGuard: filter, on_join);

#[cfg(test)]
mod tests;
