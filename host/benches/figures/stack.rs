//! Servers, gateways and workers, and the processor time that each of them takes.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arcyou_gateway::migrate::migrate;
use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Program, Redis};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Long enough for a busy machine; what has not started by then never will.
const START: Duration = Duration::from_secs(60);

/// PostgreSQL (fsync on), PgBouncer in transaction mode and Redis. Started outside of a runtime, since that blocks.
pub struct Servers {
    pub postgres: Postgres,
    pub bouncer: PgBouncer,
    pub redis: Redis,
}

impl Servers {
    pub fn start() -> Self {
        let postgres = Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() }).unwrap();
        let bouncer =
            PgBouncer::start(&postgres, PgBouncerOptions { pool_size: 32, ..PgBouncerOptions::default() }).unwrap();
        Self { postgres, bouncer, redis: Redis::start().unwrap() }
    }

    /// An empty database with the gateway's schema. The one before is dropped: what is done about it later, such as
    /// vacuuming, would be measured as well.
    pub async fn database(&self) -> Database<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench_{number}");
        let admin = connect(&self.postgres.url("postgres")).await;
        if let Some(before) = number.checked_sub(1) {
            let drop = format!("DROP DATABASE IF EXISTS bench_{before} WITH (FORCE)");
            admin.batch_execute(&drop).await.unwrap();
        }
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let sql = connect(&self.postgres.url(&name)).await;
        migrate(&sql).await.unwrap();
        let directory = tempfile::Builder::new().prefix("arcyou-bench-").tempdir().unwrap();
        Database { servers: self, name, sql, directory }
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database of its own, and what is started on it.
pub struct Database<'s> {
    pub servers: &'s Servers,
    pub name: String,
    /// Straight to PostgreSQL.
    pub sql: Client,
    directory: TempDir,
}

/// A conversation and its members.
#[derive(Clone)]
pub struct Conversation {
    pub id: Uuid,
    pub users: Vec<Uuid>,
}

/// A running gateway or worker.
pub struct Part {
    program: Program,
    pub port: u16,
    pub admin: u16,
    log: PathBuf,
}

impl Database<'_> {
    /// Through PgBouncer, as the gateway goes.
    pub fn url(&self) -> String {
        self.servers.bouncer.url(&self.name)
    }

    /// A connection through PgBouncer.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    pub async fn conversations(&self, count: usize, members: usize) -> Vec<Conversation> {
        let mut conversations = Vec::with_capacity(count);
        for _ in 0..count {
            let row = self.sql.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
            let (id, users): (Uuid, Vec<Uuid>) = (row.get(0), (0..members).map(|_| Uuid::new_v4()).collect());
            let insert = "INSERT INTO participants (conversation_id, user_id) SELECT $1, unnest($2::uuid[])";
            self.sql.execute(insert, &[&id, &users]).await.unwrap();
            conversations.push(Conversation { id, users });
        }
        conversations
    }

    /// What VACUUM and a checkpoint would do at some moment of their own.
    pub async fn settle(&self) {
        // Apart: a VACUUM has no other statement beside it.
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            self.sql.batch_execute(statement).await.unwrap();
        }
    }

    pub async fn count(&self, query: &str) -> i64 {
        self.sql.query_one(query, &[]).await.unwrap().get(0)
    }

    /// A gateway without limits and with these variables besides, until it is ready.
    pub async fn gateway(&self, variables: &[(&str, String)]) -> Part {
        let mut environment = vec![
            ("RATE_LIMIT_PER_SECOND", "0".to_owned()),
            // All sockets of a benchmark come from this machine.
            ("MAX_CONNECTIONS_PER_ADDRESS", "10000000".to_owned()),
            ("MAX_UNAUTHENTICATED_PER_ADDRESS", "10000000".to_owned()),
            ("READ_BYTES_PER_SECOND", "0".to_owned()),
            ("MAX_SOCKETS_PER_USER", "1000000".to_owned()),
        ];
        environment.extend(variables.iter().cloned());
        self.deployed(&gateway_binary(), &environment).await
    }

    /// A gateway of this binary with the limits of a deployment and these variables besides, until it is ready.
    pub async fn deployed(&self, binary: &Path, variables: &[(&str, String)]) -> Part {
        let port = free_port();
        let mut environment = vec![
            ("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()),
            ("BIND_ADDR", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
        ];
        environment.extend(variables.iter().cloned());
        let part = self.start(binary, port, &environment);
        part.ready().await;
        part
    }

    /// A worker, as soon as it has started.
    pub async fn worker(&self) -> Part {
        self.worker_with(&[]).await
    }

    /// The same with these variables besides.
    pub async fn worker_with(&self, variables: &[(&str, String)]) -> Part {
        let part = self.start(&worker_binary(), 0, variables);
        part.ready().await;
        part
    }

    fn start(&self, binary: &Path, port: u16, variables: &[(&str, String)]) -> Part {
        let admin = free_port();
        let mut environment = HashMap::from([
            ("DATABASE_URL", self.url()),
            ("REDIS_URL", self.servers.redis.url()),
            ("ADMIN_ADDR", format!("127.0.0.1:{admin}")),
            ("RUST_LOG", "warn".to_owned()),
            ("HOME", self.directory.path().display().to_string()),
        ]);
        environment.extend(variables.iter().map(|(name, value)| (*name, value.clone())));
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let log = format!("{admin}.log");
        let mut program = Program::new(binary, environment, self.directory.path(), &log).unwrap();
        program.start().unwrap();
        Part { program, port, admin, log: self.directory.path().join(log) }
    }
}

impl Part {
    async fn ready(&self) {
        let until = Instant::now() + START;
        while !get(self.admin, "/ready").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(Instant::now() < until, "it does not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&mut self) -> u32 {
        self.program.pid().expect("it has ended")
    }

    /// One line of its metrics.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = get(self.admin, "/metrics").await.unwrap();
        let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
    }
}

/// The whole answer to a GET; none if the connection broke.
pub async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn gateway_binary() -> PathBuf {
    env!("CARGO_BIN_EXE_arcyou-gateway").into()
}

fn worker_binary() -> PathBuf {
    let worker = gateway_binary().with_file_name("arcyou-outbox-worker");
    assert!(worker.exists(), "build the worker first: cargo build --release -p arcyou-outbox-worker");
    worker
}

/// The shipped plugins as `.wasm` files, built by the gateway's own command.
pub fn plugins() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-plugins");
    arcyou_plugin_host::tool::build::build(&[root.join("plugins"), root.join("host/benches/trivial")], &out).unwrap();
    out
}

/// A plugins directory with these of them: the file, the name it gets, and what stands under it in `plugins.toml`.
pub fn plugins_dir(chosen: &[(&str, &str, &str)]) -> TempDir {
    let (dir, built) = (tempfile::tempdir().unwrap(), plugins());
    let mut manifest = String::new();
    for (file, name, settings) in chosen {
        fs::copy(built.join(format!("{file}.wasm")), dir.path().join(format!("{name}.wasm"))).unwrap();
        manifest.push_str(&format!("[[plugin]]\nname = \"{name}\"\n{settings}\n"));
    }
    fs::write(dir.path().join("plugins.toml"), manifest).unwrap();
    dir
}

/// `body-shape` and `word-filter`, as they are shipped.
pub const TWO_PLUGINS: &[(&str, &str, &str)] = &[
    ("body-shape", "body-shape", "[plugin.config]\nmax_chars = 4000\n"),
    ("word-filter", "word-filter", "[plugin.config]\nmask = [\"badword\"]\nreject = [\"forbidden\"]\n"),
];

/// Seconds of processor time of a process until now.
pub fn cpu(pid: u32) -> f64 {
    times(&pid.to_string()).map_or(0.0, |times| times.own)
}

/// The same of a process and all its children, those that have ended included.
pub fn cpu_of_tree(pid: u32) -> f64 {
    let root = times(&pid.to_string()).unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let others = all.filter_map(|entry| times(&entry.file_name().to_string_lossy()));
    root.own + root.ended_children + others.filter(|times| times.parent == pid).map(|times| times.own).sum::<f64>()
}

struct Times {
    parent: u32,
    own: f64,
    ended_children: f64,
}

/// From `/proc/PID/stat` (proc(5)), whose clock ticks are hundredths of a second on every Linux that there is.
fn times(pid: &str) -> Option<Times> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 100.0;
    let parent = fields.get(1)?.parse().ok()?;
    Some(Times { parent, own: seconds(11) + seconds(12), ended_children: seconds(13) + seconds(14) })
}

/// A line of `/proc/PID/status` in bytes.
pub fn status_bytes(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
