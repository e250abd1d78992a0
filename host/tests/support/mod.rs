//! What every integration test stands on: a database of its own behind a real PgBouncer in transaction mode, a Redis of
//! its own, gateways and workers on free ports, and a WebSocket client that awaits what it expects.
//!
//! Each folder beside this one that has a `main.rs` is a program, and each file in it a topic, whose name does not
//! repeat the folder's: `make test ARGS="-p arcyou-gateway --test chat refusals::"` runs one. The tests of a program
//! share a process, several at a time. What is counted for a whole process, such as metrics and memory, a test asks of
//! a [`program`].
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod client;
pub mod gateway;
pub mod guests;
pub mod hostile;
pub mod jwt;
pub mod plugins;
pub mod program;
pub mod proxy;
pub mod rights;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

const TEMPLATE: &str = "arcyou_template";

/// Statements in a test's database that wait for what others have locked.
pub const LOCKED_OUT: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// One PostgreSQL and one PgBouncer for all tests of a program; they end with it.
pub struct Servers {
    pub postgres: Postgres,
    pub bouncer: PgBouncer,
    template: OnceCell<()>,
}

impl Servers {
    fn start() -> Self {
        // Databases of tests that have just ended keep some connections for a while, and as many tests run as there are
        // cores.
        let options = PostgresOptions { max_connections: 1000, ..PostgresOptions::default() };
        let postgres = Postgres::start(options).unwrap();
        let bouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
        Self { postgres, bouncer, template: OnceCell::new() }
    }

    /// Those of this program's tests, but for the ones that break theirs.
    pub async fn shared() -> Arc<Self> {
        static SERVERS: OnceLock<Arc<Servers>> = OnceLock::new();
        blocking(|| SERVERS.get_or_init(|| Arc::new(Self::start())).clone()).await
    }

    /// A database of its own for one test.
    pub async fn database(&self) -> String {
        self.template.get_or_init(|| self.make_template()).await;
        let database = format!("test_{}", Uuid::new_v4().simple());
        create_from_template(&self.postgres, &database).await;
        database
    }

    async fn make_template(&self) {
        let create = format!("CREATE DATABASE {TEMPLATE}");
        connect(&self.postgres.url("postgres")).await.batch_execute(&create).await.unwrap();
        let template = connect(&self.postgres.url(TEMPLATE)).await;
        arcyou_gateway::migrate::migrate(&template).await.unwrap();
    }
}

/// A test's own database and Redis.
pub struct World {
    pub servers: Arc<Servers>,
    pub database: String,
    pub redis: Arc<Redis>,
    /// A PgBouncer of its own, for tests that break it; the others share one.
    pub bouncer: Option<Arc<PgBouncer>>,
    pub sql: Client,
}

impl World {
    pub async fn new() -> Self {
        Self::on(Servers::shared().await, &[]).await
    }

    /// The same with `messages` in partitions.
    pub async fn partitioned() -> Self {
        let world = Self::new().await;
        world.partition_messages().await;
        world
    }

    /// The same without a schema, in this encoding.
    pub async fn bare(encoding: &str) -> Self {
        let servers = Servers::shared().await;
        let database = format!("test_{}", Uuid::new_v4().simple());
        let create = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}'");
        connect(&servers.postgres.url("postgres")).await.batch_execute(&create).await.unwrap();
        let redis = blocking(Redis::start).await.unwrap();
        let sql = connect(&servers.postgres.url(&database)).await;
        Self { servers, database, redis: Arc::new(redis), bouncer: None, sql }
    }

    /// What an operator does to a table that has outgrown one.
    pub async fn partition_messages(&self) {
        let script = include_str!("../../../migrations/partition_messages.sql");
        let sql = self.connect().await;
        sql.batch_execute("SET arcyou.partitions = 5").await.unwrap();
        sql.batch_execute(script).await.unwrap();
    }

    /// The same with a PostgreSQL and a PgBouncer that may be broken.
    pub async fn alone() -> Self {
        Self::on(tokio::task::spawn_blocking(|| Arc::new(Servers::start())).await.unwrap(), &[]).await
    }

    /// The same with these settings of Redis.
    pub async fn with_redis(settings: &'static [(&'static str, &'static str)]) -> Self {
        Self::on(Servers::shared().await, settings).await
    }

    async fn on(servers: Arc<Servers>, redis: &'static [(&'static str, &'static str)]) -> Self {
        let database = servers.database().await;
        let redis = tokio::task::spawn_blocking(|| Redis::start_with(redis)).await.unwrap().unwrap();
        let sql = connect(&servers.postgres.url(&database)).await;
        Self { servers, database, redis: Arc::new(redis), bouncer: None, sql }
    }

    /// The same with a PgBouncer that may be broken.
    pub async fn breakable() -> Self {
        Self::breakable_with(&[]).await
    }

    /// The same with these settings of PgBouncer.
    pub async fn breakable_with(settings: &[(&str, &str)]) -> Self {
        let world = Self::new().await;
        let servers = world.servers.clone();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = PgBouncerOptions { settings, ..PgBouncerOptions::default() };
        let start = move || PgBouncer::start(&servers.postgres, options);
        let bouncer = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
        Self { bouncer: Some(Arc::new(bouncer)), ..world }
    }

    /// The database through PgBouncer.
    pub fn database_url(&self) -> String {
        self.bouncer.as_deref().unwrap_or(&self.servers.bouncer).url(&self.database)
    }

    /// The database itself.
    pub fn direct_url(&self) -> String {
        self.servers.postgres.url(&self.database)
    }

    /// A second connection, for locks and transactions that stay open.
    pub async fn connect(&self) -> Client {
        connect(&self.direct_url()).await
    }

    /// A conversation with these participants, who are in it for so long that nobody has to be told.
    pub async fn conversation(&self, users: &[Uuid]) -> Uuid {
        let row = self.sql.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
        let conversation: Uuid = row.get(0);
        for user in users {
            self.old_participant(conversation, *user).await;
        }
        conversation
    }

    /// Without an event, as if it had been told long ago.
    pub async fn old_participant(&self, conversation: Uuid, user: Uuid) {
        let insert = format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             INSERT INTO participants (conversation_id, user_id) VALUES ('{conversation}', '{user}'); COMMIT"
        );
        self.sql.batch_execute(&insert).await.unwrap();
    }

    /// As another service does.
    pub async fn join_sql(&self, conversation: Uuid, user: Uuid) {
        let insert = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2)";
        self.sql.execute(insert, &[&conversation, &user]).await.unwrap();
    }

    /// One number from the database.
    pub async fn count(&self, query: &str) -> i64 {
        count(&self.sql, query).await
    }

    /// Waits until a query answers `expected`: for what the system does on its own account.
    pub async fn eventually(&self, query: &str, expected: i64) {
        eventually(&self.sql, query, expected).await;
    }
}

pub async fn count(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

pub async fn eventually(sql: &Client, query: &str, expected: i64) {
    for _ in 0..1000 {
        if count(sql, query).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{query} is {} and not {expected}", count(sql, query).await);
}

/// PostgreSQL refuses to copy a template while somebody is connected to it, such as the last connection that is just
/// going.
async fn create_from_template(postgres: &Postgres, database: &str) {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE_AT_A_TIME.lock().await;
    let admin = connect(&postgres.url("postgres")).await;
    let create = format!("CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy");
    while let Err(error) = admin.batch_execute(&create).await {
        assert_eq!(error.code().map(|code| code.code()), Some("55006"), "{error}");
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Calls that block, such as those that start and stop servers.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until every part of a gateway is up; `admin_port` may not be open yet.
pub async fn ready(admin_port: u16) {
    for _ in 0..1500 {
        let up = tokio::net::TcpStream::connect(("127.0.0.1", admin_port)).await.is_ok();
        if up && http_get(admin_port, "/ready").await.contains(r#""degraded":false"#) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the gateway was never ready");
}

/// Waits for a part of a gateway to be reported in this state; returns the reason, if there is one.
pub async fn until(admin_port: u16, part: &str, state: &str) -> String {
    for _ in 0..1500 {
        let answer = http_get(admin_port, "/ready").await;
        let report: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let part = &report["parts"][part];
        if part["state"] == state {
            return part["reason"].as_str().unwrap_or_default().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{part} was never {state}");
}

/// The whole answer to a GET, as text.
pub async fn http_get(port: u16, path: &str) -> String {
    http_request(port, "GET", path, "Accept: */*").await
}

/// The whole answer to a request without a body, as text.
pub async fn http_request(port: u16, method: &str, path: &str, header: &str) -> String {
    http_raw(port, method, path, &format!("Host: localhost\r\n{header}")).await
}

/// The same with these lines of headers alone, `Host` among them or not.
pub async fn http_raw(port: u16, method: &str, path: &str, headers: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
