//! Real servers, a database for each test, and clumsy stand-ins for gateway sessions and workers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arcyou_gateway::fanout::outbound::Outbound;
use arcyou_gateway::fanout::{Fanout, FanoutConfig, Membership, NewMember};
use arcyou_gateway::store::{PageLimits, Store};
use arcyou_local_services::{PgBouncer, PgBouncerOptions};
use arcyou_platform::bus::{Bus, Publication};
use arcyou_platform::contract::{EventKey, PubSubMode, envelope_text};
use arcyou_platform::database;
use arcyou_platform::health::Health;
use arcyou_protocol::event::backfill_frame;
use serde_json::Value;
use tokio_postgres::Client as Database;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Servers, blocking, connect};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("still not so: {what}"));
}

pub(crate) struct World {
    fanout: Fanout,
    mode: PubSubMode,
    bus: Arc<dyn Bus>,
    store: Store,
    event_key: EventKey,
    health: Health,
    pgbouncer: Arc<PgBouncer>,
    /// Beside the pool, as other services are.
    database: Database,
    shutdown: CancellationToken,
}

impl World {
    pub(crate) async fn start(bus: Arc<dyn Bus>, mode: PubSubMode, change: impl FnOnce(&mut FanoutConfig)) -> Self {
        let servers = Servers::shared().await;
        let name = servers.database().await;
        let database = connect(&servers.postgres.url(&name)).await;
        let start = move || PgBouncer::start(&servers.postgres, PgBouncerOptions::default()).unwrap();
        let pgbouncer = blocking(start).await;
        let pool = database::pool(&pgbouncer.url(&name).parse().unwrap(), 8).unwrap();
        let (store, health, shutdown) = (Store::new(pool), Health::new(), CancellationToken::new());
        let event_key = store.event_key().await.unwrap();
        let mut config = FanoutConfig::new(mode);
        change(&mut config);
        let (fanout, _) = Fanout::start(config, &bus, Arc::new(store.clone()), &health, shutdown.clone());
        Self { fanout, mode, bus, store, event_key, health, pgbouncer: Arc::new(pgbouncer), database, shutdown }
    }

    pub(crate) fn state(&self, part: &str) -> String {
        serde_json::to_value(self.health.report()).unwrap()["parts"][part]["state"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn sql(&self, statement: &str) {
        self.database.batch_execute(statement).await.unwrap();
    }

    pub(crate) async fn conversation(&self) -> Uuid {
        let row = self.database.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
        row.get(0)
    }

    /// Commits a message, as the gateway does; what to publish of it is the caller's to do, or not.
    pub(crate) async fn commit_message(&self, conversation: Uuid) -> Publication {
        let statement = "
            WITH counted AS (UPDATE conversations SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq),
            stored AS (INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
                SELECT $1, last_seq, last_seq, last_seq, gen_random_uuid(), '{\"text\": \"hello\"}' FROM counted
                RETURNING seq, creation_json(messages) AS payload)
            INSERT INTO outbox (type, conversation_id, seq, payload, processed, internal)
            SELECT 'message.created', $1, seq, payload, true, true FROM stored
            RETURNING id, payload::text";
        let row = self.database.query_one(statement, &[&conversation]).await.unwrap();
        self.publication(row.get(0), "message.created", conversation, row.get(1))
    }

    pub(crate) async fn publish(&self, publications: &[Publication]) {
        // A bus that is away takes nothing; that is what the tests are about.
        let _ = self.bus.publish(publications).await;
    }

    /// Publishes what is pending in the outbox.
    pub(crate) async fn relay_all(&self) {
        let statement = "UPDATE outbox SET processed = true WHERE NOT processed
            RETURNING id, type, conversation_id, payload::text";
        let rows = self.database.query(statement, &[]).await.unwrap();
        let publications: Vec<_> =
            rows.iter().map(|row| self.publication(row.get(0), row.get(1), row.get(2), row.get(3))).collect();
        self.publish(&publications).await;
    }

    fn publication(&self, id: i64, kind: &str, conversation: Uuid, payload: &str) -> Publication {
        let text = envelope_text(&self.event_key, id, kind, conversation, payload);
        Publication { channel: self.mode.channel(conversation), payload: text.into() }
    }

    /// A new participant joins as a session does: enter, check, read, attach.
    pub(crate) async fn join(&self, conversation: Uuid, after: i64) -> Client {
        let user = Uuid::new_v4();
        // For so long that nobody has to be told.
        let admit = format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             INSERT INTO participants (conversation_id, user_id) VALUES ('{conversation}', '{user}'); COMMIT"
        );
        self.database.batch_execute(&admit).await.unwrap();
        let outbound = Arc::new(Outbound::new(1 << 20));
        let (mut room, mut cursor, mut frames) = (self.fanout.enter(conversation), after, VecDeque::new());
        let mut target = self.store.participation(conversation, user).await.unwrap().unwrap().last_seq;
        let membership = loop {
            if cursor < target {
                let limits = PageLimits { rows: 1000, bytes: 1 << 20 };
                for message in self.store.changes_after(conversation, cursor, limits).await.unwrap().items {
                    cursor = message.seq;
                    frames.push_back(parse(backfill_frame(conversation, &message.kind, &message.payload).as_str()));
                }
            }
            // Things happen between reading and attaching.
            tokio::time::sleep(Duration::from_millis(cursor as u64 % 5)).await;
            let member = NewMember { user, role: "member".into(), cursor, outbound: outbound.clone() };
            match room.attach(member) {
                Ok(membership) => break membership,
                Err((back, behind)) => (room, target) = (back, behind.delivered),
            }
        };
        Client { user, outbound, membership, frames }
    }

    pub(crate) async fn kill_pool(&self) {
        let pgbouncer = self.pgbouncer.clone();
        blocking(move || pgbouncer.kill()).await;
    }

    pub(crate) async fn restart_pool(&self) {
        let pgbouncer = self.pgbouncer.clone();
        blocking(move || pgbouncer.restart().unwrap()).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A socket in one conversation.
pub(crate) struct Client {
    pub(crate) user: Uuid,
    pub(crate) membership: Membership,
    outbound: Arc<Outbound>,
    frames: VecDeque<Value>,
}

impl Client {
    pub(crate) async fn next(&mut self) -> Value {
        let read = async {
            loop {
                if let Some(frame) = self.frames.pop_front() {
                    return frame;
                }
                if self.collect() == 0 {
                    self.outbound.changed().await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame comes")
    }

    /// Reads the messages up to one, which must follow `after` without holes.
    pub(crate) async fn read_through(&mut self, after: i64, last: i64) {
        for expected in after + 1..=last {
            let frame = self.next().await;
            assert_eq!(frame["message"]["seq"], expected, "{frame}");
        }
    }

    /// What has come and was not read.
    pub(crate) fn pending(&mut self) -> Vec<Value> {
        self.collect();
        self.frames.drain(..).collect()
    }

    /// Reads what has come, at least one message, and tells how far that goes.
    pub(crate) async fn last_pending_seq(&mut self) -> i64 {
        let first = self.next().await;
        let rest = self.pending();
        rest.last().unwrap_or(&first)["message"]["seq"].as_i64().unwrap()
    }

    fn collect(&mut self) -> usize {
        let queued = self.outbound.drain().expect("the queue has not overflowed");
        self.outbound.written(queued.iter().map(|frame| frame.len()).sum());
        self.frames.extend(queued.iter().map(|frame| parse(frame.as_str())));
        queued.len()
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}
