//! A join as the hook `on-join` sees it, and what becomes of it.

use std::time::Duration;

use crate::bindings::on_join;
use crate::bindings::validate::types;

/// A user who wants to follow a conversation. The gateway has seen already that the user participates in it.
///
/// ```
/// use arcyou_plugin_sdk::testing;
///
/// let join = testing::join().with_role("guest");
/// assert_eq!(join.role(), "guest");
/// ```
#[derive(Debug, Clone)]
pub struct Join {
    pub(crate) conversation_id: String,
    pub(crate) user_id: String,
    pub(crate) role: String,
}

impl Join {
    /// The conversation, as a lower-case hyphenated UUID.
    pub fn conversation_id(&self) -> &str {
        &self.conversation_id
    }

    /// The user, as a lower-case hyphenated UUID.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The user's role in this conversation (`participants.role`).
    pub fn role(&self) -> &str {
        &self.role
    }

    pub(crate) fn from_wire(join: on_join::Join) -> Self {
        let on_join::Join { conversation_id, user_id, role } = join;
        Self { conversation_id, user_id, role }
    }
}

/// The answer of the hook `on-join`.
///
/// ```
/// use std::time::Duration;
/// use arcyou_plugin_sdk::Admission;
///
/// let admission = Admission::refuse("closed", "open from nine to five").retry_after(Duration::from_secs(3600));
/// assert_eq!(admission.code(), Some("closed"));
/// assert!(Admission::allow().is_allowed());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an admission has no effect unless the hook returns it"]
pub struct Admission(Option<Refusal>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: String,
    reason: String,
    retry_after: Option<Duration>,
}

impl Admission {
    /// The join goes on.
    ///
    /// ```
    /// assert!(arcyou_plugin_sdk::Admission::allow().is_allowed());
    /// ```
    pub fn allow() -> Self {
        Self(None)
    }

    /// The join is refused. The user sees the plugin's name, `code`, a stable token for programs (`[a-z0-9_.-]`, at
    /// most 64 bytes), and `reason`, a sentence for people (at most 1 KiB).
    ///
    /// ```
    /// assert!(!arcyou_plugin_sdk::Admission::refuse("banned", "you are banned until Monday").is_allowed());
    /// ```
    pub fn refuse(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self(Some(Refusal { code: code.into(), reason: reason.into(), retry_after: None }))
    }

    /// Tells when trying again makes sense. Means nothing for what is allowed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let _ = arcyou_plugin_sdk::Admission::refuse("full", "come back soon").retry_after(Duration::from_secs(60));
    /// ```
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let Some(refusal) = &mut self.0 {
            refusal.retry_after = Some(wait);
        }
        self
    }

    /// Whether the join goes on.
    ///
    /// ```
    /// assert!(arcyou_plugin_sdk::Admission::allow().is_allowed());
    /// ```
    pub fn is_allowed(&self) -> bool {
        self.0.is_none()
    }

    /// The code of a refusal.
    ///
    /// ```
    /// assert_eq!(arcyou_plugin_sdk::Admission::refuse("full", "no room").code(), Some("full"));
    /// ```
    pub fn code(&self) -> Option<&str> {
        self.0.as_ref().map(|refusal| refusal.code.as_str())
    }

    pub(crate) fn into_decision(self) -> on_join::Decision {
        let Some(Refusal { code, reason, retry_after }) = self.0 else { return on_join::Decision::Allow };
        let retry_after_ms = retry_after.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        on_join::Decision::Refuse(types::Rejection { code, reason, retry_after_ms })
    }
}
