//! A change to be stored, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::contract::{MESSAGE_CREATED, MESSAGE_DELETED, MESSAGE_EDITED, REACTION_ADDED, REACTION_REMOVED};
use arcyou_plugin_host::Provenance;
use arcyou_protocol::body::Body;
use arcyou_protocol::{Action, Command, Seq, StoredChange, StoredIds};
use uuid::Uuid;

use crate::authorize::Submitted;
use crate::screen::Screened;

/// Who may change what. Decided under the conversation's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRules {
    /// Roles that delete the messages of others.
    pub delete_roles: Vec<String>,
    /// How long a message can be edited; none: for ever.
    pub edit_within: Option<Duration>,
}

impl Default for ChangeRules {
    fn default() -> Self {
        Self { delete_roles: ["owner", "admin", "moderator"].map(str::to_owned).into(), edit_within: None }
    }
}

/// A change to be stored. Made from what the plugin chain let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    pub(super) conversation: Uuid,
    pub(super) sender: Uuid,
    pub(super) action: Action,
    pub(super) idempotency_key: Option<Box<str>>,
    /// A JSON object's text.
    pub(super) annotations: Option<String>,
    pub(super) decided_by: Option<Arc<Provenance>>,
    /// Why it is held for review; none if it is not.
    pub(super) hold_reason: Option<String>,
}

impl NewChange {
    /// The conversation it is for.
    pub fn conversation(&self) -> Uuid {
        self.conversation
    }

    /// Who makes it.
    pub fn sender(&self) -> Uuid {
        self.sender
    }

    /// The plugin that holds it or replaced its body.
    pub(super) fn decided_by(&self) -> Option<&Provenance> {
        self.decided_by.as_deref()
    }

    /// Whether making it twice is impossible, so that it may be tried again after an answer was lost.
    pub fn is_repeatable(&self) -> bool {
        match self.action {
            Action::Send { .. } | Action::Edit { .. } => self.idempotency_key.is_some(),
            Action::Delete { .. } | Action::React { .. } => true,
        }
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(self.action, Action::Send { .. })
    }

    /// The type of the event that tells of it.
    pub(super) fn kind(&self) -> &'static str {
        match self.action {
            Action::Send { .. } => MESSAGE_CREATED,
            Action::Edit { .. } => MESSAGE_EDITED,
            Action::Delete { .. } => MESSAGE_DELETED,
            Action::React { remove: false, .. } => REACTION_ADDED,
            Action::React { remove: true, .. } => REACTION_REMOVED,
        }
    }

    pub(super) fn body(&self) -> Option<&str> {
        match &self.action {
            Action::Send { body, .. } | Action::Edit { body, .. } => Some(Body::as_str(body)),
            Action::Delete { .. } | Action::React { .. } => None,
        }
    }

    pub(super) fn reply_to(&self) -> Option<i64> {
        match self.action {
            Action::Send { reply_to, .. } => reply_to,
            _ => None,
        }
    }

    pub(super) fn message_id(&self) -> Option<i64> {
        match self.action {
            Action::Send { .. } => None,
            Action::Edit { message_id, .. } | Action::Delete { message_id, .. } | Action::React { message_id, .. } => {
                Some(message_id)
            }
        }
    }

    pub(super) fn known_version(&self) -> Option<i32> {
        match self.action {
            Action::Edit { if_version, .. } | Action::Delete { if_version, .. } => if_version,
            _ => None,
        }
    }

    pub(super) fn reaction(&self) -> Option<&str> {
        match &self.action {
            Action::React { reaction, .. } => Some(reaction),
            _ => None,
        }
    }
}

/// What a committed transaction did with one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The message is in `messages`; `repeated` if it was there before, under the same idempotency key.
    Stored {
        ids: StoredIds,
        /// Whether an earlier send stored it.
        repeated: bool,
    },
    /// The message was edited or deleted.
    Changed {
        change: StoredChange,
        /// Whether an earlier request did it.
        repeated: bool,
    },
    /// The message has the reaction, or has it no more.
    Reacted {
        /// How often it has it now.
        count: i32,
        /// Of the change that made it so; none: it never had it.
        seq: Option<Seq>,
        /// Whether it was so before.
        repeated: bool,
    },
    /// It is in `held_messages`.
    Held {
        /// Its id there.
        id: i64,
        /// Whether an earlier request put it there.
        repeated: bool,
    },
    /// The sender does not participate, or there is no such conversation.
    Forbidden,
    /// The message that it is about does not let it.
    Refused(ChangeRefusal),
}

/// Why a message is not changed, or not replied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeRefusal {
    UnknownMessage,
    Deleted,
    NotAuthor,
    TooLate,
    /// This version stands.
    VersionConflict(i32),
    TooManyReactions,
    /// Nobody sends, edits or gives reactions in this conversation.
    ReadOnly,
    /// The only other participant has blocked the user.
    Blocked,
    /// The idempotency key is of a change of another message.
    OtherMessage,
}

/// What an attempt did with one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    Committed(Committed),
    /// Somebody else holds the conversation's lock: nothing was done; only with [`super::Locking::SkipBusy`].
    Busy,
}

/// What an attempt did with one change, and the event that tells of it if this attempt has stored it.
#[derive(Debug)]
pub struct Answered {
    pub attempted: Attempted,
    pub event: Option<StoredEvent>,
}

/// The event that tells of a change, as the outbox has it.
#[derive(Debug)]
pub struct StoredEvent {
    /// The outbox row's id.
    pub id: i64,
    /// Its type.
    pub kind: &'static str,
    pub conversation: Uuid,
    /// The change's place in the conversation.
    pub seq: Seq,
    /// JSON text, as PostgreSQL writes it.
    pub payload: String,
}

#[cfg(test)]
impl NewChange {
    /// A change without anything special.
    pub(crate) fn plain(conversation: Uuid, sender: Uuid) -> Self {
        let action = Action::Delete { message_id: 1, if_version: None };
        Self {
            conversation,
            sender,
            action,
            idempotency_key: None,
            annotations: None,
            decided_by: None,
            hold_reason: None,
        }
    }
}

impl From<Screened> for NewChange {
    fn from(screened: Screened) -> Self {
        let (submitted, annotations, decided_by, hold_reason) = screened.into_parts();
        let Submitted { sender, command: Command { conversation, idempotency_key, action } } = submitted;
        Self { conversation, sender, action, idempotency_key, annotations, decided_by, hold_reason }
    }
}
