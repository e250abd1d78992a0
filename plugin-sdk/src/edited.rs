//! What an edit is about.

use serde::Deserialize;

use crate::bindings::validate::types;
use crate::field;

/// What an edit is about: a stored message, as it stands now. [`Message::edits`](crate::Message::edits) has it.
///
/// It stands until the edit is stored, and for good if the edit is refused or discarded.
///
/// ```
/// use arcyou_plugin_sdk::testing::{edited, message};
/// use serde_json::json;
///
/// let edit = message(json!({"text": "See you at eight."})).with_edits(edited(json!({"text": "See you at seven."})));
/// let edited = edit.edits().unwrap();
/// assert_eq!((edited.message_id(), edited.version()), (1, 1));
/// assert_eq!(edited.text("text").as_deref(), Some("See you at seven."));
/// ```
#[derive(Debug, Clone)]
pub struct Edited {
    pub(crate) message_id: i64,
    pub(crate) version: u32,
    pub(crate) body: String,
}

impl Edited {
    /// The message's `id`, which it keeps however often it is edited.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::edited;
    ///
    /// assert_eq!(edited(serde_json::json!({})).with_message_id(7).message_id(), 7);
    /// ```
    pub fn message_id(&self) -> i64 {
        self.message_id
    }

    /// The version that stands: 1 as the message was stored first, and one more with each edit of it.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::edited;
    ///
    /// assert_eq!(edited(serde_json::json!({})).with_version(3).version(), 3);
    /// ```
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The JSON text of the body that stands, as the plugins left it then. It may break rules that are younger than it.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::edited;
    ///
    /// assert_eq!(edited(serde_json::json!({"n": 1})).body_text(), r#"{"n":1}"#);
    /// ```
    pub fn body_text(&self) -> &str {
        &self.body
    }

    /// The body that stands, parsed into whatever fits. See [`Message::body`](crate::Message::body).
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::edited;
    /// use serde_json::{Value, json};
    ///
    /// assert_eq!(edited(json!({"n": 1})).body::<Value>().unwrap()["n"], 1);
    /// ```
    pub fn body<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// The string in one top-level field of the body that stands; `None` if it is absent or no string.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::edited;
    /// use serde_json::json;
    ///
    /// let edited = edited(json!({"text": "hi", "n": 1}));
    /// assert_eq!((edited.text("text").as_deref(), edited.text("n")), (Some("hi"), None));
    /// ```
    pub fn text(&self, field: &str) -> Option<String> {
        field::text(&self.body, field)
    }

    pub(crate) fn from_wire(edited: types::Edited) -> Self {
        let types::Edited { message_id, version, body } = edited;
        Self { message_id, version, body }
    }
}
