//! A database, a PgBouncer and a Redis for each test, and workers inside the test's own process.

pub(crate) mod process;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis};
use arcyou_outbox_worker::{PruneConfig, RelayConfig, WorkerConfig, run};
use arcyou_platform::backoff::Backoff;
use arcyou_platform::bus::{Bus, Publication, RedisBus, RedisUrl, Signal, Subscriber};
use arcyou_platform::contract::{Envelope, GLOBAL_CHANNEL, WAKE_CHANNEL};
use arcyou_platform::health::{Health, PartState};
use arcyou_platform::{database, telemetry};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::types::FromSqlOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const TEMPLATE: &str = "outbox_template";

/// One PostgreSQL and one PgBouncer for the whole test program; they end with it.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) pgbouncer: PgBouncer,
    template: OnceCell<()>,
}

static SHARED: LazyLock<Arc<Servers>> = LazyLock::new(|| Arc::new(Servers::start()));

impl Servers {
    fn start() -> Self {
        let postgres = Postgres::start(PostgresOptions::default()).unwrap();
        let pgbouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
        Self { postgres, pgbouncer, template: OnceCell::new() }
    }

    async fn make_template(&self) {
        let postgres = connect(&self.postgres.url("postgres")).await;
        postgres.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
        connect(&self.postgres.url(TEMPLATE)).await.batch_execute(&schema::sql()).await.unwrap();
    }
}

pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The servers and connections of one test.
pub(crate) struct Bed {
    pub(crate) servers: Arc<Servers>,
    pub(crate) redis: Redis,
    pub(crate) database: String,
    /// A direct connection to PostgreSQL, for the test's own statements.
    pub(crate) sql: tokio_postgres::Client,
    pub(crate) bus: Arc<RedisBus>,
    pub(crate) conversation: Uuid,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::clone(&SHARED), &[]).await
    }

    /// With servers that no other test uses, so that they can be killed.
    pub(crate) async fn alone() -> Self {
        Self::with(Arc::new(Servers::start()), &[]).await
    }

    pub(crate) async fn with_redis(settings: &[(&str, &str)]) -> Self {
        Self::with(Arc::clone(&SHARED), settings).await
    }

    async fn with(servers: Arc<Servers>, settings: &[(&str, &str)]) -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            // Fails if another test has done it already.
            let _ = telemetry::init(telemetry::LogFormat::Text);
        }
        servers.template.get_or_init(|| servers.make_template()).await;
        let database = format!("outbox_{}", Uuid::new_v4().simple());
        let admin = connect(&servers.postgres.url("postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE {TEMPLATE}")).await.unwrap();
        let sql = connect(&servers.postgres.url(&database)).await;
        let redis = Redis::start_with(settings).unwrap();
        let bus = Arc::new(RedisBus::new(&redis.url().parse().unwrap(), &Health::new()).unwrap());
        Self { servers, redis, database, sql, bus, conversation: Uuid::new_v4() }
    }

    /// The address through PgBouncer, as workers use it.
    pub(crate) fn database_url(&self) -> String {
        self.servers.pgbouncer.url(&self.database)
    }

    /// A worker in this process.
    pub(crate) fn worker(&self, relay: RelayConfig) -> Worker {
        self.worker_at(&self.database_url(), with_quick_pruning(relay))
    }

    /// A worker that deletes rows after `retention`.
    pub(crate) fn worker_with_retention(&self, retention: Option<Duration>, relay: RelayConfig) -> Worker {
        let mut config = with_quick_pruning(relay);
        config.prune.retention = retention;
        self.worker_at(&self.database_url(), config)
    }

    /// A worker that connects to the database by another URL.
    pub(crate) fn worker_at(&self, database_url: &str, config: WorkerConfig) -> Worker {
        let health = Health::new();
        let pool = database::pool(&database_url.parse().unwrap(), 4).unwrap();
        let url: RedisUrl = self.redis.url().parse().unwrap();
        let bus = Arc::new(RedisBus::new(&url, &health).unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(config, pool, bus, health.clone(), shutdown.clone()));
        Worker { health, shutdown, task }
    }

    /// Receives everything that workers publish from now on.
    pub(crate) async fn listener(&self) -> Listener {
        self.listener_on(GLOBAL_CHANNEL).await
    }

    pub(crate) async fn listener_on(&self, channel: &str) -> Listener {
        let mut subscriber = self.bus.subscriber();
        subscriber.subscribe(channel.to_owned());
        let signal = in_time("subscribed", subscriber.next()).await;
        assert_eq!(signal, Signal::Subscribed { channel: channel.to_owned() });
        Listener { subscriber }
    }

    /// Inserts `count` rows in one transaction; their ids, ascending.
    pub(crate) async fn insert(&self, count: i32) -> Vec<i64> {
        let statement = "INSERT INTO outbox (type, conversation_id, payload, internal) \
            SELECT 'message.created', $1, jsonb_build_object('n', n), true
            FROM generate_series(1, $2) AS n ORDER BY n RETURNING id";
        let rows = self.sql.query(statement, &[&self.conversation, &count]).await.unwrap();
        let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        ids
    }

    /// Inserts a row; its id.
    pub(crate) async fn insert_one(&self, kind: &str, payload: &str) -> i64 {
        let statement = "INSERT INTO outbox (type, conversation_id, payload, internal) VALUES ($1, $2, $3::text::jsonb, true) RETURNING id";
        self.sql.query_one(statement, &[&kind, &self.conversation, &payload]).await.unwrap().get(0)
    }

    pub(crate) async fn wake(&self) {
        let wake = Publication { channel: WAKE_CHANNEL.to_owned(), payload: Bytes::new() };
        self.bus.publish(&[wake]).await.unwrap();
    }

    pub(crate) fn redis_cli(&self, arguments: &[&str]) {
        let mut command = std::process::Command::new("redis-cli");
        let output = command.args(["-p", &self.redis.port().to_string()]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) async fn value<T: FromSqlOwned>(&self, statement: &str) -> T {
        self.sql.query_one(statement, &[]).await.unwrap().get(0)
    }

    /// Waits until a statement answers true.
    pub(crate) async fn until(&self, statement: &str) {
        let holds = async {
            while self.value::<Option<bool>>(statement).await != Some(true) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time(statement, holds).await;
    }

    pub(crate) async fn assert_no_row_failed(&self) {
        let failed = "SELECT count(*) FROM outbox WHERE retry_count > 0 OR error IS NOT NULL OR parked_at IS NOT NULL";
        assert_eq!(self.value::<i64>(failed).await, 0);
    }

    /// Waits until a worker has claimed rows and waits for Redis.
    pub(crate) async fn until_claimed(&self) {
        let claimed = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
            AND state = 'idle in transaction' AND query LIKE '%claim_outbox%'";
        self.until(claimed).await;
    }

    pub(crate) async fn until_all_processed(&self) {
        self.until("SELECT bool_and(processed AND processed_at IS NOT NULL) FROM outbox").await;
    }
}

/// A worker of the test's own process.
pub(crate) struct Worker {
    pub(crate) health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn until_down(&self, part: &str) {
        let part = self.health.part(part);
        let down = async {
            while part.state() != PartState::Down {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        in_time("the part is down", down).await;
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        in_time("the worker's end", self.task).await.unwrap();
    }
}

pub(crate) struct Listener {
    subscriber: Box<dyn Subscriber>,
}

/// A received event: id, type, payload.
pub(crate) type Event = (i64, String, serde_json::Value);

impl Listener {
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match in_time("an event", self.subscriber.next()).await {
                Signal::Message { payload, .. } => {
                    let Envelope { id, kind, conversation_id: _, payload } = serde_json::from_slice(&payload).unwrap();
                    return (id, kind.into_owned(), serde_json::from_str(payload.get()).unwrap());
                }
                Signal::Lost | Signal::Interrupted { .. } | Signal::Subscribed { .. } => {}
            }
        }
    }

    /// Receives until each of these ids has arrived; how often each id arrived.
    pub(crate) async fn until_heard(&mut self, ids: &[i64]) -> BTreeMap<i64, usize> {
        let mut missing: BTreeSet<i64> = ids.iter().copied().collect();
        let mut heard = BTreeMap::new();
        while !missing.is_empty() {
            let (id, ..) = self.next().await;
            missing.remove(&id);
            *heard.entry(id).or_default() += 1;
        }
        heard
    }

    /// Waits until the connection is confirmed after a loss.
    pub(crate) async fn until_subscribed(&mut self) {
        while !matches!(in_time("subscribed", self.subscriber.next()).await, Signal::Subscribed { .. }) {}
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// A configuration with short intervals.
pub(crate) fn quick() -> RelayConfig {
    RelayConfig {
        poll_interval: Duration::from_millis(50),
        backoff: Backoff { first: Duration::from_millis(5), cap: Duration::from_millis(20) },
        ..RelayConfig::default()
    }
}

pub(crate) fn with_quick_pruning(relay: RelayConfig) -> WorkerConfig {
    let prune = PruneConfig { interval: Duration::from_millis(50), ..PruneConfig::default() };
    WorkerConfig { relay, prune }
}

pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
