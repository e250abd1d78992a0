//! One transaction for many changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arcyou_platform::contract::{MESSAGE_CREATED, MESSAGE_DELETED, MESSAGE_EDITED, REACTION_ADDED, REACTION_REMOVED};
use arcyou_plugin_host::Provenance;
use arcyou_protocol::body::Body;
use arcyou_protocol::{Action, Command, Seq, StoredChange, StoredIds};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::answers::Answer;
use super::{ANSWER_WITHIN, Lease, Param, Store, StoreError, conclude, in_transaction, sql};
use crate::authorize::Submitted;
use crate::screen::Screened;

/// Different reactions that a message can have: more than a page shows, and little beside a body.
const MAX_REACTIONS: i32 = 50;

/// A change to be stored. Made from what the plugin chain let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    conversation: Uuid,
    sender: Uuid,
    action: Action,
    idempotency_key: Option<Box<str>>,
    /// A JSON object's text.
    annotations: Option<String>,
    decided_by: Option<Arc<Provenance>>,
    /// Why it is held for review; none if it is not.
    hold_reason: Option<String>,
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
    fn decided_by(&self) -> Option<&Provenance> {
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

    pub(super) fn action(&self) -> &Action {
        &self.action
    }

    fn body(&self) -> Option<&str> {
        match &self.action {
            Action::Send { body, .. } | Action::Edit { body, .. } => Some(Body::as_str(body)),
            Action::Delete { .. } | Action::React { .. } => None,
        }
    }

    fn reply_to(&self) -> Option<i64> {
        match self.action {
            Action::Send { reply_to, .. } => reply_to,
            _ => None,
        }
    }

    fn message_id(&self) -> Option<i64> {
        match self.action {
            Action::Send { .. } => None,
            Action::Edit { message_id, .. } | Action::Delete { message_id } | Action::React { message_id, .. } => {
                Some(message_id)
            }
        }
    }

    fn known_version(&self) -> Option<i32> {
        match self.action {
            Action::Edit { if_version, .. } => if_version,
            _ => None,
        }
    }

    fn reaction(&self) -> Option<&str> {
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
    /// Somebody else holds the conversation's lock: nothing was done; only with [`Locking::SkipBusy`].
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

/// What to do about a conversation that another transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// Leave its messages out and say so.
    SkipBusy,
    /// Wait for it, up to the lock time-out.
    Wait,
}

impl Store {
    /// Stores a batch in one statement, which is one transaction and one round trip, over a connection that must be had
    /// by `connected_by`. Answers are in the order of `batch`. For `told_within` workers leave what is stored to the
    /// caller. On an error nothing was stored, save for [`StoreError::Lost`].
    pub async fn commit(
        &self,
        batch: &[&NewChange],
        locking: Locking,
        told_within: Duration,
        connected_by: Instant,
    ) -> Result<Vec<Answered>, StoreError> {
        let client = self.client(connected_by).await?;
        let is_noted = self.audited && batch.iter().any(|c| c.decided_by.is_some());
        if let ([change], Locking::SkipBusy, false) = (batch, locking, is_noted)
            && change.is_message()
            && change.hold_reason.is_none()
        {
            return self.commit_one(client, change, told_within).await;
        }
        let conversations: Vec<Uuid> = batch.iter().map(|c| c.conversation).collect();
        let senders: Vec<Uuid> = batch.iter().map(|c| c.sender).collect();
        let bodies: Vec<Option<&str>> = batch.iter().map(|c| c.body()).collect();
        let reply_tos: Vec<Option<i64>> = batch.iter().map(|c| c.reply_to()).collect();
        let keys: Vec<Option<&str>> = batch.iter().map(|c| c.idempotency_key.as_deref()).collect();
        let annotations: Vec<Option<&str>> = batch.iter().map(|c| c.annotations.as_deref()).collect();
        let decided_by: Vec<Option<&str>> = batch.iter().map(|c| c.decided_by().map(|by| &*by.plugin)).collect();
        let hold_reasons: Vec<Option<&str>> = batch.iter().map(|c| c.hold_reason.as_deref()).collect();
        let wait = locking == Locking::Wait;
        let versions = is_noted.then(|| column(batch, |by| by.version.as_deref()));
        let digests = is_noted.then(|| column(batch, |by| Some(&*by.sha256)));
        let told_within = told_within.as_secs_f64();
        let mut parameters: Vec<Param<'_>> = vec![
            (&conversations, Type::UUID_ARRAY),
            (&senders, Type::UUID_ARRAY),
            (&bodies, Type::TEXT_ARRAY),
            (&reply_tos, Type::INT8_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&annotations, Type::TEXT_ARRAY),
            (&decided_by, Type::TEXT_ARRAY),
            (&hold_reasons, Type::TEXT_ARRAY),
            (&wait, Type::BOOL),
            (&versions, Type::TEXT_ARRAY),
            (&digests, Type::TEXT_ARRAY),
            (&told_within, Type::FLOAT8),
        ];
        // Messages alone, which most batches are, need less.
        let rows = if batch.iter().all(|c| c.is_message()) {
            timeout(ANSWER_WITHIN, self.store(&client, sql::STORE_MESSAGES, &parameters)).await
        } else {
            let kinds: Vec<&str> = batch.iter().map(|c| c.kind()).collect();
            let messages: Vec<Option<i64>> = batch.iter().map(|c| c.message_id()).collect();
            let known_versions: Vec<Option<i32>> = batch.iter().map(|c| c.known_version()).collect();
            let reactions: Vec<Option<&str>> = batch.iter().map(|c| c.reaction()).collect();
            let edit_seconds = self.rules.edit_within.map(|within| within.as_secs_f64());
            let others: [Param<'_>; 7] = [
                (&kinds, Type::TEXT_ARRAY),
                (&messages, Type::INT8_ARRAY),
                (&known_versions, Type::INT4_ARRAY),
                (&reactions, Type::TEXT_ARRAY),
                (&self.rules.delete_roles, Type::TEXT_ARRAY),
                (&edit_seconds, Type::FLOAT8),
                (&MAX_REACTIONS, Type::INT4),
            ];
            parameters.extend(others);
            timeout(ANSWER_WITHIN, self.store(&client, sql::STORE_CHANGES, &parameters)).await
        };
        let rows = conclude(client, rows)?;
        if rows.len() != batch.len() {
            return Err(StoreError::NotUnderstood(format!("{} answers for {} changes", rows.len(), batch.len())));
        }
        rows.iter().zip(batch).map(|(row, change)| Answer::of_row(row, change)?.understood(change)).collect()
    }

    /// The same for a message alone, which is most of what comes at a quiet time.
    async fn commit_one(
        &self,
        client: Lease,
        change: &NewChange,
        told_within: Duration,
    ) -> Result<Vec<Answered>, StoreError> {
        let decided_by = change.decided_by().map(|by| &*by.plugin);
        let told_within = told_within.as_secs_f64();
        let parameters: [Param<'_>; 8] = [
            (&change.conversation, Type::UUID),
            (&change.sender, Type::UUID),
            (&change.body(), Type::TEXT),
            (&change.reply_to(), Type::INT8),
            (&change.idempotency_key.as_deref(), Type::TEXT),
            (&change.annotations, Type::TEXT),
            (&decided_by, Type::TEXT),
            (&told_within, Type::FLOAT8),
        ];
        let rows = timeout(ANSWER_WITHIN, self.store(&client, sql::STORE_MESSAGE, &parameters)).await;
        let rows = conclude(client, rows)?;
        let row = rows.first().ok_or_else(|| StoreError::NotUnderstood("no answer for a message".to_owned()))?;
        Ok(vec![Answer::of_texts(row.try_get(0)?)?.understood(change)?])
    }

    /// The statement, alone as long as the database lets it.
    async fn store(&self, client: &Client, statement: &str, parameters: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        if !self.begins.load(Ordering::Relaxed) {
            let stored = client.query_typed(statement, parameters).await;
            let level = SqlState::INAPPROPRIATE_ISOLATION_LEVEL_FOR_BRANCH_TRANSACTION;
            if stored.as_ref().err().and_then(Error::code) != Some(&level) {
                return stored;
            }
            self.begins.store(true, Ordering::Relaxed);
        }
        in_transaction(client, sql::BEGIN_READ_COMMITTED, statement, parameters).await
    }
}

/// Something about the plugins that decided, where one did.
fn column<'a>(batch: &[&'a NewChange], part: fn(&Provenance) -> Option<&str>) -> Vec<Option<&'a str>> {
    batch.iter().map(|change| change.decided_by().and_then(part)).collect()
}

#[cfg(test)]
impl NewChange {
    /// A change without anything special.
    pub(crate) fn plain(conversation: Uuid, sender: Uuid) -> Self {
        let action = Action::Delete { message_id: 1 };
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
