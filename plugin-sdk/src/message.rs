//! A message as a hook sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use crate::annotation::Annotation;
use crate::bindings::validate::types;
use crate::edited::Edited;
use crate::field;
use crate::rewrite;
use crate::verdict::Verdict;

/// A message on its way to the store, or an edit of one that is stored: [`Message::edits`] tells.
#[derive(Debug, Clone)]
pub struct Message {
    pub(crate) conversation_id: String,
    pub(crate) sender_id: String,
    pub(crate) sender_role: String,
    pub(crate) body: String,
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) edits: Option<Edited>,
}

impl Message {
    /// The conversation, as a lower-case hyphenated UUID.
    pub fn conversation_id(&self) -> &str {
        &self.conversation_id
    }

    /// The user who sends or edits it, as a lower-case hyphenated UUID.
    pub fn sender_id(&self) -> &str {
        &self.sender_id
    }

    /// The sender's role in this conversation (`participants.role`).
    pub fn sender_role(&self) -> &str {
        &self.sender_role
    }

    /// The body's JSON text, as the plugin before this one left it. Of an edit, the whole new body.
    pub fn body_text(&self) -> &str {
        &self.body
    }

    /// The body, parsed into whatever fits: a type of yours (borrowing from the message, if it likes),
    /// `serde_json::Value`, a map.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::message;
    /// use serde_json::{Value, json};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Body<'a> {
    ///     text: &'a str,
    /// }
    ///
    /// let message = message(json!({"text": "hi", "n": 1}));
    /// assert_eq!(message.body::<Body>().unwrap().text, "hi");
    /// assert_eq!(message.body::<Value>().unwrap()["n"], 1);
    /// ```
    pub fn body<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// The string in one top-level field of the body; `None` if it is absent or no string.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::message;
    /// use serde_json::json;
    ///
    /// let message = message(json!({"text": "hi", "n": 1}));
    /// assert_eq!(message.text("text").as_deref(), Some("hi"));
    /// assert_eq!(message.text("n"), None);
    /// ```
    pub fn text(&self, field: &str) -> Option<String> {
        field::text(&self.body, field)
    }

    /// The verdict that replaces one top-level field of the body, and leaves every other field's text as it is.
    ///
    /// ```
    /// use arcyou_plugin_sdk::{Verdict, testing::message};
    /// use serde_json::json;
    ///
    /// let message = message(json!({"text": "hi", "n": 1.50}));
    /// assert_eq!(message.replace_field("text", "HI"), Verdict::replace(&json!({"text": "HI", "n": 1.50})));
    /// ```
    ///
    /// # Panics
    ///
    /// When `value` cannot be JSON: a map with keys that are no strings, say.
    pub fn replace_field<T: Serialize + ?Sized>(&self, field: &str, value: &T) -> Verdict {
        let value = to_raw_value(value).unwrap_or_else(|error| panic!("the value for {field:?} is no JSON: {error}"));
        match rewrite::field(&self.body, field, &value) {
            Ok(body) => Verdict::replace_text(body),
            // What is no JSON object has no other fields.
            Err(_) => Verdict::replace(&BTreeMap::from([(field, value)])),
        }
    }

    /// The verdict that rewrites strings wherever they stand in the body: in these top-level fields, or in all if none
    /// is named. `rewrite` gets each string, and answers the one to take its place, or `None`. Accepts if it never
    /// does.
    ///
    /// ```
    /// use arcyou_plugin_sdk::testing::message;
    /// use serde_json::json;
    ///
    /// let message = message(json!({"text": "psst", "quotes": [{"text": "psst, hey"}], "n": 1}));
    /// let louder = |text: &str| text.contains("psst").then(|| text.replace("psst", "hello"));
    /// let everywhere = json!({"text": "hello", "quotes": [{"text": "hello, hey"}], "n": 1});
    /// assert_eq!(message.replace_strings(&[], louder).replacement(), Some(everywhere));
    /// assert!(message.replace_strings(&["n".to_owned()], louder).is_accept());
    /// ```
    pub fn replace_strings(&self, fields: &[String], mut rewrite: impl FnMut(&str) -> Option<String>) -> Verdict {
        match rewrite::strings(&self.body, fields, &mut rewrite) {
            Ok(Some(body)) => Verdict::replace_text(body),
            // What is no JSON object has no strings.
            Ok(None) | Err(_) => Verdict::accept(),
        }
    }

    /// If this is an edit: what it edits, as that stands now. `None` for a message that is sent.
    ///
    /// A rule about what may be said needs no look at it: the new body is judged as that of a message that is sent. It
    /// is for rules about what changes, and for plugins that remember what was said.
    ///
    /// ```
    /// use arcyou_plugin_sdk::{Message, Verdict, testing};
    /// use serde_json::json;
    ///
    /// /// What a message attaches may not be exchanged for something else.
    /// fn validate(message: &Message) -> Verdict {
    ///     match message.edits() {
    ///         Some(edited) if edited.text("attachment") != message.text("attachment") => {
    ///             Verdict::reject("attachment", "write another message for another attachment")
    ///         }
    ///         _ => Verdict::accept(),
    ///     }
    /// }
    ///
    /// let stands = testing::edited(json!({"text": "Look!", "attachment": "cat.png"}));
    /// let same = testing::message(json!({"text": "Look here!", "attachment": "cat.png"})).with_edits(stands.clone());
    /// let other = testing::message(json!({"text": "Look!", "attachment": "cat.exe"}));
    /// assert!(validate(&same).is_accept());
    /// assert!(validate(&other).is_accept(), "it is sent");
    /// assert_eq!(validate(&other.with_edits(stands)).code(), Some("attachment"));
    /// ```
    pub fn edits(&self) -> Option<&Edited> {
        self.edits.as_ref()
    }

    /// What the plugins before this one noted, in their order.
    pub fn annotations(&self) -> &[Annotation] {
        &self.annotations
    }

    /// The newest annotation with this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .iter()
            .rev()
            .find(|annotation| annotation.key == key)
            .map(|annotation| annotation.value.as_str())
    }

    pub(crate) fn from_wire(message: types::Message) -> Self {
        let types::Message { conversation_id, sender_id, sender_role, body, annotations, edits } = message;
        let annotations =
            annotations.into_iter().map(|types::Annotation { key, value }| Annotation { key, value }).collect();
        let edits = edits.map(Edited::from_wire);
        Self { conversation_id, sender_id, sender_role, body, annotations, edits }
    }
}
