//! The outbound line: what was committed, on its way to every socket that has joined its conversation.
//!
//! [`subscriber`] hears the bus and finds the conversation's [`room`], where [`resequence`] puts messages in order and
//! [`members`] have their places; [`events`] writes the frame, once for all of them. The bus forgets, so three tasks ask
//! the store ([`history`]): [`repair`] when a room finds a hole, [`catch_up`] when the bus had a break, [`authority`]
//! when a participant was removed. [`rooms`] is what a session holds.
//!
//! What holds for each member of a room, from the cursor with which it attached until it leaves, is evicted, or its
//! socket's queue overflows:
//!
//! - every message that the store has after the cursor is pushed once, in the order of `seq`;
//! - every other event is pushed at most once, as it comes; after a break of the bus it is caught up for as long as the
//!   outbox keeps it;
//! - one member never slows another: pushing never waits.

mod authority;
mod catch_up;
mod directory;
mod events;
mod history;
mod hub;
mod joining;
mod members;
mod meter;
mod repair;
pub mod resequence;
mod room;
mod rooms;
mod seen;
mod subscriber;
#[cfg(test)]
mod tests;
mod wishes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::bus::Bus;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::Health;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use events::backfill_frame;
pub use history::{History, HistoryError};
pub use rooms::{Behind, Membership, RoomRef};

use hub::Hub;
use resequence::HoldLimits;

/// How the fan-out works.
#[derive(Debug, Clone)]
pub struct FanoutConfig {
    /// Which channels carry which conversations.
    pub mode: PubSubMode,
    /// How long a hole in a conversation may close by itself before the store is asked: several workers reorder.
    pub gap_wait: Duration,
    /// How often every room is compared with the store although all seems well.
    pub sweep: Duration,
    /// How long a socket that has to be served from the store may take nothing.
    pub stall: Duration,
    /// What one conversation may hold back while it waits for a hole to close.
    pub hold: HoldLimits,
    /// Pages of messages that are read from the store at the same time.
    pub readers: usize,
}

impl FanoutConfig {
    /// The defaults.
    pub fn new(mode: PubSubMode) -> Self {
        Self {
            mode,
            gap_wait: Duration::from_millis(75),
            sweep: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            hold: HoldLimits { items: 1024, bytes: 1024 * 1024 },
            readers: 4,
        }
    }
}

/// The outbound line. Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    hub: Arc<Hub>,
}

/// The tasks of a fan-out.
#[derive(Debug)]
pub struct FanoutTasks(TaskTracker);

impl FanoutTasks {
    /// Completes once all of them have ended, after the shutdown was asked for.
    pub async fn join(self) {
        self.0.wait().await;
    }
}

impl Fanout {
    /// Starts listening; must be called inside a runtime. Whether events come as they happen is the part `events` of the
    /// health report.
    pub fn start(
        config: FanoutConfig,
        bus: &Arc<dyn Bus>,
        history: Arc<dyn History>,
        health: &Health,
        shutdown: CancellationToken,
    ) -> (Self, FanoutTasks) {
        let tasks = TaskTracker::new();
        let hub = Arc::new(Hub::new(config, history, shutdown, tasks.clone()));
        hub.spawn(subscriber::run(hub.clone(), bus.subscriber(), health.part("events")));
        hub.spawn(catch_up::run(hub.clone()));
        hub.spawn(authority::run(hub.clone()));
        tasks.close();
        (Self { hub }, FanoutTasks(tasks))
    }

    /// The room of a conversation, kept subscribed while any reference to it is alive.
    pub fn enter(&self, conversation: Uuid) -> RoomRef {
        RoomRef::enter(self.hub.clone(), conversation)
    }
}

impl fmt::Debug for Fanout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fanout").field("config", &self.hub.config).finish_non_exhaustive()
    }
}
