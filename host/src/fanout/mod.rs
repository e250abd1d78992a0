//! The outbound line: what was committed, on its way to every socket that has joined its conversation.
//!
//! [`announcer`] tells what this gateway has committed itself, to its own rooms and over the bus. [`subscriber`] hears
//! the bus, drops what is not genuine ([`event_key`]), sorts what is [`incoming`] and finds the conversation's
//! [`room`], where [`resequence`] puts changes in order and [`members`] have their places, each with a queue to its
//! socket ([`outbound`]), where a change comes after the reply to its request ([`own_changes`]). The bus forgets, so
//! three tasks ask the store ([`history`]): [`repair`] when a room finds a hole, [`catch_up`] when the bus had a break,
//! [`revocation`] when a participant was removed or has another role. A session holds a [`membership`].
//!
//! What holds for each member of a room, from the cursor with which it attached until it leaves, is evicted, or its
//! socket's queue overflows:
//!
//! - every change that the store has after the cursor is pushed once, in the order of `seq`;
//! - every other event is pushed at most once, as it comes; after a break of the bus it is caught up for as long as the
//!   outbox keeps it;
//! - one member never slows another: pushing never waits.

mod announcer;
mod catch_up;
mod channel_epoch;
mod config;
mod deliver;
mod event_key;
mod history;
mod hub;
mod incoming;
mod members;
mod membership;
mod meter;
pub mod outbound;
pub mod own_changes;
mod pending_set;
mod repair;
mod replay;
pub mod resequence;
mod revocation;
mod room;
mod room_registry;
mod seen;
mod subscriber;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arcyou_platform::bus::Bus;
use arcyou_platform::health::Health;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use announcer::Announcer;
pub use config::FanoutConfig;
pub use history::{History, HistoryError};
pub use members::NewMember;
pub use membership::{Behind, Membership, RoomRef};

use hub::{Due, Hub};

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
    /// Starts listening; must be called inside a runtime. Whether events come as they happen is the part `events` of
    /// the health report.
    pub fn start(
        config: FanoutConfig,
        bus: &Arc<dyn Bus>,
        history: Arc<dyn History>,
        health: &Health,
        shutdown: CancellationToken,
    ) -> (Self, FanoutTasks) {
        let tasks = TaskTracker::new();
        let part = health.part("events");
        let hub = Arc::new(Hub::new(config, history, part.clone(), shutdown, tasks.clone()));
        hub.spawn(subscriber::run(hub.clone(), bus.subscriber(), part));
        hub.spawn(keep_event_key(hub.clone()));
        hub.spawn(catch_up::run(hub.clone()));
        hub.spawn(revocation::run(hub.clone()));
        tasks.close();
        (Self { hub }, FanoutTasks(tasks))
    }

    /// Nobody relays what others than gateways insert: rooms are compared with the store.
    pub fn compare(&self) {
        self.hub.due.add(Due::All);
    }

    /// The room of a conversation, kept subscribed while any reference to it is alive.
    pub fn enter(&self, conversation: Uuid) -> RoomRef {
        RoomRef::enter(self.hub.clone(), conversation)
    }
}

/// Whatever was dropped while the key was unknown, or another one, is found when it is known.
async fn keep_event_key(hub: Arc<Hub>) {
    hub.event_key.keep(&*hub.history, || hub.due.add(Due::All)).await;
}

impl fmt::Debug for Fanout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fanout").field("config", &self.hub.config).finish_non_exhaustive()
    }
}
