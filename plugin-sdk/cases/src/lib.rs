//! Case files: messages, and the verdicts that a plugin must give about them.
//!
//! The same file is held to by `cargo test` (the SDK's `testing::check_cases`), by `arcyou-gateway plugin test`, and by
//! the gateway before it lets a new version judge a message. It is TOML:
//!
//! ```
//! use arcyou_plugin_cases::{CaseFile, Got, VerdictKind};
//!
//! let file = CaseFile::parse(r#"
//! [config]                        # the plugin's configuration in these cases; the one it is loaded with if this is absent
//! mask = ["badword"]
//!
//! [[case]]
//! name = "a fine message stands"
//! body = { text = "Hello!" }
//! expect = "accept"
//!
//! [[case]]
//! name = "a forbidden word is refused, even to moderators"
//! config = { reject = ["forbidden"] }   # these keys take the place of those above
//! sender_role = "moderator"             # "member" if absent; sender_id and conversation_id likewise
//! body = { text = "This is forbidden." }
//! expect = { verdict = "reject", code = "forbidden_word" }
//!
//! [[case]]
//! name = "the rest of the body is left alone"
//! body = { text = "What a badword.", n = 1 }
//! expect = { verdict = "replace", body = { text = "What a *******.", n = 1 }, annotations = { masked_characters = "7" } }
//!
//! [[case]]
//! name = "nobody edits a forbidden word in"
//! config = { reject = ["forbidden"] }
//! edits = { body = { text = "This is fine." } }   # what stands; message_id and version are 1 if they are absent
//! body = { text = "This is forbidden." }
//! expect = { verdict = "reject", code = "forbidden_word" }
//! "#)?;
//! assert_eq!(file.cases().len(), 4);
//! assert_eq!(file.cases()[1].line(), 10);
//! assert!(file.cases()[0].compare(&Got::new(VerdictKind::Accept)).is_ok());
//! # Ok::<(), arcyou_plugin_cases::CaseError>(())
//! ```
//!
//! or one JSON object a line, with the keys of a `[[case]]`.

#![warn(missing_docs)]

mod compare;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use compare::{Got, Mismatch};

/// A parsed case file.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFile {
    config: Option<Map<String, Value>>,
    cases: Vec<Case>,
}

/// One message and what must become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    line: usize,
    listed: Listed,
}

/// Why a text is no case file; says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseError(String);

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CaseError {}

/// A verdict without what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// It stands as it is.
    Accept,
    /// It is refused.
    Reject,
    /// It stands with another body.
    Replace,
    /// It vanishes.
    Discard,
    /// It waits for a review.
    Hold,
    /// The plugin fails: it panics, takes too long or too much memory, or answers nonsense.
    Fail,
}

impl VerdictKind {
    /// As case files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Replace => "replace",
            Self::Discard => "discard",
            Self::Hold => "hold",
            Self::Fail => "fail",
        }
    }
}

/// A `[[case]]` as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: Option<String>,
    body: Map<String, Value>,
    sender_role: Option<String>,
    sender_id: Option<String>,
    conversation_id: Option<String>,
    config: Option<Map<String, Value>>,
    edits: Option<CaseEdited>,
    #[serde(deserialize_with = "parse::expect")]
    expect: Expect,
}

/// What the edit of a case is about: a message, as it stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseEdited {
    body: Map<String, Value>,
    #[serde(default = "CaseEdited::default_message_id")]
    message_id: i64,
    #[serde(default = "CaseEdited::default_version")]
    version: NonZeroU32,
}

impl CaseEdited {
    const fn default_message_id() -> i64 {
        1
    }

    const fn default_version() -> NonZeroU32 {
        NonZeroU32::MIN
    }

    /// The body that stands.
    pub fn body(&self) -> Value {
        Value::Object(self.body.clone())
    }

    /// The message's id.
    pub fn message_id(&self) -> i64 {
        self.message_id
    }

    /// The version that stands.
    pub fn version(&self) -> u32 {
        self.version.get()
    }
}

/// What must come out. What is absent may be anything.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    verdict: VerdictKind,
    code: Option<String>,
    reason: Option<String>,
    retry_after_ms: Option<u32>,
    body: Option<Map<String, Value>>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl CaseFile {
    /// The cases in their order; at least one.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The configuration that a case is about: the file's own, or `configured` where the file has none, and over it the
    /// keys that the case brings.
    pub fn config(&self, case: &Case, configured: &Value) -> Value {
        let mut config = match (&self.config, configured) {
            (Some(config), _) | (None, Value::Object(config)) => config.clone(),
            (None, _) => Map::new(),
        };
        config.extend(case.listed.config.clone().unwrap_or_default());
        Value::Object(config)
    }
}

impl Case {
    /// What it is called; empty if it has no name.
    pub fn name(&self) -> &str {
        self.listed.name.as_deref().unwrap_or_default()
    }

    /// The line of the file at which it begins, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The message's body.
    pub fn body(&self) -> Value {
        Value::Object(self.listed.body.clone())
    }

    /// What is edited, if the case is an edit and no message that is sent.
    ///
    /// ```
    /// use arcyou_plugin_cases::CaseFile;
    ///
    /// let file = CaseFile::parse(r#"{"body": {"n": 2}, "edits": {"body": {"n": 1}, "version": 3}, "expect": "accept"}"#)?;
    /// let edited = file.cases()[0].edits().unwrap();
    /// assert_eq!((edited.message_id(), edited.version(), edited.body()), (1, 3, serde_json::json!({"n": 1})));
    /// # Ok::<(), arcyou_plugin_cases::CaseError>(())
    /// ```
    pub fn edits(&self) -> Option<&CaseEdited> {
        self.listed.edits.as_ref()
    }

    /// The sender's role in the conversation, if the case says one.
    pub fn sender_role(&self) -> Option<&str> {
        self.listed.sender_role.as_deref()
    }

    /// The sender, if the case says who.
    pub fn sender_id(&self) -> Option<&str> {
        self.listed.sender_id.as_deref()
    }

    /// The conversation, if the case says which.
    pub fn conversation_id(&self) -> Option<&str> {
        self.listed.conversation_id.as_deref()
    }
}
