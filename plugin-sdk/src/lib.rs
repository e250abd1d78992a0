//! Write plugins for the ArcYou chat gateway in Rust.
//!
//! A plugin is a type that implements [`Plugin`] (how it is made from its configuration) and a trait for each hook that
//! it wants: [`Validate`] (may this message stand?), [`Filter`] (what does it become?), [`OnJoin`] (may this user
//! join?). [`export!`] names those hooks.
//!
//! ```
//! use arcyou_plugin_sdk::{Message, Plugin, Validate, Verdict};
//!
//! /// What stands under `[plugin.config]` in `plugins.toml`.
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     role: String,
//! }
//!
//! /// Lets only one role speak.
//! struct OnlyRole(Config);
//!
//! impl Plugin for OnlyRole {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, String> {
//!         Ok(Self(config))
//!     }
//! }
//!
//! impl Validate for OnlyRole {
//!     fn validate(&self, message: &Message) -> Verdict {
//!         if message.sender_role() == self.0.role {
//!             Verdict::accept()
//!         } else {
//!             Verdict::reject("role", format!("only {} may speak here", self.0.role))
//!         }
//!     }
//! }
//!
//! arcyou_plugin_sdk::export!(OnlyRole: validate);
//!
//! // Plugins are plain Rust: their tests run natively, with `cargo test`.
//! use arcyou_plugin_sdk::testing;
//! use serde_json::json;
//!
//! let plugin: OnlyRole = testing::plugin(json!({"role": "admin"}));
//! assert!(plugin.validate(&testing::message(json!({"text": "hi"})).with_role("admin")).is_accept());
//! assert_eq!(plugin.validate(&testing::message(json!({"text": "hi"}))).code(), Some("role"));
//! ```
//!
//! # What a plugin may rely on
//!
//! - The body is the text of a JSON object without duplicate keys, within the gateway's limits of size and depth.
//! - `new` runs once for each instance. The gateway keeps several instances and replaces them as it likes, so what a
//!   plugin remembers between messages is a cache at best.
//! - There is no file, no network and no environment, and `SystemTime::now()` panics. What an operator grants by name
//!   is in [`clock`], [`random`], [`kv`] and [`http`]; a plugin that uses what it is not granted is not loaded.
//! - A panic, an endless loop or too much memory spoils the one message in hand; the panic's text is in the gateway's
//!   log.

#![warn(missing_docs)]

mod annotation;
mod bindings;
pub mod clock;
mod edited;
#[macro_use]
mod export;
mod field;
pub mod http;
mod join;
pub mod kv;
#[cfg(feature = "links")]
pub mod links;
mod log;
mod message;
mod numbers;
pub mod random;
mod rewrite;
pub mod testing;
mod verdict;

use serde::de::DeserializeOwned;

pub use annotation::Annotation;
pub use edited::Edited;
pub use join::{Admission, Join};
pub use log::{Level, log};
pub use message::Message;
pub use verdict::{Outcome, Verdict};

#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{configure, filter, on_join, validate};
    pub use crate::export::{Slot, array};
}

/// A plugin: made from its configuration, then asked by the hooks that it implements.
pub trait Plugin: Sized {
    /// The table `[plugin.config]` of `plugins.toml`, which is `{}` when it is absent. Give it
    /// `#[serde(deny_unknown_fields)]`, and the operator's slips are errors that name the key. [`NoConfig`] takes
    /// nothing.
    type Config: DeserializeOwned;

    /// Makes the plugin. The error tells the operator what to change in the configuration; the gateway does not load
    /// the plugin then.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// The hook `validate`: may this message stand as it is?
///
/// Called on the message as it came, before any filter, and once more on the result if a filter replaced the body. An
/// edit is asked about in the same way; [`Message::edits`] tells what it edits.
pub trait Validate: Plugin {
    /// Judges one message or edit. [`Verdict::replace`] is not a validator's to give: the gateway counts it as a
    /// failure.
    fn validate(&self, message: &Message) -> Verdict;
}

/// The hook `filter`: what does this message become?
///
/// Filters are called in the configured order, each on what the one before left. They are asked about edits too;
/// [`Message::edits`] tells what is edited.
pub trait Filter: Plugin {
    /// Judges one message or edit, and may replace its body.
    fn filter(&self, message: &Message) -> Verdict;
}

/// The hook `on-join`: may this user join this conversation?
///
/// Called after the gateway has seen that the user participates, in the configured order. The first refusal ends it.
///
/// It does not guard `history`, `send` and `ack`: a participant may use them without having joined.
///
/// ```
/// use arcyou_plugin_sdk::{Admission, Join, NoConfig, OnJoin, Plugin, testing};
///
/// struct NoGuests;
///
/// impl Plugin for NoGuests {
///     type Config = NoConfig;
///
///     fn new(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl OnJoin for NoGuests {
///     fn on_join(&self, join: &Join) -> Admission {
///         if join.role() == "guest" { Admission::refuse("guests", "members only") } else { Admission::allow() }
///     }
/// }
///
/// arcyou_plugin_sdk::export!(NoGuests: on_join);
///
/// let plugin: NoGuests = testing::plugin(serde_json::json!({}));
/// assert!(plugin.on_join(&testing::join()).is_allowed());
/// assert_eq!(plugin.on_join(&testing::join().with_role("guest")).code(), Some("guests"));
/// ```
pub trait OnJoin: Plugin {
    /// Decides about one join.
    fn on_join(&self, join: &Join) -> Admission;
}

/// The [`Plugin::Config`] of a plugin without configuration: any key is an error.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The guide's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Guide;
