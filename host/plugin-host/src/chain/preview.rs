//! The outcome that a message would have, for authors of plugins.

use super::evaluation::{Decision, Disposition, Rejection};

/// The outcome that a message would have.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Preview {
    /// `stored`, `held`, `discarded`, `rejected` or `failed`.
    pub outcome: &'static str,
    /// The plugin that ended the chain, or else the last one that replaced the body.
    pub plugin: Option<String>,
    pub code: Option<String>,
    /// Why the message is held or rejected.
    pub reason: Option<String>,
    /// When a retry makes sense.
    pub retry_after_ms: Option<u32>,
    /// The body's JSON text, if a plugin replaced it.
    pub body: Option<String>,
    /// The annotations as JSON text, with an object for each plugin.
    pub annotations: Option<String>,
}

impl From<Decision> for Preview {
    fn from(decision: Decision) -> Self {
        let mut preview = Self {
            outcome: "stored",
            plugin: decision.by().map(|by| by.plugin.to_string()),
            annotations: decision.annotations_json(),
            body: decision.replacement.map(|replacement| replacement.body.as_str().to_owned()),
            ..Self::default()
        };
        match decision.disposition {
            Disposition::Accepted => {}
            Disposition::Held { reason, .. } => (preview.outcome, preview.reason) = ("held", Some(reason)),
            Disposition::Discarded { .. } => preview.outcome = "discarded",
            Disposition::Failed { .. } => preview.outcome = "failed",
            Disposition::Rejected(Rejection { code, reason, retry_after_ms, .. }) => {
                preview.outcome = "rejected";
                (preview.code, preview.reason, preview.retry_after_ms) = (Some(code), Some(reason), retry_after_ms);
            }
        }
        preview
    }
}
