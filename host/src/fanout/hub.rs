//! What the tasks of the fan-out share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use arcyou_platform::health::{Part, PartState};
use arcyou_platform::outage_log::OutageLog;
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
    /// Genuine events that came over the bus.
    received: AtomicU64,
    /// The part `events`.
    health: Part,
    /// Whether messages were found in the store that had not come over the bus, and nothing has come since.
    overdue: AtomicBool,
    store_outage: OutageLog,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Hub {
    pub(super) fn new(
        config: FanoutConfig,
        history: Arc<dyn History>,
        health: Part,
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
            received: AtomicU64::new(0),
            health,
            overdue: AtomicBool::new(false),
            store_outage: OutageLog::default(),
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

    /// Counts a question that the store did not answer. While it answers none, the log says so now and then.
    pub(super) fn note_failure(&self, what: &'static str, error: &HistoryError) {
        self.meter.store_failures.increment(1);
        if let Some(line) = self.store_outage.failed(Instant::now()) {
            let (seconds, failures) = (line.lasted.as_secs(), line.failures);
            tracing::warn!(%error, seconds, failures, "{what}");
        }
    }

    /// The store answered.
    pub(super) fn note_answer(&self) {
        if let Some(line) = self.store_outage.worked(Instant::now()) {
            let (seconds, failures) = (line.lasted.as_secs(), line.failures);
            tracing::info!(seconds, failures, "the fan-out has answers from the database again");
        }
    }

    /// An event came over the bus: it carries what it should.
    pub(super) fn note_heard(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        if self.overdue.load(Ordering::Relaxed) && self.overdue.swap(false, Ordering::Relaxed) {
            self.report(Part::up);
        }
    }

    /// How many did.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Messages were found that the bus should have brought. It answers, but its events go elsewhere, or nobody relays.
    pub(super) fn note_overdue(&self) {
        self.overdue.store(true, Ordering::Relaxed);
        self.report(|part| {
            part.up_but(
                "messages were found in the database that never came over the bus, which seems well: no worker relays, \
                 or workers publish to another Redis or in another PUBSUB_MODE",
            );
        });
    }

    /// Not while the bus is away, which says more.
    fn report(&self, report: impl FnOnce(&Part)) {
        if self.health.state() == PartState::Up {
            report(&self.health);
        }
    }
}
