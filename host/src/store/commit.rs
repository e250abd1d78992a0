//! One transaction for many messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arcyou_plugin_host::Provenance;
use arcyou_protocol::body::Body;
use arcyou_protocol::{Action, Command, StoredIds};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::rows::stored_ids;
use super::{ANSWER_WITHIN, Param, Store, StoreError, conclude, in_transaction, sql};
use crate::authorize::Submitted;
use crate::screen::Screened;

/// A message to be stored. Made from what the plugin chain let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    conversation: Uuid,
    sender: Uuid,
    body: Body,
    idempotency_key: Option<Box<str>>,
    /// A JSON object's text.
    annotations: Option<String>,
    decided_by: Option<Arc<Provenance>>,
    /// Why it is held for review; none if it is not.
    hold_reason: Option<String>,
}

impl NewMessage {
    /// The conversation it is for.
    pub fn conversation(&self) -> Uuid {
        self.conversation
    }

    /// Who sends it.
    pub fn sender(&self) -> Uuid {
        self.sender
    }

    /// The plugin that holds it or replaced its body.
    fn decided_by(&self) -> Option<&Provenance> {
        self.decided_by.as_deref()
    }

    /// Whether storing it twice is impossible, so that it may be tried again after an answer was lost.
    pub fn is_repeatable(&self) -> bool {
        self.idempotency_key.is_some()
    }
}

/// What a committed transaction did with one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is in `messages`; `repeated` if it was there before, under the same idempotency key.
    Stored {
        ids: StoredIds,
        /// Whether an earlier send stored it.
        repeated: bool,
    },
    /// It is in `held_messages`.
    Held {
        /// Its id there.
        id: i64,
        /// Whether an earlier send put it there.
        repeated: bool,
    },
    /// The sender does not participate, or there is no such conversation.
    Forbidden,
}

/// What an attempt did with one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    Committed(Committed),
    /// Somebody else holds the conversation's lock: nothing was done; only with [`Locking::SkipBusy`].
    Busy,
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
    /// by `connected_by`. Answers are in the order of `batch`. On an error nothing was stored, save for
    /// [`StoreError::Lost`].
    pub async fn commit(
        &self,
        batch: &[&NewMessage],
        locking: Locking,
        connected_by: Instant,
    ) -> Result<Vec<Attempted>, StoreError> {
        let client = self.client(connected_by).await?;
        let conversations: Vec<Uuid> = batch.iter().map(|m| m.conversation).collect();
        let senders: Vec<Uuid> = batch.iter().map(|m| m.sender).collect();
        let bodies: Vec<&str> = batch.iter().map(|m| m.body.as_str()).collect();
        let keys: Vec<Option<&str>> = batch.iter().map(|m| m.idempotency_key.as_deref()).collect();
        let annotations: Vec<Option<&str>> = batch.iter().map(|m| m.annotations.as_deref()).collect();
        let decided_by: Vec<Option<&str>> = batch.iter().map(|m| m.decided_by().map(|by| &*by.plugin)).collect();
        let hold_reasons: Vec<Option<&str>> = batch.iter().map(|m| m.hold_reason.as_deref()).collect();
        let wait = locking == Locking::Wait;
        let is_noted = self.audited && batch.iter().any(|m| m.decided_by.is_some());
        let versions = is_noted.then(|| column(batch, |by| by.version.as_deref()));
        let digests = is_noted.then(|| column(batch, |by| Some(&*by.sha256)));
        let parameters: [Param<'_>; 10] = [
            (&conversations, Type::UUID_ARRAY),
            (&senders, Type::UUID_ARRAY),
            (&bodies, Type::TEXT_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&annotations, Type::TEXT_ARRAY),
            (&decided_by, Type::TEXT_ARRAY),
            (&hold_reasons, Type::TEXT_ARRAY),
            (&wait, Type::BOOL),
            (&versions, Type::TEXT_ARRAY),
            (&digests, Type::TEXT_ARRAY),
        ];
        let rows = timeout(ANSWER_WITHIN, self.store_messages(&client, &parameters)).await;
        conclude(client, rows)?.iter().map(attempted).collect()
    }

    /// The statement, alone as long as the database lets it.
    async fn store_messages(&self, client: &Client, parameters: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        if !self.begins.load(Ordering::Relaxed) {
            let stored = client.query_typed(sql::STORE_MESSAGES, parameters).await;
            let level = SqlState::INAPPROPRIATE_ISOLATION_LEVEL_FOR_BRANCH_TRANSACTION;
            if stored.as_ref().err().and_then(Error::code) != Some(&level) {
                return stored;
            }
            self.begins.store(true, Ordering::Relaxed);
        }
        in_transaction(client, sql::BEGIN_READ_COMMITTED, sql::STORE_MESSAGES, parameters).await
    }
}

/// Something about the plugins that decided, where one did.
fn column<'a>(batch: &[&'a NewMessage], part: fn(&Provenance) -> Option<&str>) -> Vec<Option<&'a str>> {
    batch.iter().map(|message| message.decided_by().and_then(part)).collect()
}

fn attempted(row: &Row) -> Result<Attempted, StoreError> {
    let status: &str = row.try_get("status")?;
    outcome(status, row.try_get("id")?, stored_ids(row)?).ok_or_else(|| StoreError::unknown_status(status))
}

/// What a status of `store_messages` means; none if it is unknown, or contradicts the ids beside it.
fn outcome(status: &str, id: Option<i64>, ids: Option<StoredIds>) -> Option<Attempted> {
    Some(Attempted::Committed(match (status, ids) {
        ("stored", Some(ids)) => Committed::Stored { ids, repeated: false },
        ("stored before", Some(ids)) => Committed::Stored { ids, repeated: true },
        ("held", _) => Committed::Held { id: id?, repeated: false },
        ("held before", _) => Committed::Held { id: id?, repeated: true },
        ("forbidden", _) => Committed::Forbidden,
        ("busy", _) => return Some(Attempted::Busy),
        _ => return None,
    }))
}

impl From<Screened> for NewMessage {
    fn from(screened: Screened) -> Self {
        let (submitted, annotations, decided_by, hold_reason) = screened.into_parts();
        let Submitted { sender, command: Command { conversation, idempotency_key, action } } = submitted;
        let Action::Send { body } = action;
        Self { conversation, sender, body, idempotency_key, annotations, decided_by, hold_reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_status_is_not_taken_for_another() {
        let ids = || Some(StoredIds { id: 1, seq: 1, created_at: String::new() });
        assert_eq!(outcome("forbidden", None, None), Some(Attempted::Committed(Committed::Forbidden)));
        assert_eq!(outcome("busy", None, None), Some(Attempted::Busy));
        for (status, ids) in
            [("edited", None), ("edited", ids()), ("", None), ("stored", None), ("stored before", None), ("held", None)]
        {
            assert_eq!(outcome(status, None, ids), None, "{status}");
        }
        let held = Committed::Held { id: 7, repeated: true };
        assert_eq!(outcome("held before", Some(7), None), Some(Attempted::Committed(held)));
    }
}
