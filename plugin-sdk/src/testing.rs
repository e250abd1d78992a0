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

#[cfg(feature = "cases")]
mod cases;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod doubles;

use serde_json::Value;

#[cfg(feature = "cases")]
pub use cases::check_cases;
#[cfg(not(target_arch = "wasm32"))]
pub use doubles::{answer_http, fail_kv, set_clock};

use crate::{Annotation, Edited, Join, Message, Outcome, Plugin, Verdict, export};

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
        edits: None,
    }
}

/// What an edit is about: a message with this body, which was never edited before. [`Message::with_edits`] takes it.
///
/// ```
/// use arcyou_plugin_sdk::testing::{edited, message};
/// use serde_json::json;
///
/// let edit = message(json!({"text": "new"})).with_edits(edited(json!({"text": "old"})).with_version(2));
/// assert_eq!(edit.edits().map(|edited| edited.version()), Some(2));
/// ```
///
/// # Panics
///
/// When the body is no JSON object.
pub fn edited(body: Value) -> Edited {
    assert!(body.is_object(), "a message's body is a JSON object, not {body}");
    Edited { message_id: 1, version: 1, body: body.to_string() }
}

/// For tests alone: what the gateway would have filled in.
impl Edited {
    /// The same of the message with this id.
    pub fn with_message_id(mut self, id: i64) -> Self {
        self.message_id = id;
        self
    }

    /// The same with this version standing.
    pub fn with_version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }
}

/// A join by a `member`.
///
/// ```
/// assert_eq!(arcyou_plugin_sdk::testing::join().role(), "member");
/// ```
pub fn join() -> Join {
    let Message { conversation_id, sender_id: user_id, sender_role: role, .. } = message(serde_json::json!({}));
    Join { conversation_id, user_id, role }
}

/// For tests alone: what the gateway would have filled in.
impl Join {
    /// The same join of this conversation.
    pub fn with_conversation(mut self, id: impl Into<String>) -> Self {
        self.conversation_id = id.into();
        self
    }

    /// The same join by this user.
    pub fn with_user(mut self, id: impl Into<String>) -> Self {
        self.user_id = id.into();
        self
    }

    /// The same join by a user with this role.
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }
}

/// A plugin whose hooks are named to [`export!`](crate::export), which implements this.
#[doc(hidden)]
pub trait Exported: Plugin {
    /// The hook's verdict, if the plugin has this hook.
    fn ask(&self, hook: &str, message: &Message) -> Option<Verdict>;
}

/// What the gateway makes of a message with this plugin alone: the validator, the filter and, if that replaced the
/// body, the validator again, each seeing what was noted before.
///
/// ```
/// use arcyou_plugin_sdk::{Filter, Message, NoConfig, Plugin, Validate, Verdict, testing};
/// use serde_json::json;
///
/// /// Says everything twice, within limits.
/// struct Echo;
///
/// impl Plugin for Echo {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Validate for Echo {
///     fn validate(&self, message: &Message) -> Verdict {
///         if message.body_text().len() > 20 { Verdict::reject("long", "too long") } else { Verdict::accept() }
///     }
/// }
///
/// impl Filter for Echo {
///     fn filter(&self, message: &Message) -> Verdict {
///         message.replace_field("text", &message.text("text").unwrap_or_default().repeat(2))
///     }
/// }
///
/// arcyou_plugin_sdk::export!(Echo: validate, filter);
///
/// let plugin: Echo = testing::plugin(json!({}));
/// let judge = |text: &str| testing::judge(&plugin, testing::message(json!({"text": text})));
/// assert_eq!(judge("ha").replacement(), Some(json!({"text": "haha"})));
/// assert_eq!(judge("hahaha").code(), Some("long"), "the echo is");
/// ```
///
/// # Panics
///
/// When the validator replaces the body, which the gateway counts as a failure.
pub fn judge<P: Exported>(plugin: &P, mut message: Message) -> Verdict {
    let mut replaced = false;
    for hook in ["validate", "filter", "validate"] {
        let Some(verdict) = plugin.ask(hook, &message) else { continue };
        for note in verdict.annotations() {
            message.annotations.retain(|earlier| earlier.key != note.key);
            message.annotations.push(note.clone());
        }
        match verdict.outcome().clone() {
            Outcome::Accept => {}
            Outcome::Replace(_) if hook == "validate" => panic!("a validator must not replace the body"),
            Outcome::Replace(body) => (message.body, replaced) = (body, true),
            ending => return noted(ending, message.annotations),
        }
        if hook == "filter" && !replaced {
            break;
        }
    }
    let ending = if replaced { Outcome::Replace(message.body) } else { Outcome::Accept };
    noted(ending, message.annotations)
}

fn noted(outcome: Outcome, annotations: Vec<Annotation>) -> Verdict {
    annotations.into_iter().fold(outcome.into(), |verdict: Verdict, note| verdict.annotate(note.key, note.value))
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

    /// The same message as an edit of what stands.
    pub fn with_edits(mut self, edited: Edited) -> Self {
        self.edits = Some(edited);
        self
    }

    /// The same message with what an earlier plugin noted.
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.push(Annotation { key: key.into(), value: value.into() });
        self
    }
}
