//! One transaction for many changes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use arcyou_plugin_host::Provenance;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::answers::Answer;
use super::change::{Answered, NewChange};
use super::{ANSWER_WITHIN, Lease, Param, Store, StoreError, conclude, in_transaction, sql};

/// Different reactions that a message can have: more than a page shows, and little beside a body.
const MAX_REACTIONS: i32 = 50;

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
        let is_plain = |change: &&NewChange| change.is_message() && change.hold_reason.is_none();
        if let (Some(statement), Locking::SkipBusy, false) = (sql::store_few(batch.len()), locking, is_noted)
            && batch.iter().all(is_plain)
        {
            return self.commit_few(client, statement, batch, told_within).await;
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

    /// The same for a few plain messages, which is most of what comes at a quiet time.
    async fn commit_few(
        &self,
        client: Lease,
        statement: &str,
        batch: &[&NewChange],
        told_within: Duration,
    ) -> Result<Vec<Answered>, StoreError> {
        let told_within = told_within.as_secs_f64();
        let values: Vec<_> = batch
            .iter()
            .map(|c| (c.body(), c.reply_to(), c.idempotency_key.as_deref(), c.decided_by().map(|by| &*by.plugin)))
            .collect();
        let mut parameters: Vec<Param<'_>> = vec![(&told_within, Type::FLOAT8)];
        for (change, (body, reply_to, key, decided_by)) in batch.iter().zip(&values) {
            parameters.extend::<[Param<'_>; 7]>([
                (&change.conversation, Type::UUID),
                (&change.sender, Type::UUID),
                (body, Type::TEXT),
                (reply_to, Type::INT8),
                (key, Type::TEXT),
                (&change.annotations, Type::TEXT),
                (decided_by, Type::TEXT),
            ]);
        }
        let rows = timeout(ANSWER_WITHIN, self.store(&client, statement, &parameters)).await;
        let rows = conclude(client, rows)?;
        let row = rows.first().ok_or_else(|| StoreError::NotUnderstood("no answer for messages".to_owned()))?;
        let answer = |(place, change): (usize, &&NewChange)| Answer::of_texts(row.try_get(place)?)?.understood(change);
        batch.iter().enumerate().map(answer).collect()
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
