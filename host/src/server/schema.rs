//! Until the schema is complete: who brings it up to date, who waits for it, and what `/ready` says meanwhile.

use std::time::Duration;

use arcyou_platform::contract::EventKey;
use arcyou_platform::database::{DatabaseUrl, Lack, Lease, describe_pool, look};
use arcyou_platform::health::Part;
use arcyou_protocol::Seq;
use async_trait::async_trait;
use deadpool_postgres::Pool;
use uuid::Uuid;

use crate::fanout::{History, HistoryError};
use crate::migrate::{self, MigrateError, migrate_at};
use crate::store::{ChangePage, MemberRole, NEEDS, OutboxEvent, Page, PageLimits, RoleChange, SchemaGate, Store};

/// Between looks at a schema that is not complete.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The longest that reading the record of migrations may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a look at the schema came to.
enum Verdict {
    Complete,
    /// It is, as far as this role can tell; with what it cannot.
    CompleteBut(String),
    /// Somebody else must bring it up to date.
    Waits(String),
    /// An operator must do something.
    NeedsMending(String),
    /// The database cannot be asked.
    Unknown(String),
}

/// Looks until the schema is complete and this gateway has its rights, however long the database is away, and opens the
/// gate then. What is missing is applied, if the role of `migration` may.
pub(super) async fn keep_looking(pool: Pool, migration: DatabaseUrl, gate: SchemaGate, part: Part) {
    loop {
        match verdict(&pool, &migration).await {
            Verdict::Complete => {
                gate.complete();
                return part.up();
            }
            Verdict::CompleteBut(warning) => {
                gate.complete();
                return part.up_but(warning);
            }
            Verdict::Waits(reason) => part.waits(reason),
            Verdict::NeedsMending(reason) => part.needs_mending(reason),
            Verdict::Unknown(reason) => part.down(reason),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn verdict(pool: &Pool, migration: &DatabaseUrl) -> Verdict {
    let lack = match look(pool, &NEEDS).await {
        Ok(lack) => lack,
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    match lack {
        Some(Lack::Absent { .. }) => after_migration(pool, migration).await,
        // Not applied here of its own accord: a second installation is seldom what is wanted.
        Some(lack @ (Lack::Encoding(_) | Lack::Elsewhere { .. })) => Verdict::NeedsMending(lack.to_string()),
        lack => match (pending(pool).await, lack) {
            (Ok(Some(pending)), _) if !pending.is_empty() => after_migration(pool, migration).await,
            (Err(verdict), None) => verdict,
            (_, Some(lack)) => Verdict::NeedsMending(lack.to_string()),
            (Ok(Some(_)), None) => Verdict::Complete,
            (Ok(None), None) => Verdict::CompleteBut(UNREADABLE.to_owned()),
        },
    }
}

/// Everything that this gateway needs is there, so it may start.
const UNREADABLE: &str = "arcyou_schema_history cannot be read, so it is not known which migrations were applied: run \
    migrations/roles.sql as the owner of the tables";

async fn pending(pool: &Pool) -> Result<Option<Vec<String>>, Verdict> {
    let lease = Lease::take(pool).await.map_err(|error| Verdict::Unknown(describe_pool(&error)))?;
    match tokio::time::timeout(ANSWER_WITHIN, migrate::pending(&lease)).await {
        Ok(Ok(pending)) => {
            lease.release();
            Ok(pending)
        }
        Ok(Err(error @ MigrateError::Database(_))) => Err(Verdict::Unknown(error.to_string())),
        Ok(Err(error @ MigrateError::BeingAdopted)) => Err(Verdict::Waits(error.to_string())),
        Ok(Err(error)) => Err(Verdict::NeedsMending(error.to_string())),
        Err(_) => Err(Verdict::Unknown("the database does not answer".to_owned())),
    }
}

/// Applies what is missing, and looks again.
async fn after_migration(pool: &Pool, migration: &DatabaseUrl) -> Verdict {
    let applied = match migrate_at(migration).await {
        Ok(applied) => applied,
        Err(error) => {
            let text = format!("{error:#}");
            return match error.downcast_ref() {
                Some(MigrateError::MayNotCreate { .. } | MigrateError::BeingAdopted) => Verdict::Waits(text),
                Some(MigrateError::Database(_)) | None => Verdict::Unknown(text),
                Some(_) => Verdict::NeedsMending(text),
            };
        }
    };
    if !applied.is_empty() {
        tracing::info!(?applied, "the schema was brought up to date");
    }
    match look(pool, &NEEDS).await {
        Ok(None) => Verdict::Complete,
        Ok(Some(lack)) => Verdict::NeedsMending(lack.to_string()),
        Err(error) => Verdict::Unknown(error.to_string()),
    }
}

/// The store for tasks that ask of their own accord: they wait for the schema instead of asking for tables that are not
/// there yet.
pub(super) struct CompleteHistory {
    pub(super) store: Store,
    pub(super) gate: SchemaGate,
}

#[async_trait]
impl History for CompleteHistory {
    async fn event_key(&self) -> Result<EventKey, HistoryError> {
        self.gate.opened().await;
        History::event_key(&self.store).await
    }

    async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, HistoryError> {
        self.gate.opened().await;
        History::changes_after(&self.store, conversation, after, limits).await
    }

    async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, HistoryError> {
        self.gate.opened().await;
        History::behind(&self.store, rooms).await
    }

    async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, HistoryError> {
        self.gate.opened().await;
        History::other_events(&self.store, conversations, after_id, limits).await
    }

    async fn newest_outbox_id(&self) -> Result<i64, HistoryError> {
        self.gate.opened().await;
        History::newest_outbox_id(&self.store).await
    }

    async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, HistoryError> {
        self.gate.opened().await;
        History::changed_roles(&self.store, members).await
    }

    async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, HistoryError> {
        self.gate.opened().await;
        History::absent(&self.store, conversations).await
    }

    async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, HistoryError> {
        self.gate.opened().await;
        History::not_participants(&self.store, members).await
    }
}
