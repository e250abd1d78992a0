//! What is to become of a message.

use std::time::Duration;

use serde::Serialize;

use crate::annotation::Annotation;
use crate::bindings::validate::types;

/// A hook's answer, with what the plugin notes beside it.
///
/// ```
/// use std::time::Duration;
/// use arcyou_plugin_sdk::Verdict;
///
/// let verdict = Verdict::reject("too_fast", "one message a minute").retry_after(Duration::from_secs(60)).annotate("rate", "high");
/// assert_eq!(verdict.code(), Some("too_fast"));
/// assert!(!verdict.is_accept());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a verdict has no effect unless the hook returns it"]
pub struct Verdict {
    outcome: Outcome,
    annotations: Vec<Annotation>,
}

/// A verdict without its annotations, for tests and for plugins that combine several judgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stands as it is.
    Accept,
    /// It is refused, and the sender sees why.
    Reject {
        /// A stable token for programs.
        code: String,
        /// A sentence for people.
        reason: String,
        /// When trying again makes sense.
        retry_after: Option<Duration>,
    },
    /// It stands with this body.
    Replace(String),
    /// It vanishes; the sender is told so, and not why.
    Discard,
    /// It waits for a review.
    Hold(String),
}

impl Verdict {
    /// The message stands as it is.
    pub fn accept() -> Self {
        Outcome::Accept.into()
    }

    /// The message is refused. The sender sees the plugin's name, `code`, a stable token for programs
    /// (`[a-z0-9_.-]`, at most 64 bytes), and `reason`, a sentence for people (at most 1 KiB).
    pub fn reject(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Outcome::Reject { code: code.into(), reason: reason.into(), retry_after: None }.into()
    }

    /// The message stands with this body, which must be a JSON object, and an edit makes it that. For filters alone.
    ///
    /// [`Message::replace_field`](crate::Message::replace_field) changes one field and leaves the others alone.
    ///
    /// # Panics
    ///
    /// When `body` cannot be JSON: a map with keys that are no strings, say.
    pub fn replace<T: Serialize + ?Sized>(body: &T) -> Self {
        let text = serde_json::to_string(body).unwrap_or_else(|error| panic!("the replacement is no JSON: {error}"));
        Self::replace_text(text)
    }

    /// Like [`Verdict::replace`], with JSON text that stands already.
    pub fn replace_text(body: impl Into<String>) -> Self {
        Outcome::Replace(body.into()).into()
    }

    /// The sender is acknowledged; nothing is stored and nobody is told. If it is an edit, what stood before goes on
    /// standing.
    pub fn discard() -> Self {
        Outcome::Discard.into()
    }

    /// The message is kept for review with this reason, and not broadcast until somebody releases it. If it is an edit,
    /// what stood before goes on standing until then.
    pub fn hold(reason: impl Into<String>) -> Self {
        Outcome::Hold(reason.into()).into()
    }

    /// Notes something: stored with the message, and shown to the plugins that come later.
    pub fn annotate(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.push(Annotation { key: key.into(), value: value.into() });
        self
    }

    /// Tells the sender of a rejected message when trying again makes sense. No effect on other verdicts.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let Outcome::Reject { retry_after, .. } = &mut self.outcome {
            *retry_after = Some(wait);
        }
        self
    }

    /// What was decided.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether the message stands as it is.
    pub fn is_accept(&self) -> bool {
        self.outcome == Outcome::Accept
    }

    /// The code of a rejection.
    pub fn code(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Reject { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The body that replaces the message's, parsed.
    pub fn replacement(&self) -> Option<serde_json::Value> {
        match &self.outcome {
            Outcome::Replace(body) => serde_json::from_str(body).ok(),
            _ => None,
        }
    }

    /// What is noted beside it.
    pub fn annotations(&self) -> &[Annotation] {
        &self.annotations
    }

    pub(crate) fn into_judgement(self) -> types::Judgement {
        let verdict = match self.outcome {
            Outcome::Accept => types::Verdict::Accept,
            Outcome::Reject { code, reason, retry_after } => types::Verdict::Reject(types::Rejection {
                code,
                reason,
                retry_after_ms: retry_after.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
            }),
            Outcome::Replace(body) => types::Verdict::Replace(body),
            Outcome::Discard => types::Verdict::Discard,
            Outcome::Hold(reason) => types::Verdict::Hold(reason),
        };
        let annotations =
            self.annotations.into_iter().map(|Annotation { key, value }| types::Annotation { key, value }).collect();
        types::Judgement { verdict, annotations }
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, annotations: Vec::new() }
    }
}
