//! From a command that a participant may carry out to one that every plugin let through.

use std::borrow::Cow;
use std::sync::Arc;

use arcyou_plugin_host::{Candidate, Chain, Decision, Disposition, Edited, Provenance, Rejection, Replacement};
use arcyou_protocol::Action;
use arcyou_protocol::body::Body;

use crate::authorize::{Permitted, Submitted};

/// What the plugin chain made of a command.
#[derive(Debug)]
pub enum Screening {
    /// The command is to be stored, or held for review.
    Screened(Screened),
    /// The sender is acknowledged, and that is all.
    Discarded {
        /// The plugin that wanted it gone.
        by: Arc<Provenance>,
    },
    /// A plugin refuses it.
    Rejected(Rejection),
    /// A plugin failed, and its `on_error` refuses what it cannot judge.
    Failed { by: Arc<Provenance>, reason: Cow<'static, str> },
}

/// A command that every plugin let through. Only this file makes one, and only this can be stored.
#[derive(Debug)]
pub struct Screened {
    submitted: Submitted,
    annotations: Option<String>,
    decided_by: Option<Arc<Provenance>>,
    hold_reason: Option<String>,
    is_replaced: bool,
}

impl Screened {
    /// The body that is to be stored, if a plugin replaced the one that was sent.
    pub fn replaced_body(&self) -> Option<Body> {
        match &self.submitted.command.action {
            Action::Send { body, .. } | Action::Edit { body, .. } => self.is_replaced.then(|| body.clone()),
            Action::Delete { .. } | Action::React { .. } => None,
        }
    }

    /// What the store needs: the command with its body as the plugins left it, annotations (the text of a JSON object
    /// with an object for each plugin), the plugin that holds it or else the last one that replaced its body, and why
    /// it is to be held for review.
    pub fn into_parts(self) -> (Submitted, Option<String>, Option<Arc<Provenance>>, Option<String>) {
        (self.submitted, self.annotations, self.decided_by, self.hold_reason)
    }
}

/// The message that an edit replaces, as it stands.
#[derive(Debug)]
pub struct Standing {
    pub message_id: i64,
    pub version: u32,
    pub body: Body,
}

/// Asks the plugins about a command that has a text.
///
/// `standing` is the message that an edit replaces.
pub async fn screen(chain: &Chain, permitted: Permitted, standing: Option<&Standing>) -> Screening {
    let command = permitted.command();
    let decision = match &command.action {
        Action::Send { body, .. } | Action::Edit { body, .. } => {
            let (conversation, sender, role) = (command.conversation, permitted.sender(), permitted.role());
            let edits = standing.map(|Standing { message_id, version, body }| Edited {
                message_id: *message_id,
                version: *version,
                body,
            });
            chain.judge(Candidate { conversation, sender, role, body, edits }).await
        }
        Action::Delete { .. } | Action::React { .. } => Decision::from(Disposition::Accepted),
    };
    conclude(permitted, decision)
}

fn conclude(permitted: Permitted, decision: Decision) -> Screening {
    let (annotations, decided_by) = (decision.annotations_json(), decision.by().cloned());
    let hold_reason = match decision.disposition {
        Disposition::Accepted => None,
        Disposition::Held { reason, .. } => Some(reason),
        Disposition::Discarded { by } => return Screening::Discarded { by },
        Disposition::Rejected(rejection) => return Screening::Rejected(rejection),
        Disposition::Failed { by, reason } => return Screening::Failed { by, reason },
    };
    let mut submitted = permitted.into_submitted();
    let is_replaced = decision.replacement.is_some();
    if let Some(Replacement { body: replaced, .. }) = decision.replacement {
        match &mut submitted.command.action {
            Action::Send { body, .. } | Action::Edit { body, .. } => *body = replaced,
            Action::Delete { .. } | Action::React { .. } => {}
        }
    }
    Screening::Screened(Screened { submitted, annotations, decided_by, hold_reason, is_replaced })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arcyou_protocol::Command;
    use arcyou_protocol::body::BodyLimits;
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn body(text: &str) -> Body {
        Body::parse(text, &BodyLimits { max_bytes: 100, max_depth: 3 }).unwrap()
    }

    fn permitted() -> Permitted {
        let (conversation, sender) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let action = Action::Send { body: body("{}"), reply_to: None };
        let command = Command { conversation, idempotency_key: Some("k".into()), action };
        Permitted::new(Submitted { sender, command }, "member".into())
    }

    fn by() -> Arc<Provenance> {
        Arc::new(Provenance { plugin: "p".into(), sha256: "00".into(), version: None })
    }

    fn conclude_with(disposition: Disposition, replacement: Option<Body>) -> Screening {
        let mut decision = Decision::from(disposition);
        decision.replacement = replacement.map(|body| Replacement { by: by(), body });
        conclude(permitted(), decision)
    }

    #[test]
    fn an_empty_chain_lets_everything_through_untouched() {
        let screening = screen(&Chain::default(), permitted(), None).now_or_never().unwrap();
        let Screening::Screened(screened) = screening else { panic!("it must stand") };
        assert_eq!(screened.replaced_body(), None);
        let (submitted, annotations, decided_by, hold_reason) = screened.into_parts();
        assert_eq!(submitted.command, permitted().into_submitted().command);
        assert_eq!((annotations, decided_by, hold_reason), (None, None, None));
    }

    #[test]
    fn what_stands_carries_the_last_body() {
        let replaced = body(r#"{"a":1}"#);
        let Screening::Screened(screened) = conclude_with(Disposition::Accepted, Some(replaced.clone())) else {
            panic!("it must stand")
        };
        assert_eq!(screened.replaced_body().as_ref(), Some(&replaced));
        let (submitted, _, decided_by, hold_reason) = screened.into_parts();
        assert_eq!(submitted.command.action, Action::Send { body: replaced, reply_to: None });
        assert_eq!((decided_by, hold_reason), (Some(by()), None));
        let held = Disposition::Held { by: by(), reason: "look".into() };
        let Screening::Screened(held) = conclude_with(held, None) else { panic!("it is kept") };
        let (submitted, _, decided_by, hold_reason) = held.into_parts();
        assert_eq!(submitted.command.action, Action::Send { body: body("{}"), reply_to: None });
        assert_eq!((decided_by, hold_reason.as_deref()), (Some(by()), Some("look")));
    }

    #[test]
    fn what_does_not_stand_cannot_be_stored() {
        let discarded = conclude_with(Disposition::Discarded { by: by() }, None);
        assert!(matches!(discarded, Screening::Discarded { .. }));
        let failed = conclude_with(Disposition::Failed { by: by(), reason: "why".into() }, None);
        assert!(matches!(failed, Screening::Failed { by, reason } if &*by.plugin == "p" && reason == "why"));
        let expected = Rejection { by: by(), code: "c".into(), reason: "r".into(), retry_after_ms: Some(5) };
        let Screening::Rejected(rejection) = conclude_with(Disposition::Rejected(expected.clone()), None) else {
            panic!("it is refused")
        };
        assert_eq!(rejection, expected);
    }
}
