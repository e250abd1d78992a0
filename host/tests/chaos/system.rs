//! The real programs and their servers, with a link that can be broken between each two.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Program, Redis};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::schedule::{DEVICES, Fault, Link, Part};
use crate::sql::Sql;
use crate::support::plugins;
use crate::support::program::free_port;
use crate::support::proxy::Proxy;
use crate::talk;

const GATEWAY: &str = env!("CARGO_BIN_EXE_arcyou-gateway");
/// How long something may take that must happen: generous, since a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(90);
const DATABASE: &str = "chaos";

pub struct System {
    postgres: Arc<Postgres>,
    bouncer: Arc<PgBouncer>,
    redis: Arc<Redis>,
    links: HashMap<Link, Proxy>,
    programs: HashMap<Part, Arc<Mutex<Process>>>,
    /// Which of the clients read.
    readers: Vec<Arc<AtomicBool>>,
    admin: Vec<u16>,
    directory: TempDir,
}

/// A gateway or a worker, and when it began.
struct Process {
    program: Program,
    started: Instant,
}

impl Process {
    fn start(&mut self) -> Result<(), String> {
        self.started = Instant::now();
        self.program.start().map_err(|error| error.to_string())
    }

    /// SIGTERM, and an end in time.
    fn terminate(&mut self) -> Result<(), String> {
        // One that has hardly begun cannot hear a signal yet, and has nothing to put in order.
        let unborn = self.started.elapsed() < Duration::from_secs(1);
        self.program.terminate();
        match self.program.wait(PATIENCE) {
            Some("exit status 0") => Ok(()),
            Some("signal 15") if unborn => Ok(()),
            Some(status) => Err(format!("SIGTERM ended in {status}")),
            None => Err("SIGTERM did not end it".to_owned()),
        }
    }
}

impl System {
    /// Starts everything, and waits until all of it is up.
    pub async fn start(mode: &str) -> Self {
        let (postgres, bouncer, redis) = tokio::task::spawn_blocking(servers).await.unwrap();
        Sql::new(postgres.url("postgres")).query(&format!("CREATE DATABASE {DATABASE}"), &[]).await;
        let directory = tempfile::Builder::new().prefix("arcyou-chaos-").tempdir().unwrap();
        let plugins = directory.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        plugins::fill(&plugins, &talk::PLUGINS, talk::CONFIG);
        let (links, programs, admin) = (HashMap::new(), HashMap::new(), Vec::new());
        let readers = std::iter::repeat_with(|| Arc::new(AtomicBool::new(true))).take(DEVICES).collect();
        let mut system = Self { postgres, bouncer, redis, links, programs, readers, admin, directory };
        for number in 0..2 {
            system.add(Part::Gateway(number), mode).await;
            system.add(Part::Worker(number), mode).await;
        }
        for program in system.programs.values() {
            program.lock().unwrap().start().unwrap();
        }
        system.until_ready().await;
        system
    }

    async fn add(&mut self, part: Part, mode: &str) {
        let database = Proxy::start(self.bouncer.port()).await;
        let redis = Proxy::start(self.redis.port()).await;
        let through =
            |url: String, port: u16, link: &Proxy| url.replace(&format!(":{port}"), &format!(":{}", link.port));
        let mut environment = vec![
            ("DATABASE_URL", through(self.bouncer.url(DATABASE), self.bouncer.port(), &database)),
            ("REDIS_URL", through(self.redis.url(), self.redis.port(), &redis)),
            ("PUBSUB_MODE", mode.to_owned()),
            ("RUST_LOG", "info".to_owned()),
            ("XDG_CACHE_HOME", cache().display().to_string()),
        ];
        let (path, name) = match part {
            Part::Gateway(number) => {
                let (port, admin) = (free_port(), free_port());
                self.links.insert(Link::Clients(number), Proxy::start(port).await);
                self.admin.push(admin);
                environment.push(("PORT", port.to_string()));
                environment.push(("ADMIN_ADDR", format!("127.0.0.1:{admin}")));
                environment.push(("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()));
                environment.push(("BIND_ADDR", "127.0.0.1".to_owned()));
                environment.push(("DRAIN_DELAY_SECONDS", "1".to_owned()));
                environment.push(("DRAIN_SECONDS", "2".to_owned()));
                environment.push(("RATE_LIMIT_PER_SECOND", "0".to_owned()));
                environment.push(("READ_BYTES_PER_SECOND", "0".to_owned()));
                environment.push(("MAX_QUEUE_BYTES", (128 << 10).to_string()));
                environment.push(("PLUGINS_DIR", self.directory.path().join("plugins").display().to_string()));
                (PathBuf::from(GATEWAY), format!("gateway-{number}.log"))
            }
            Part::Worker(number) => {
                environment.push(("ADMIN_ADDR", "127.0.0.1:0".to_owned()));
                (worker(), format!("worker-{number}.log"))
            }
        };
        self.links.insert(Link::Database(part), database);
        self.links.insert(Link::Redis(part), redis);
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let program = Program::new(path, environment, self.directory.path(), &name).unwrap();
        self.programs.insert(part, Arc::new(Mutex::new(Process { program, started: Instant::now() })));
    }

    /// Where clients reach the gateways.
    pub fn doors(&self) -> Vec<u16> {
        (0..2).map(|number| self.links[&Link::Clients(number)].port).collect()
    }

    /// Straight to PostgreSQL.
    pub fn sql(&self) -> Sql {
        Sql::new(self.postgres.url(DATABASE))
    }

    /// Whether a client reads.
    pub fn reader(&self, device: usize) -> Arc<AtomicBool> {
        self.readers[device].clone()
    }

    /// Keeps the logs of the programs; where they are.
    pub fn keep_logs(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// Waits until both gateways say that every part is up.
    pub async fn until_ready(&self) {
        let started = Instant::now();
        for (number, admin) in self.admin.iter().enumerate() {
            while !get(*admin, "/ready").await.unwrap_or_default().contains(r#""degraded":false"#) {
                let hopeless = started.elapsed() > PATIENCE || !self.dead().is_empty();
                assert!(!hopeless, "gateway {number} is not ready:\n{}", self.log(&format!("gateway-{number}.log")));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// The end of a program's log.
    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Which programs have ended although nobody ended them.
    pub fn dead(&self) -> Vec<Part> {
        let ended = |process: &Mutex<Process>| process.lock().unwrap().program.pid().is_none();
        self.programs.iter().filter(|(_, process)| ended(process)).map(|(part, _)| *part).collect()
    }

    pub async fn begin(&self, fault: Fault) -> Result<(), String> {
        let (postgres, bouncer, redis) = (self.postgres.clone(), self.bouncer.clone(), self.redis.clone());
        match fault {
            Fault::Kill(part) => self.with(part, |process| process.program.kill()).await?,
            Fault::Terminate(part) => self.with(part, Process::terminate).await?,
            Fault::Freeze(part) => self.with(part, |process| process.program.freeze()).await?,
            Fault::KillPostgres => blocking(move || postgres.kill()).await?,
            Fault::StopPostgres => blocking(move || postgres.stop()).await?,
            Fault::KillPgBouncer => blocking(move || bouncer.kill()).await?,
            Fault::PausePgBouncer => blocking(move || bouncer.pause()).await?,
            Fault::EmptyRedis => blocking(move || redis.kill()).await?,
            Fault::KillSubscribers => kill_subscribers(redis.port()).await.map_err(|error| error.to_string())?,
            Fault::Partition(link) => self.links[&link].partition(),
            Fault::Cut(link) => self.links[&link].cut(),
            Fault::Delay(link, by) => self.links[&link].delay(by),
            Fault::StopReading(device) => self.readers[device].store(false, Ordering::SeqCst),
        }
        Ok(())
    }

    pub async fn end(&self, fault: Fault) -> Result<(), String> {
        let (postgres, bouncer, redis) = (self.postgres.clone(), self.bouncer.clone(), self.redis.clone());
        match fault {
            Fault::Kill(part) | Fault::Terminate(part) => self.with(part, Process::start).await?,
            Fault::Freeze(part) => self.with(part, |process| process.program.thaw()).await?,
            Fault::KillPostgres | Fault::StopPostgres => blocking(move || postgres.restart()).await?,
            Fault::KillPgBouncer => blocking(move || bouncer.restart()).await?,
            Fault::PausePgBouncer => blocking(move || bouncer.resume()).await?,
            Fault::EmptyRedis => blocking(move || redis.restart()).await?,
            Fault::KillSubscribers | Fault::Cut(_) => {}
            Fault::Partition(link) | Fault::Delay(link, _) => self.links[&link].heal(),
            Fault::StopReading(device) => self.readers[device].store(true, Ordering::SeqCst),
        }
        Ok(())
    }

    async fn with<T: Outcome>(
        &self,
        part: Part,
        work: impl FnOnce(&mut Process) -> T + Send + 'static,
    ) -> Result<(), String> {
        let process = self.programs[&part].clone();
        blocking(move || work(&mut process.lock().unwrap())).await
    }
}

/// What a blocking call comes to.
trait Outcome: Send + 'static {
    fn result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: ToString + Send + 'static> Outcome for Result<(), E> {
    fn result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

async fn blocking<T: Outcome>(work: impl FnOnce() -> T + Send + 'static) -> Result<(), String> {
    tokio::task::spawn_blocking(work).await.unwrap().result()
}

fn servers() -> (Arc<Postgres>, Arc<PgBouncer>, Arc<Redis>) {
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    let bouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
    (Arc::new(postgres), Arc::new(bouncer), Arc::new(Redis::start().unwrap()))
}

/// The worker that was built beside the gateway.
fn worker() -> PathBuf {
    let path = Path::new(GATEWAY).with_file_name("arcyou-outbox-worker");
    assert!(path.exists(), "{} is missing: cargo build -p arcyou-outbox-worker", path.display());
    path
}

/// Where the gateways keep compiled plugins, so that only the very first start takes its time.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("chaos-cache")
}

async fn kill_subscribers(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"CLIENT KILL TYPE pubsub\r\nQUIT\r\n").await?;
    stream.read_to_string(&mut String::new()).await.map(drop)
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
