//! Messages that plugins held for review, and what reviewers decide about them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use arcyou_protocol::StoredIds;
use futures_util::future::join5;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::rows::stored_ids;
use super::{ANSWER_WITHIN, Param, Store, StoreError, conclude, sql};

/// A message that waits for a decision.
#[derive(Debug, Clone, Serialize)]
pub struct HeldMessage {
    /// `held_messages.id`: not the id that it gets when it is released.
    pub id: i64,
    /// Where it was sent.
    pub conversation_id: Uuid,
    pub sender_id: Uuid,
    /// Whether the sender participates in the conversation now.
    pub sender_participates: bool,
    /// As the plugins left it.
    pub body: Box<RawValue>,
    /// The message whose text it is to replace; none: it is a message of its own.
    pub edits: Option<i64>,
    /// The plugin that held it.
    pub held_by: String,
    /// Why, in the plugin's words.
    pub reason: String,
    /// When, in UTC, as RFC 3339 text.
    pub created_at: String,
}

/// A held message that became one of its conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The id that it had while it was held.
    pub id: i64,
    /// What it is known by now.
    #[serde(flatten)]
    pub message: StoredIds,
}

/// What a reviewer decided about a held message. Kept as long as audit rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReviewDecision {
    /// Of the audit row.
    pub id: i64,
    /// When, in UTC, as RFC 3339 text.
    pub decided_at: String,
    /// The id that the message had while it was held: the `held_id` of the reply to its sender.
    pub held_id: i64,
    /// `released` or `refused`.
    pub verdict: String,
    pub reviewer: String,
    pub conversation_id: Uuid,
    pub sender_id: Uuid,
    /// The plugin that held it.
    pub held_by: String,
    /// What it became; none if it was refused.
    pub message_id: Option<i64>,
}

/// Which decisions to list, newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionPage {
    /// In this conversation alone.
    pub conversation: Option<Uuid>,
    /// Those before this audit row.
    pub before: Option<i64>,
    /// About this held message alone.
    pub held: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// What waits for a reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingForReview {
    pub count: i64,
    /// How long the oldest has waited; zero if there is none.
    pub oldest: Duration,
}

/// Who decides about held messages, as the log and the audit rows name them. It is what they say of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewer(String);

/// A text that cannot be a [`Reviewer`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {} characters, none of them a control character", Reviewer::MAX_CHARS)]
pub struct NoReviewer;

impl Reviewer {
    /// Enough for a name or an address, and too little to hide a line of the log.
    pub const MAX_CHARS: usize = 100;
}

impl FromStr for Reviewer {
    type Err = NoReviewer;

    fn from_str(text: &str) -> Result<Self, NoReviewer> {
        let name = text.trim();
        let usable = (1..=Self::MAX_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if usable { Ok(Self(name.to_owned())) } else { Err(NoReviewer) }
    }
}

impl fmt::Display for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which held messages to list, oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldPage {
    /// Of this conversation alone.
    pub conversation: Option<Uuid>,
    /// Those after this id.
    pub after: i64,
    /// At most so many.
    pub limit: i64,
}

impl HeldPage {
    /// Rows of a page, unless somebody asks for another number.
    pub const DEFAULT_LIMIT: i64 = 100;
    /// Rows of the largest page.
    pub const MAX_LIMIT: i64 = 10_000;
}

impl Store {
    /// What waits for a reviewer.
    pub async fn waiting_for_review(&self) -> Result<WaitingForReview, StoreError> {
        let rows = self.query(sql::WAITING_FOR_REVIEW, &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotUnderstood("no count".to_owned()))?;
        let oldest = Duration::try_from_secs_f64(row.try_get("oldest")?).unwrap_or_default();
        Ok(WaitingForReview { count: row.try_get("count")?, oldest })
    }

    /// Messages that wait for a decision.
    pub async fn held(&self, page: HeldPage) -> Result<Vec<HeldMessage>, StoreError> {
        let HeldPage { conversation, after, limit } = page;
        let rows =
            self.query(sql::HELD, &[(&conversation, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)]).await?;
        rows.iter().map(held).collect()
    }

    /// What reviewers decided.
    pub async fn review_decisions(&self, page: DecisionPage) -> Result<Vec<ReviewDecision>, StoreError> {
        let DecisionPage { conversation, before, held, limit } = page;
        let parameters: [Param<'_>; 4] =
            [(&conversation, Type::UUID), (&before, Type::INT8), (&held, Type::INT8), (&limit, Type::INT8)];
        self.query(sql::DECISIONS, &parameters).await?.iter().map(review_decision).collect()
    }

    /// Gives a held message its place at the end of its conversation, and a held edit to its message, under the same lock
    /// as any message, and has it broadcast; also if its sender left since. None if nothing waits for a decision under
    /// this id. Log and audit rows say who decided, whatever `PLUGIN_AUDIT` says of plugins.
    pub async fn release(&self, id: i64, by: &Reviewer) -> Result<Option<Released>, StoreError> {
        let _turn = self.turns.take(None, ANSWER_WITHIN).await?;
        let client = self.client(Instant::now() + ANSWER_WITHIN).await?;
        let row = timeout(ANSWER_WITHIN, release(&client, id, by)).await;
        let Some(row) = conclude(client, row).map_err(StoreError::of_change)? else { return Ok(None) };
        let message =
            stored_ids(&row)?.ok_or_else(|| StoreError::Unknown("a released message without its ids".to_owned()))?;
        tracing::info!(held_id = id, message_id = message.id, reviewer = %by, "a held message was released");
        Ok(Some(Released { id, message }))
    }

    /// Decides that a held message is never shown. Answers whether it waited for a decision.
    pub async fn refuse(&self, id: i64, by: &Reviewer) -> Result<bool, StoreError> {
        let parameters: [Param<'_>; 2] = [(&id, Type::INT8), (&by.0, Type::TEXT)];
        let waited = !self.change_in(sql::BEGIN_RELEASE, None, sql::REFUSE, &parameters).await?.is_empty();
        if waited {
            tracing::info!(held_id = id, reviewer = %by, "a held message was refused");
        }
        Ok(waited)
    }

    /// Removes the messages that were refused first, at most `limit`, where that is longer ago than `age`. Answers how
    /// many. A repeated send with the same idempotency key is a new one after that.
    pub async fn prune_refused(&self, age: Duration, limit: i64) -> Result<u64, StoreError> {
        let seconds = age.as_secs_f64();
        let rows = self.query(sql::REFUSED_PRUNE, &[(&seconds, Type::FLOAT8), (&limit, Type::INT8)]).await?;
        Ok(rows.len() as u64)
    }
}

async fn release(client: &Client, id: i64, by: &Reviewer) -> Result<Option<Row>, Error> {
    let parameters: [Param<'_>; 2] = [(&id, Type::INT8), (&by.0, Type::TEXT)];
    let (begun, locked, message, edit, ended) = join5(
        client.batch_execute(sql::BEGIN_RELEASE),
        client.query_typed(sql::LOCK_HELD, &parameters[..1]),
        client.query_typed(sql::RELEASE, &parameters),
        client.query_typed(sql::RELEASE_EDIT, &parameters),
        client.batch_execute("COMMIT"),
    )
    .await;
    begun?;
    locked?;
    let (message, edit) = (message?, edit?);
    ended?;
    Ok(message.into_iter().chain(edit).next())
}

fn held(row: &Row) -> Result<HeldMessage, StoreError> {
    Ok(HeldMessage {
        id: row.try_get("id")?,
        conversation_id: row.try_get("conversation_id")?,
        sender_id: row.try_get("sender_id")?,
        sender_participates: row.try_get("sender_participates")?,
        body: RawValue::from_string(row.try_get("body")?)
            .map_err(|error| StoreError::NotUnderstood(format!("a held body: {error}")))?,
        edits: row.try_get("edits")?,
        held_by: row.try_get("held_by")?,
        reason: row.try_get("reason")?,
        created_at: row.try_get("created_at")?,
    })
}

fn review_decision(row: &Row) -> Result<ReviewDecision, StoreError> {
    Ok(ReviewDecision {
        id: row.try_get("id")?,
        decided_at: row.try_get("decided_at")?,
        held_id: row.try_get("held_id")?,
        verdict: row.try_get("verdict")?,
        reviewer: row.try_get("reviewer")?,
        conversation_id: row.try_get("conversation_id")?,
        sender_id: row.try_get("sender_id")?,
        held_by: row.try_get("held_by")?,
        message_id: row.try_get("message_id")?,
    })
}
