//! The store as the fan-out sees it: what was missed, and who still takes part.

use std::future::Future;
use std::time::Duration;

use arcyou_platform::contract::EventKey;
use arcyou_protocol::Seq;
use async_trait::async_trait;
use uuid::Uuid;

use crate::store::{ChangePage, MemberRole, OutboxEvent, Page, PageLimits, RoleChange, Store, StoreError};

/// Answers that come later than this are not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The truth behind the bus. Whatever was published was committed before, so each answer contains everything that had
/// arrived when it was asked for.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The key of the installation's events.
    async fn event_key(&self) -> Result<EventKey, HistoryError>;

    /// A page of a conversation's changes after `after`, as they are told now, oldest first; it says if some were
    /// purged.
    async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, HistoryError>;

    /// Of these rooms (conversation, last delivered `seq`) those whose conversation has gone further.
    async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, HistoryError>;

    /// A page of events other than changes for these conversations, with an outbox id above `after_id`, by id.
    async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, HistoryError>;

    /// The newest outbox id.
    async fn newest_outbox_id(&self) -> Result<i64, HistoryError>;

    /// Of these members those whose role is another by now.
    async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, HistoryError>;

    /// Of these conversations those that do not exist.
    async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, HistoryError>;

    /// Of these (conversation, user) pairs those that do not participate.
    async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, HistoryError>;
}

/// The store did not answer; nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It said why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It said nothing in time.
    #[error("the database did not answer in time")]
    Late,
}

#[async_trait]
impl History for Store {
    async fn event_key(&self) -> Result<EventKey, HistoryError> {
        in_time(self.event_key()).await
    }

    async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, HistoryError> {
        in_time(self.changes_after(conversation, after, limits)).await
    }

    async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, HistoryError> {
        in_time(self.behind(rooms)).await
    }

    async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, HistoryError> {
        in_time(self.other_events(conversations, after_id, limits)).await
    }

    async fn newest_outbox_id(&self) -> Result<i64, HistoryError> {
        in_time(self.newest_outbox_id()).await
    }

    async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, HistoryError> {
        in_time(self.changed_roles(members)).await
    }

    async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, HistoryError> {
        in_time(self.absent(conversations)).await
    }

    async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, HistoryError> {
        in_time(self.not_participants(members)).await
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, HistoryError> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(HistoryError::Late),
    }
}
