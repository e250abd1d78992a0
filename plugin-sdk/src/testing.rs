//! Plugins in native tests: what `plugins.toml` would configure, and messages in one line.
//!
//! ```
//! use arcyou_plugin_sdk::{Message, NoConfig, Plugin, Validate, Verdict, testing};
//! use serde_json::json;
//!
//! struct NoBots;
//!
//! impl Plugin for NoBots {
//!     type Config = NoConfig;
//!     fn new(_: NoConfig) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Validate for NoBots {
//!     fn validate(&self, message: &Message) -> Verdict {
//!         if message.sender_role() == "bot" { Verdict::reject("bots", "no bots here") } else { Verdict::accept() }
//!     }
//! }
//!
//! let plugin: NoBots = testing::plugin(json!({}));
//! let message = testing::message(json!({"text": "beep"}));
//! assert!(plugin.validate(&message).is_accept());
//! assert_eq!(plugin.validate(&message.with_role("bot")).code(), Some("bots"));
//! assert!(testing::try_plugin::<NoBots>(json!({"typo": 1})).is_err());
//! ```

use serde_json::Value;

use crate::{Annotation, Message, Plugin, export};

/// A plugin made from this configuration.
///
/// # Panics
///
/// When the plugin refuses it.
pub fn plugin<P: Plugin>(config: Value) -> P {
    try_plugin(config).unwrap_or_else(|error| panic!("the plugin refuses its configuration: {error}"))
}

/// Like [`plugin`], to look at the error that the operator would see.
pub fn try_plugin<P: Plugin>(config: Value) -> Result<P, String> {
    export::build(&config.to_string())
}

/// A message with this body from a `member`.
///
/// # Panics
///
/// When the body is no JSON object.
pub fn message(body: Value) -> Message {
    assert!(body.is_object(), "a message's body is a JSON object, not {body}");
    Message {
        conversation_id: "00000000-0000-4000-8000-00000000c0de".to_owned(),
        sender_id: "00000000-0000-4000-8000-000000000001".to_owned(),
        sender_role: "member".to_owned(),
        body: body.to_string(),
        annotations: Vec::new(),
    }
}

/// For tests alone: what the gateway would have filled in.
impl Message {
    /// The same message in this conversation.
    pub fn with_conversation(mut self, id: impl Into<String>) -> Self {
        self.conversation_id = id.into();
        self
    }

    /// The same message from this user.
    pub fn with_sender(mut self, id: impl Into<String>) -> Self {
        self.sender_id = id.into();
        self
    }

    /// The same message from a sender with this role.
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.sender_role = role.into();
        self
    }

    /// The same message with what an earlier plugin noted.
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.push(Annotation { key: key.into(), value: value.into() });
        self
    }
}
