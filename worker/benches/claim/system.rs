//! Servers, workers, and an outbox table as it is after years of use.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Program, Redis};
use arcyou_platform::bus::RedisBus;
use arcyou_platform::health::Health;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use crate::metrics::Claims;
use crate::schema;

/// A message's payload, as the gateway's transaction makes it; of `number` and `tick`.
pub const PAYLOAD: &str = "jsonb_build_object('message', jsonb_build_object(
    'id', number, 'seq', tick, 'conversation_id', md5((number % 1000)::text)::uuid,
    'sender_id', md5((number % 5000)::text)::uuid, 'created_at', message_time(now()),
    'body', jsonb_build_object('text', rpad('A message as people write them, number ' || number, 100, ' .'))))";

/// Rows that are inserted and marked in one transaction.
const CHUNK: u64 = 100_000;
/// Rows after which the table is vacuumed, so that it is not larger than with autovacuum.
const VACUUM_EVERY: u64 = 1_000_000;

/// Started outside of the runtime, since that blocks.
pub struct Servers {
    postgres: Postgres,
    bouncer: PgBouncer,
    redis: Redis,
}

impl Servers {
    pub fn start() -> Self {
        // More memory than the servers of the tests: a small amount for a table of gigabytes.
        let settings = [("shared_buffers", "512MB"), ("max_wal_size", "4GB")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let postgres = PostgresOptions { durable: true, settings, ..PostgresOptions::default() };
        let postgres = Postgres::start(postgres).unwrap();
        let bouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
        Self { postgres, bouncer, redis: Redis::start().unwrap() }
    }
}

pub struct System<'s> {
    servers: &'s Servers,
    /// A direct connection to PostgreSQL.
    pub sql: Client,
    pub bus: Arc<RedisBus>,
    admin: Vec<u16>,
    _workers: Vec<Program>,
    _directory: TempDir,
}

impl<'s> System<'s> {
    pub async fn start(servers: &'s Servers, workers: usize) -> Self {
        let sql = connect(&servers.postgres.url("postgres")).await;
        sql.batch_execute(&schema::sql()).await.unwrap();
        let directory = tempfile::Builder::new().prefix("arcyou-claim-").tempdir().unwrap();
        let bus = Arc::new(RedisBus::new(&servers.redis.url().parse().unwrap(), &Health::new()).unwrap());
        let admin: Vec<u16> = (0..workers).map(|_| free_port()).collect();
        let start = |(number, port): (usize, &u16)| {
            let environment = [
                ("DATABASE_URL", servers.bouncer.url("postgres")),
                ("REDIS_URL", servers.redis.url()),
                ("ADMIN_ADDR", format!("127.0.0.1:{port}")),
                ("RUST_LOG", "warn".to_owned()),
            ];
            let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
            let log = format!("worker-{number}.log");
            let mut worker = Program::new(binary(), environment, directory.path(), &log).unwrap();
            worker.start().unwrap();
            worker
        };
        let workers = admin.iter().enumerate().map(start).collect();
        let system = Self { servers, sql, bus, admin, _workers: workers, _directory: directory };
        for port in &system.admin {
            while !get(*port, "/ready").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        system
    }

    pub fn direct_url(&self) -> String {
        self.servers.postgres.url("postgres")
    }

    /// Through PgBouncer, as gateways write.
    pub fn pooled_url(&self) -> String {
        self.servers.bouncer.url("postgres")
    }

    pub async fn scrape(&self) -> Claims {
        let mut claims = Claims::default();
        for port in &self.admin {
            claims.add(&get(*port, "/metrics").await.unwrap());
        }
        claims
    }

    /// Empties the outbox and fills it with rows that were processed over the last two days: inserted, marked by an
    /// update, and vacuumed, as autovacuum does with rows of that age.
    pub async fn fill(&self, rows: u64) {
        self.sql.batch_execute("TRUNCATE outbox").await.unwrap();
        let insert = format!(
            "INSERT INTO outbox (type, conversation_id, payload, created_at, internal)
             SELECT 'message.created', md5((number % 1000)::text)::uuid, {PAYLOAD}, moment, true
             FROM (SELECT -number AS number, 0 AS tick,
                     now() - interval '48 hours' * (1 - number / ($3::int8 + 1.0)) AS moment
                   FROM generate_series($1::int8, $2::int8) AS number) AS row ORDER BY row.moment"
        );
        for from in (0..rows).step_by(CHUNK as usize) {
            let to = (from + CHUNK).min(rows);
            self.sql.batch_execute("BEGIN").await.unwrap();
            self.sql.execute(&insert, &[&(from as i64 + 1), &(to as i64), &(rows as i64)]).await.unwrap();
            let mark =
                "UPDATE outbox SET processed = true, processed_at = created_at + interval '8 ms' WHERE NOT processed";
            self.sql.batch_execute(mark).await.unwrap();
            self.sql.batch_execute("COMMIT").await.unwrap();
            if to.is_multiple_of(VACUUM_EVERY) && to < rows {
                self.sql.batch_execute("VACUUM outbox").await.unwrap();
            }
        }
        self.sql.batch_execute("VACUUM (ANALYZE) outbox").await.unwrap();
        self.sql.batch_execute("CHECKPOINT").await.unwrap();
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The worker that was built for this program.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_arcyou-outbox-worker"))
}

/// Where figures are kept: `bench` in the target directory.
pub fn directory() -> PathBuf {
    let directory = binary().ancestors().nth(2).unwrap().join("bench");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
