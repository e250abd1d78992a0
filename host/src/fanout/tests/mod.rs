//! The whole fan-out against an in-memory bus and store whose failures the tests choose.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod breaks;
mod delivery;
mod fakes;
mod rights;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::bus::Bus;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::Health;
use arcyou_protocol::Seq;
use arcyou_protocol::event::backfill_frame;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::outbound::Outbound;
use super::*;
use crate::store::PageLimits;

use fakes::{FakeBus, FakeStore};

const PATIENCE: Duration = Duration::from_secs(10);
const MEMBER: &str = "member";

struct World {
    store: Arc<FakeStore>,
    bus: Arc<FakeBus>,
    fanout: Fanout,
    health: Health,
    tasks: Option<FanoutTasks>,
    shutdown: CancellationToken,
}

impl World {
    fn new(mode: PubSubMode) -> Self {
        Self::with(mode, |_| {})
    }

    fn with(mode: PubSubMode, change: impl FnOnce(&mut FanoutConfig)) -> Self {
        let mut config = FanoutConfig::new(mode);
        config.gap_wait = Duration::from_millis(20);
        change(&mut config);
        let (store, bus) = (Arc::new(FakeStore::default()), Arc::new(FakeBus::new(mode)));
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let seam: Arc<dyn Bus> = bus.clone();
        let (fanout, tasks) = Fanout::start(config, &seam, store.clone(), &health, shutdown.clone());
        Self { store, bus, fanout, health, tasks: Some(tasks), shutdown }
    }

    /// Stores a message and publishes it.
    fn say(&self, conversation: Uuid) -> Seq {
        let (seq, envelope) = self.store.message(conversation);
        self.bus.publish_text(conversation, envelope);
        seq
    }

    /// Commits an event and publishes it.
    fn tell(&self, conversation: Uuid, kind: &str, payload: &Value) -> i64 {
        let (id, envelope) = self.store.event(conversation, kind, payload);
        self.bus.publish_text(conversation, envelope);
        id
    }

    /// Joins as a session does: enter, check, read, attach.
    async fn join(&self, conversation: Uuid, user: Uuid, after: Seq) -> Client {
        self.join_with(conversation, user, after, 1 << 20).await
    }

    async fn join_with(&self, conversation: Uuid, user: Uuid, after: Seq, queue: usize) -> Client {
        self.store.admit(conversation, user);
        let outbound = Arc::new(Outbound::new(queue));
        let (mut room, mut cursor, mut frames) = (self.fanout.enter(conversation), after, VecDeque::new());
        let membership = loop {
            let limits = PageLimits { rows: 1000, bytes: 1 << 20 };
            for change in self.store.changes_after(conversation, cursor, limits).await.unwrap().items {
                cursor = change.seq;
                let frame = backfill_frame(conversation, &change.kind, &change.payload);
                frames.push_back(serde_json::from_str(&frame).unwrap());
            }
            // Things happen between reading and attaching.
            tokio::time::sleep(Duration::from_millis(cursor.unsigned_abs() % 7)).await;
            match room.attach(member(user, cursor, &outbound)) {
                Ok(membership) => break membership,
                Err((back, behind)) => {
                    assert!(behind.delivered > cursor);
                    room = back;
                }
            }
        };
        Client { outbound, membership, frames }
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.take().unwrap().join()).await.expect("the tasks end");
    }

    /// Waits until something has become true.
    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let look = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what}"));
    }

    fn bus_state(&self) -> String {
        json!(self.health.report().parts["events"].state).as_str().unwrap().to_owned()
    }
}

fn member(user: Uuid, cursor: Seq, outbound: &Arc<Outbound>) -> NewMember {
    NewMember { user, role: MEMBER.into(), cursor, outbound: outbound.clone() }
}

/// A socket in one conversation.
struct Client {
    outbound: Arc<Outbound>,
    membership: Membership,
    frames: VecDeque<Value>,
}

impl Client {
    async fn next(&mut self) -> Value {
        let read = async {
            loop {
                if let Some(frame) = self.frames.pop_front() {
                    return frame;
                }
                let queued = self.outbound.drain().expect("the queue has not overflowed");
                self.outbound.written(queued.iter().map(|frame| frame.len()).sum());
                if queued.is_empty() {
                    self.outbound.changed().await;
                }
                self.frames.extend(queued.iter().map(|frame| serde_json::from_str::<Value>(frame.as_str()).unwrap()));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame comes")
    }

    /// The `seq` of the next frame, which must be a message.
    async fn seq(&mut self) -> Seq {
        let frame = self.next().await;
        assert_eq!(frame["type"], "message.created", "{frame}");
        frame["message"]["seq"].as_i64().unwrap()
    }

    /// Reads the messages up to one, which must follow `after` without holes.
    async fn read_through(&mut self, after: Seq, last: Seq) {
        for expected in after + 1..=last {
            assert_eq!(self.seq().await, expected);
        }
    }

    /// What has come and was not read.
    fn pending(&mut self) -> Vec<Value> {
        let queued = self.outbound.drain().unwrap();
        self.outbound.written(queued.iter().map(|frame| frame.len()).sum());
        self.frames.extend(queued.iter().map(|frame| serde_json::from_str::<Value>(frame.as_str()).unwrap()));
        self.frames.drain(..).collect()
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}
