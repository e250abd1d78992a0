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
mod messages;
mod needs;
mod outbox;
mod page;
mod participation;
mod place;
mod read_marks;
mod repeats;
mod review;
mod rows;
mod sql;
mod turns;
mod user_sql;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arcyou_platform::contract::{EventKey, READ_EVENT_KEY};
use arcyou_platform::database::{Fault, Lease};
use arcyou_platform::outage_log::OutageLog;
use arcyou_protocol::Failure;
use deadpool_postgres::{Pool, Status};
use futures_util::future::join3;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

pub use api_keys::{ApiKey, ListedKey};
pub use audit::AuditEntry;
pub use blocks::BlockedUser;
pub use change::{Answered, Attempted, ChangeRefusal, ChangeRules, Committed, NewChange, StoredEvent};
pub use commit::Locking;
pub use cutoffs::{Cutoff, CutoffPage, CutoffPlace};
pub use directory::{Conversation, ConversationChange, Membership, NewConversation, Participant, PutParticipants};
pub use erase::ErasedPart;
pub use error::StoreError;
pub use export::{Export, ExportPage, Exported, ExportedLine};
pub use gate::SchemaGate;
pub use messages::{ChangeEvent, ChangePage, StandingMessage, StoredMessage, Window};
pub use needs::NEEDS;
pub use outbox::{OldestPending, OutboxEvent, OutboxProgress};
pub use page::{Page, PageLimits};
pub use participation::{MemberRole, Participation, RoleChange};
pub use place::{MessagePlace, NoPlace};
pub use read_marks::{ReadMark, Tell};
pub use repeats::{ExistingEdit, ExistingSend};
pub use review::{
    DecisionPage, HeldMessage, HeldPage, NoReviewer, Released, ReviewDecision, Reviewer, WaitingForReview,
};

use turns::Turns;

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
    /// Changes that may meet locks have half of the connections, so that sends have the others.
    turns: Turns,
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

impl Store {
    /// A store over a pool that may lead through PgBouncer.
    pub fn new(pool: Pool) -> Self {
        let turns = Turns::new((pool.status().max_size / 2).max(1));
        Self { pool, audited: false, rules: Arc::default(), begins: Arc::default(), schema: SchemaGate::open(), turns }
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

    /// The key of this installation's events.
    pub async fn event_key(&self) -> Result<EventKey, StoreError> {
        let rows = self.query(READ_EVENT_KEY, &[]).await?;
        let secret = rows.first().map(|row| row.try_get(0)).transpose()?;
        secret.map(EventKey::new).ok_or_else(|| StoreError::NotUnderstood("the table installation is empty".to_owned()))
    }

    /// One statement, within the bound that a waiting client can be expected to bear.
    async fn query(&self, statement: &str, parameters: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let client = self.client(until).await?;
        let rows = timeout_at(until, client.query_typed(statement, parameters)).await;
        conclude(client, rows)
    }

    /// The same for a change `of` a conversation or a user, which waits for what others have locked, a bounded time:
    /// after an error nothing of it happens any more, save for [`StoreError::Unknown`].
    async fn change(&self, of: Uuid, statement: &str, parameters: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.change_in(sql::BEGIN_CHANGE, Some(of), statement, parameters).await
    }

    /// The same in a transaction that begins so; `of` none: what it changes is not known before.
    async fn change_in(
        &self,
        begin: &str,
        of: Option<Uuid>,
        statement: &str,
        parameters: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let _turn = self.turns.take(of, ANSWER_WITHIN).await?;
        self.transaction(begin, statement, parameters).await.map_err(StoreError::of_change)
    }

    /// One statement in a transaction that begins so; still one round trip.
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

/// One log for all requests: in an outage each of them fails.
static REQUESTS: OutageLog = OutageLog::new();
/// The same for those that meet what another transaction holds. Nothing ends it but silence.
static LOCKS: OutageLog = OutageLog::new();

/// What a client is told of an error; the log has the cause, now and then where it goes on.
pub fn logged(error: StoreError) -> Failure {
    let now = std::time::Instant::now();
    let line = match error {
        StoreError::Busy(_) | StoreError::Transient(_) => LOCKS.recurred(now),
        _ if error.is_an_outage() => REQUESTS.failed(now),
        _ => {
            tracing::warn!(%error, "the database did not answer a request");
            None
        }
    };
    if let Some(line) = line {
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
