//! What the tasks of the fan-out share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::config::FanoutConfig;
use super::event_key::KnownKey;
use super::history::{History, HistoryError};
use super::meter::Meter;
use super::pending_set::PendingSet;
use super::room_registry::RoomRegistry;

/// What is to be compared with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Due {
    All,
    Room(Uuid),
}

/// What was heard of a right to listen, or could have been missed. The store decides before it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// A user was removed from a conversation, or has another role there.
    Member { conversation: Uuid, user: Uuid },
    /// A conversation was deleted.
    Deleted { conversation: Uuid },
}

pub(super) struct Hub {
    pub(super) config: FanoutConfig,
    pub(super) registry: RoomRegistry,
    pub(super) history: Arc<dyn History>,
    pub(super) meter: Arc<Meter>,
    pub(super) event_key: KnownKey,
    /// Rooms that may have missed something.
    pub(super) due: PendingSet<Due>,
    /// Rights that may have changed.
    pub(super) doubts: PendingSet<Doubt>,
    /// Pages of messages that may be read from the store at the same time.
    pub(super) readers: Semaphore,
    newest: AtomicI64,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Hub {
    pub(super) fn new(
        config: FanoutConfig,
        history: Arc<dyn History>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let meter = Arc::new(Meter::new());
        Self {
            registry: RoomRegistry::new(config.mode, config.hold, meter.clone()),
            history,
            meter,
            event_key: KnownKey::default(),
            due: PendingSet::default(),
            doubts: PendingSet::default(),
            readers: Semaphore::new(config.readers.max(1)),
            newest: AtomicI64::new(0),
            shutdown,
            tasks,
            runtime: Handle::current(),
            config,
        }
    }

    /// Runs a task until it ends or the fan-out does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        let task = async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// The newest outbox id that this gateway has heard of.
    pub(super) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(super) fn note_newest(&self, id: i64) {
        self.newest.fetch_max(id, Ordering::AcqRel);
    }

    /// Counts a question that the store did not answer.
    pub(super) fn note_failure(&self, what: &'static str, error: &HistoryError) {
        self.meter.store_failures.increment(1);
        tracing::warn!(%error, "{what}");
    }
}
