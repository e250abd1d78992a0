//! What would become of a message.

use super::evaluation::{Decision, Disposition, Rejection};

/// What would become of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Preview {
    /// `stored`, `held`, `discarded`, `rejected` or `failed`.
    pub outcome: &'static str,
    /// The plugin that decided that, or else the last one that replaced the body.
    pub plugin: Option<String>,
    pub code: Option<String>,
    /// Why it is held or rejected.
    pub reason: Option<String>,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u32>,
    /// The text of the body, if a plugin replaced it.
    pub body: Option<String>,
    /// What the plugins noted: the text of a JSON object with an object for each plugin.
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
