//! Servers, gateways and workers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Program, Redis};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

/// The outbox must be empty so long after the last message.
const PATIENCE: Duration = Duration::from_secs(120);

/// Started outside of the runtime, since that blocks.
pub struct Servers {
    postgres: Postgres,
    bouncer: PgBouncer,
    redis: Arc<Redis>,
}

impl Servers {
    pub fn start() -> Self {
        let postgres = Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() }).unwrap();
        let bouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
        Self { postgres, bouncer, redis: Arc::new(Redis::start().unwrap()) }
    }
}

pub struct System {
    redis: Arc<Redis>,
    /// Straight to PostgreSQL.
    pub sql: Client,
    /// Where the gateways listen.
    pub gateways: [u16; 2],
    _programs: Vec<Program>,
    _directory: TempDir,
}

/// What the workers did with the outbox.
pub struct Outbox {
    /// Rows that were not published.
    pub pending: i64,
    pub retries: i64,
    pub parked: i64,
    /// Seconds from Redis' return until the last row that was written before it was published.
    pub drained: f64,
    /// Messages in the table, and how many of them are different.
    pub stored: i64,
    pub different: i64,
}

impl System {
    /// Starts everything, and waits until all of it is up.
    pub async fn start(servers: &Servers) -> Self {
        let (sql, connection) = tokio_postgres::connect(&servers.postgres.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        let directory = tempfile::Builder::new().prefix("arcyou-outage-").tempdir().unwrap();
        let mut programs = Vec::new();
        let mut start = |path: &Path, log: String, more: Vec<(&str, String)>| {
            let mut environment = vec![
                ("DATABASE_URL", servers.bouncer.url("postgres")),
                ("REDIS_URL", servers.redis.url()),
                // The outage is no news here.
                ("RUST_LOG", "error".to_owned()),
            ];
            environment.extend(more);
            let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let mut program = Program::new(path, environment, directory.path(), &log).unwrap();
            program.start().unwrap();
            programs.push(program);
        };
        let gateways = [free_port(), free_port()];
        for (number, port) in gateways.iter().enumerate() {
            let admin = free_port();
            let environment = vec![
                ("PORT", port.to_string()),
                ("ADMIN_ADDR", format!("127.0.0.1:{admin}")),
                ("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()),
                ("BIND_ADDR", "127.0.0.1".to_owned()),
                ("RATE_LIMIT_PER_SECOND", "0".to_owned()),
                ("READ_BYTES_PER_SECOND", "0".to_owned()),
            ];
            start(gateway(), format!("gateway-{number}.log"), environment);
            ready(admin).await;
        }
        let worker = gateway().with_file_name("arcyou-outbox-worker");
        assert!(worker.exists(), "build the worker first: cargo build --release -p arcyou-outbox-worker");
        for number in 0..2 {
            let admin = free_port();
            start(&worker, format!("worker-{number}.log"), vec![("ADMIN_ADDR", format!("127.0.0.1:{admin}"))]);
            ready(admin).await;
        }
        Self { redis: Arc::clone(&servers.redis), sql, gateways, _programs: programs, _directory: directory }
    }

    pub async fn kill_redis(&self) {
        let redis = Arc::clone(&self.redis);
        tokio::task::spawn_blocking(move || redis.kill()).await.unwrap();
    }

    /// Until it answers again; empty.
    pub async fn restart_redis(&self) {
        let redis = Arc::clone(&self.redis);
        tokio::task::spawn_blocking(move || redis.restart()).await.unwrap().unwrap();
    }

    /// The database's time.
    pub async fn clock(&self) -> String {
        self.sql.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap().get(0)
    }

    pub async fn version(&self) -> String {
        self.sql.query_one("SHOW server_version", &[]).await.unwrap().get(0)
    }

    /// Waits until everything is published. `returned`: when Redis did, by the database's clock.
    pub async fn outbox(&self, returned: &String) -> Outbox {
        let statement = "SELECT count(*) FILTER (WHERE NOT processed), sum(retry_count)::int8, count(parked_at),
                coalesce(extract(epoch FROM max(processed_at) FILTER (WHERE created_at < $1::text::timestamptz)
                    - $1::text::timestamptz), 0)::float8,
                (SELECT count(*) FROM messages), (SELECT count(DISTINCT body ->> 'text') FROM messages)
            FROM outbox";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.sql.query_one(statement, &[returned]).await.unwrap();
            let outbox = Outbox {
                pending: row.get(0),
                retries: row.get(1),
                parked: row.get(2),
                drained: row.get(3),
                stored: row.get(4),
                different: row.get(5),
            };
            if outbox.pending == 0 || Instant::now() > deadline {
                return outbox;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The gateway that was built for this program.
fn gateway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_arcyou-gateway"))
}

/// Where figures are kept: `bench` in the target directory.
pub fn directory() -> PathBuf {
    let directory = gateway().ancestors().nth(2).unwrap().join("bench");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a program says that all its parts are up.
async fn ready(admin: u16) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", admin)).await {
            stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200") && !answer.contains(r#""degraded":true"#) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
