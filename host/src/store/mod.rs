//! The gateway's side of PostgreSQL. Statements are in [`sql`] and [`user_sql`], what they mean for callers is here.

mod answers;
mod api_keys;
mod audit;
mod blocks;
mod change;
mod commit;
mod cutoffs;
mod directory;
mod erase;
mod error;
mod export;
mod gate;
mod needs;
mod page;
mod participation;
mod place;
mod review;
mod rows;
mod sql;
mod user_sql;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arcyou_platform::contract::{EventKey, READ_EVENT_KEY};
use arcyou_platform::database::{Fault, Lease};
use arcyou_platform::outage_log::OutageLog;
use arcyou_protocol::{Failure, Seq, StoredChange, StoredIds};
use async_trait::async_trait;
use deadpool_postgres::{Pool, Status};
use futures_util::future::join3;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::authorize::Participants;

pub use api_keys::{ApiKey, ListedKey};
pub use audit::AuditEntry;
pub use blocks::BlockedUser;
pub use change::{Answered, Attempted, ChangeRefusal, Committed, NewChange, StoredEvent};
pub use commit::Locking;
pub use cutoffs::{Cutoff, CutoffPage, CutoffPlace};
pub use directory::{Conversation, ConversationChange, Membership, NewConversation, Participant, PutParticipants};
pub use erase::ErasedPart;
pub use error::StoreError;
pub use export::{Export, ExportPage, Exported, ExportedLine};
pub use gate::SchemaGate;
pub use needs::NEEDS;
pub use page::{Page, PageLimits};
pub use participation::Participation;
pub use place::{MessagePlace, NoPlace};
pub use review::{
    DecisionPage, HeldMessage, HeldPage, NoReviewer, Released, ReviewDecision, Reviewer, WaitingForReview,
};

/// A message as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the conversation.
    pub seq: Seq,
    /// The message object's JSON text, as clients see it.
    pub json: String,
}

/// A change as it is told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// Its place in the conversation.
    pub seq: Seq,
    /// Its event's `type`.
    pub kind: String,
    /// The payload's JSON text.
    pub payload: String,
}

/// A part of a conversation's changes, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// What fits; empty only if there is nothing.
    pub items: Vec<ChangeEvent>,
    /// Whether there are more after these.
    pub more: bool,
    /// If some of what was asked for is purged: the newest change that is. The page begins after it.
    pub purged: Option<Seq>,
}

/// A message that somebody wants to edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingMessage {
    /// Who wrote it.
    pub sender: Uuid,
    pub version: i32,
    /// The body's text; none: it is deleted.
    pub body: Option<String>,
}

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

/// An event other than a change, from the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    pub id: i64,
    /// Its `type`.
    pub kind: String,
    /// The conversation that hears of it.
    pub conversation_id: Uuid,
    /// The payload's JSON text.
    pub payload: String,
}

/// Whether a read mark that moves is told to its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    Now,
    Later,
}

/// A member (conversation, user) and the role that it is known by.
pub type MemberRole = (Uuid, Uuid, Arc<str>);

/// What became of a participant's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    pub conversation: Uuid,
    pub user: Uuid,
    /// None: the user does not participate any more.
    pub role: Option<String>,
}

/// How far the relay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxProgress {
    /// The newest row of the outbox, or 0.
    pub newest: i64,
    /// None: everything is relayed.
    pub oldest: Option<OldestPending>,
}

impl OutboxProgress {
    /// How long the oldest row has waited.
    pub fn lag(&self) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| oldest.age)
    }

    /// Every row below this id is relayed, but for some that were committed late.
    pub fn relayed_up_to(&self) -> i64 {
        self.oldest.map_or(self.newest + 1, |oldest| oldest.id)
    }
}

/// The oldest row of the outbox that no worker has relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestPending {
    pub id: i64,
    /// The time since its transaction began.
    pub age: Duration,
}

/// Where an idempotency key was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExistingSend {
    /// The message is stored.
    Stored {
        ids: StoredIds,
        /// Its body's text, if a plugin decided about it: it may be another one than was sent.
        body: Option<String>,
    },
    /// The message is held for review, under this id.
    Held(i64),
}

/// Where an edit's idempotency key was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExistingEdit {
    /// The edit is stored.
    Stored { message_id: i64, change: StoredChange },
    /// The edit is held for review.
    Held {
        message_id: i64,
        /// In `held_messages`.
        id: i64,
    },
}

impl ExistingEdit {
    /// The message that it edits.
    pub fn message_id(&self) -> i64 {
        match self {
            Self::Stored { message_id, .. } | Self::Held { message_id, .. } => *message_id,
        }
    }
}

/// What became of a reader's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMark {
    /// The mark stands here now, whether it moved or stood further ahead already.
    At {
        /// `participants.last_read_id`.
        last_read_id: i64,
        /// Whether this call moved it.
        moved: bool,
    },
    /// The conversation never had such a message.
    UnknownMessage,
    /// The user does not participate.
    NotParticipant,
}

/// A window on a conversation's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Newest first, below this `seq`.
    Before(Seq),
    /// Oldest first, above this `seq`.
    After(Seq),
}

/// The longest that anybody waits for an answer. Longer than the time-outs inside the database: past it the connection
/// is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The gateway's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    /// Whether what plugins did to a message is noted in its transaction.
    audited: bool,
    rules: Arc<ChangeRules>,
    /// Whether the database's isolation level is so strict that a batch must ask for its own.
    begins: Arc<AtomicBool>,
    schema: SchemaGate,
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

impl Store {
    /// A store over a pool that may lead through PgBouncer.
    pub fn new(pool: Pool) -> Self {
        Self { pool, audited: false, rules: Arc::default(), begins: Arc::default(), schema: SchemaGate::open() }
    }

    /// The same, which waits for the gate to open as it waits for a connection.
    pub fn behind_gate(self, schema: SchemaGate) -> Self {
        Self { schema, ..self }
    }

    /// The same, noting in a message's transaction what plugins did to it, or not.
    pub fn audited(self, audited: bool) -> Self {
        Self { audited, ..self }
    }

    /// The same with these rules for changes.
    pub fn ruled(self, rules: ChangeRules) -> Self {
        Self { rules: Arc::new(rules), ..self }
    }

    /// How many connections there are, and who waits for one.
    pub fn pool_status(&self) -> Status {
        self.pool.status()
    }

    /// Whether the database answers and takes writes.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let client = self.connection(until).await?;
        let rows = timeout_at(until, client.query_typed(sql::READ_ONLY, &[])).await;
        let rows = conclude(client, rows)?;
        if rows.first().map(|row| row.try_get(0)).transpose()? == Some(true) {
            // New connections may lead to a server that is not.
            self.pool.retain(|_, _| false);
            return Err(StoreError::Unreachable("it is read-only".to_owned()));
        }
        if let Some(line) = REQUESTS.quiet(std::time::Instant::now()) {
            let (seconds, failures) = (line.lasted.as_secs(), line.failures);
            tracing::info!(seconds, failures, "the database answers requests again");
        }
        Ok(())
    }

    /// How far the relay has come. Rows before `from` are not looked at.
    pub async fn outbox_progress(&self, from: i64) -> Result<OutboxProgress, StoreError> {
        let rows = self.query(sql::OUTBOX_PROGRESS, &[(&from, Type::INT8)]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotUnderstood("no progress".to_owned()))?;
        let oldest = match row.try_get("id")? {
            None => None,
            Some(id) => {
                Some(OldestPending { id, age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default() })
            }
        };
        Ok(OutboxProgress { newest: row.try_get("newest")?, oldest })
    }

    /// Marks rows of the outbox as told, but for those that a worker holds.
    pub async fn mark_told(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.query(sql::MARK_TOLD, &[(&ids, Type::INT8_ARRAY)]).await.map(drop)
    }

    /// The earlier message of this sender with this key, if there is one.
    pub async fn find_by_key(
        &self,
        conversation: Uuid,
        sender: Uuid,
        key: &str,
    ) -> Result<Option<ExistingSend>, StoreError> {
        let rows = self
            .query(sql::FIND_BY_KEY, &[(&conversation, Type::UUID), (&sender, Type::UUID), (&key, Type::TEXT)])
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(match rows::stored_ids(row)? {
            Some(ids) => ExistingSend::Stored { ids, body: row.try_get("body")? },
            None => ExistingSend::Held(row.try_get("id")?),
        }))
    }

    /// The earlier edit of this user with this key, if there is one.
    pub async fn find_edit_by_key(
        &self,
        conversation: Uuid,
        user: Uuid,
        key: &str,
    ) -> Result<Option<ExistingEdit>, StoreError> {
        let parameters: [Param<'_>; 3] = [(&conversation, Type::UUID), (&user, Type::UUID), (&key, Type::TEXT)];
        let rows = self.query(sql::FIND_EDIT_BY_KEY, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let message_id = row.try_get("message_id")?;
        Ok(Some(match rows::stored_change(row)? {
            Some(change) => ExistingEdit::Stored { message_id, change },
            None => ExistingEdit::Held { message_id, id: row.try_get("held_id")? },
        }))
    }

    /// A message as it stands; none if the conversation has no such message.
    pub async fn standing_message(
        &self,
        conversation: Uuid,
        message_id: i64,
    ) -> Result<Option<StandingMessage>, StoreError> {
        let parameters: [Param<'_>; 2] = [(&conversation, Type::UUID), (&message_id, Type::INT8)];
        let rows = self.query(sql::STANDING_MESSAGE, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(StandingMessage {
            sender: row.try_get("sender_id")?,
            version: row.try_get("version")?,
            body: row.try_get("body")?,
        }))
    }

    /// A page of a conversation's messages as `viewer` sees them, or of one of them and the replies to it.
    pub async fn messages(
        &self,
        conversation: Uuid,
        window: Window,
        limits: PageLimits,
        viewer: Uuid,
        thread: Option<i64>,
    ) -> Result<Page<StoredMessage>, StoreError> {
        let (after, before) = match window {
            Window::After(seq) => (Some(seq), None),
            Window::Before(seq) => (None, Some(seq)),
        };
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 7] = [
            (&conversation, Type::UUID),
            (&after, Type::INT8),
            (&before, Type::INT8),
            (&most_rows, Type::INT8),
            (&most_bytes, Type::INT8),
            (&viewer, Type::UUID),
            (&thread, Type::INT8),
        ];
        page::page(self.query(sql::READ_MESSAGES, &parameters).await?, |row| {
            let (seq, json) = (row.try_get(0)?, row.try_get::<_, Option<String>>(1)?);
            Ok(json.map(|json| StoredMessage { seq, json }))
        })
    }

    /// A page of a conversation's changes after `after`, as they are told now, oldest first.
    pub async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, StoreError> {
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 4] =
            [(&conversation, Type::UUID), (&after, Type::INT8), (&most_rows, Type::INT8), (&most_bytes, Type::INT8)];
        let mut rows = self.query(sql::READ_CHANGES, &parameters).await?;
        let first = rows.first().map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get::<_, Option<&str>>(1)?)));
        let purged = first.transpose()?.and_then(|(seq, kind)| kind.is_none().then_some(seq));
        if purged.is_some() {
            rows.remove(0);
        }
        let Page { items, more } = page::page(rows, |row| {
            let Some(payload) = row.try_get(2)? else { return Ok(None) };
            Ok(Some(ChangeEvent { seq: row.try_get(0)?, kind: row.try_get(1)?, payload }))
        })?;
        Ok(ChangePage { items, more, purged })
    }

    /// Moves a reader's mark forward, never back.
    pub async fn mark_read(
        &self,
        conversation: Uuid,
        user: Uuid,
        message_id: i64,
        tell: Tell,
    ) -> Result<ReadMark, StoreError> {
        let now = tell == Tell::Now;
        let parameters: [Param<'_>; 4] =
            [(&conversation, Type::UUID), (&user, Type::UUID), (&message_id, Type::INT8), (&now, Type::BOOL)];
        // Under a stricter isolation level two marks at once would fail one another.
        let rows = self.transaction(sql::BEGIN_READ_COMMITTED, sql::MARK_READ, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(ReadMark::NotParticipant) };
        if !row.try_get::<_, bool>(0)? {
            return Ok(ReadMark::UnknownMessage);
        }
        Ok(ReadMark::At { last_read_id: row.try_get(1)?, moved: row.try_get(2)? })
    }

    /// Tells conversations of the read marks of these (conversation, user) pairs.
    pub async fn tell_read_marks(&self, readers: &[(Uuid, Uuid)]) -> Result<(), StoreError> {
        let (conversations, users): (Vec<Uuid>, Vec<Uuid>) = readers.iter().copied().unzip();
        let parameters: [Param<'_>; 2] = [(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY)];
        self.query(sql::TELL_READ_MARKS, &parameters).await.map(drop)
    }

    /// Of these rooms (conversation, last delivered `seq`) those whose conversation has gone further.
    pub async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, StoreError> {
        let (ids, delivered): (Vec<Uuid>, Vec<Seq>) = rooms.iter().copied().unzip();
        let rows = self.query(sql::BEHIND, &[(&ids, Type::UUID_ARRAY), (&delivered, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// A page of events other than changes for these conversations, with an outbox id above `after_id`, by id.
    pub async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, StoreError> {
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 4] = [
            (&conversations, Type::UUID_ARRAY),
            (&after_id, Type::INT8),
            (&most_rows, Type::INT8),
            (&most_bytes, Type::INT8),
        ];
        page::page(self.transaction(sql::BEGIN_READ_EVENTS, sql::READ_EVENTS, &parameters).await?, |row| {
            let Some(payload) = row.try_get(3)? else { return Ok(None) };
            Ok(Some(OutboxEvent {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                conversation_id: row.try_get(2)?,
                payload,
            }))
        })
    }

    /// The newest outbox id, or 0.
    pub async fn newest_outbox_id(&self) -> Result<i64, StoreError> {
        let rows = self.query(sql::NEWEST_OUTBOX_ID, &[]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// The key of this installation's events.
    pub async fn event_key(&self) -> Result<EventKey, StoreError> {
        let rows = self.query(READ_EVENT_KEY, &[]).await?;
        let secret = rows.first().map(|row| row.try_get(0)).transpose()?;
        secret.map(EventKey::new).ok_or_else(|| StoreError::NotUnderstood("the table installation is empty".to_owned()))
    }

    /// Of these members those whose role is another by now.
    pub async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, StoreError> {
        let conversations: Vec<Uuid> = members.iter().map(|(conversation, ..)| *conversation).collect();
        let users: Vec<Uuid> = members.iter().map(|(_, user, _)| *user).collect();
        let roles: Vec<&str> = members.iter().map(|(.., role)| &**role).collect();
        let parameters: [Param<'_>; 3] =
            [(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY), (&roles, Type::TEXT_ARRAY)];
        let rows = self.query(sql::CHANGED_ROLES, &parameters).await?;
        let change = |row: &Row| {
            let (conversation, user) = (row.try_get("conversation_id")?, row.try_get("user_id")?);
            Ok(RoleChange { conversation, user, role: row.try_get("role")? })
        };
        rows.iter().map(change).collect()
    }

    /// Of these conversations those that do not exist.
    pub async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let rows = self.query(sql::ABSENT, &[(&conversations, Type::UUID_ARRAY)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Of these (conversation, user) pairs those that do not participate any more.
    pub async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
        let (conversations, users): (Vec<Uuid>, Vec<Uuid>) = members.iter().copied().unzip();
        let rows = self
            .query(sql::NOT_PARTICIPANTS, &[(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY)])
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// One statement, within the bound that a waiting client can be expected to bear.
    async fn query(&self, statement: &str, parameters: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let client = self.client(until).await?;
        let rows = timeout_at(until, client.query_typed(statement, parameters)).await;
        conclude(client, rows)
    }

    /// The same in a transaction that begins so; still one round trip.
    async fn transaction(
        &self,
        begin: &str,
        statement: &str,
        parameters: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let client = self.client(until).await?;
        let rows = timeout_at(until, in_transaction(&client, begin, statement, parameters)).await;
        conclude(client, rows)
    }

    /// A connection that goes back to the pool only when it is released: one whose statement is still under way,
    /// because nobody waited for it, must not answer the next borrower.
    async fn client(&self, until: Instant) -> Result<Lease, StoreError> {
        if timeout_at(until, self.schema.opened()).await.is_err() {
            return Err(StoreError::Unreachable("its schema is not complete; /ready says what is missing".to_owned()));
        }
        self.connection(until).await
    }

    /// The same before the schema is complete.
    async fn connection(&self, until: Instant) -> Result<Lease, StoreError> {
        match timeout_at(until, Lease::take(&self.pool)).await {
            Ok(lease) => Ok(lease?),
            Err(_) => Err(StoreError::Unreachable("no connection in time".to_owned())),
        }
    }
}

#[async_trait]
impl Participants for Store {
    async fn role(&self, conversation: Uuid, user: Uuid) -> Result<Option<String>, Failure> {
        let participation = self.participation(conversation, user).await.map_err(logged)?;
        Ok(participation.map(|participation| participation.role))
    }
}

/// One log for all requests: in an outage each of them fails.
static REQUESTS: OutageLog = OutageLog::new();

/// What a client is told of an error; the log has the cause, while the database is away now and then.
pub fn logged(error: StoreError) -> Failure {
    if !error.is_an_outage() {
        tracing::warn!(%error, "the database did not answer a request");
    } else if let Some(line) = REQUESTS.failed(std::time::Instant::now()) {
        let (seconds, failures) = (line.lasted.as_secs(), line.failures);
        tracing::warn!(%error, seconds, failures, "the database did not answer requests");
    }
    error.failure()
}

/// One statement in a transaction that begins as `begin` says; all three go out at once. COMMIT ends a failed
/// transaction too, so that nothing of it is left on the connection.
async fn in_transaction(
    client: &Client,
    begin: &str,
    statement: &str,
    parameters: &[Param<'_>],
) -> Result<Vec<Row>, Error> {
    // Each future sends when it is first polled, and they are polled in this order.
    let (begun, rows, ended) =
        join3(client.batch_execute(begin), client.query_typed(statement, parameters), client.batch_execute("COMMIT"))
            .await;
    // After a failure COMMIT answers ROLLBACK without an error, so each answer counts, the first failure first.
    begun?;
    let rows = rows?;
    ended?;
    Ok(rows)
}

/// Gives the connection back if it is still good for something.
fn conclude<T>(client: Lease, result: Result<Result<T, tokio_postgres::Error>, Elapsed>) -> Result<T, StoreError> {
    match result {
        Ok(Ok(value)) => {
            client.release();
            Ok(value)
        }
        Ok(Err(error)) => {
            client.release_after(Fault::of(&error));
            Err(error.into())
        }
        Err(_) => Err(StoreError::Lost("no answer in time".to_owned())),
    }
}
