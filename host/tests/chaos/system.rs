//! The real programs and their servers, with a link that can be broken between each two.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use crate::proxy::Proxy;
use crate::schedule::{Fault, Link, Part};

const GATEWAY: &str = env!("CARGO_BIN_EXE_arcyou-gateway");
/// How long something may take that must happen: generous, since a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(90);
const DATABASE: &str = "chaos";

pub struct System {
    pub postgres: Arc<Postgres>,
    bouncer: Arc<PgBouncer>,
    redis: Arc<Redis>,
    links: HashMap<Link, Proxy>,
    programs: HashMap<Part, Arc<Mutex<Program>>>,
    admin: Vec<u16>,
    logs: TempDir,
}

/// A process that is started again as it was.
struct Program {
    path: PathBuf,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
}

impl Program {
    fn start(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.path);
        command.env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command.stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log));
        self.child = Some(command.spawn().unwrap());
        self.started = Instant::now();
    }

    fn signal(&self, name: &str) {
        let Some(child) = &self.child else { return };
        let arguments = [format!("-{name}"), child.id().to_string()];
        // A process that has ended hears nothing, and that is told where its end is looked at.
        let _ = Command::new("kill").args(arguments).stderr(Stdio::null()).status();
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and an end in time.
    fn terminate(&mut self) -> Result<(), String> {
        self.signal("TERM");
        let Some(child) = &mut self.child else { return Ok(()) };
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                // One that has hardly begun cannot hear a signal yet, and has nothing to put in order.
                let unborn = status.signal() == Some(15) && asked - self.started < Duration::from_secs(1);
                return if status.success() || unborn { Ok(()) } else { Err(format!("SIGTERM ended in {status}")) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        Err("SIGTERM did not end it".to_owned())
    }

    /// A process that nobody ended has failed.
    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl System {
    /// Starts everything, and waits until all of it is up.
    pub async fn start(mode: &str) -> Self {
        let (postgres, bouncer, redis) = tokio::task::spawn_blocking(servers).await.unwrap();
        let admin = connect(&postgres, "postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.unwrap();
        let logs = tempfile::Builder::new().prefix("arcyou-chaos-").tempdir().unwrap();
        let (links, programs, admin) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut system = Self { postgres, bouncer, redis, links, programs, admin, logs };
        for number in 0..2 {
            system.add(Part::Gateway(number), mode).await;
            system.add(Part::Worker(number), mode).await;
        }
        for program in system.programs.values() {
            program.lock().unwrap().start();
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
        ];
        let (path, name) = match part {
            Part::Gateway(number) => {
                let (port, admin) = (free_port(), free_port());
                self.links.insert(Link::Clients(number), Proxy::start(port).await);
                self.admin.push(admin);
                environment.push(("PORT", port.to_string()));
                environment.push(("ADMIN_ADDR", format!("127.0.0.1:{admin}")));
                environment.push(("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()));
                environment.push(("DRAIN_SECONDS", "2".to_owned()));
                environment.push(("RATE_LIMIT_PER_SECOND", "0".to_owned()));
                (PathBuf::from(GATEWAY), format!("gateway-{number}.log"))
            }
            Part::Worker(number) => {
                environment.push(("ADMIN_ADDR", "127.0.0.1:0".to_owned()));
                (worker(), format!("worker-{number}.log"))
            }
        };
        self.links.insert(Link::Database(part), database);
        self.links.insert(Link::Redis(part), redis);
        let program =
            Program { path, environment, log: self.logs.path().join(name), child: None, started: Instant::now() };
        self.programs.insert(part, Arc::new(Mutex::new(program)));
    }

    /// Where clients reach the gateways.
    pub fn doors(&self) -> Vec<u16> {
        (0..2).map(|number| self.links[&Link::Clients(number)].port).collect()
    }

    /// Straight to PostgreSQL, which no fault touches.
    pub async fn sql(&self) -> Client {
        connect(&self.postgres, DATABASE).await
    }

    /// Keeps the logs of the programs; where they are.
    pub fn keep_logs(&mut self) -> &Path {
        self.logs.disable_cleanup(true);
        self.logs.path()
    }

    /// Waits until both gateways say that every part is up.
    pub async fn until_ready(&self) {
        let started = Instant::now();
        for admin in &self.admin {
            while !get(*admin, "/ready").await.unwrap_or_default().contains(r#""degraded":false"#) {
                let late = started.elapsed() > PATIENCE;
                assert!(!late, "a gateway is not ready; its log is in {}", self.logs.path().display());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Which programs have ended although nobody ended them.
    pub fn dead(&self) -> Vec<Part> {
        let ended = self.programs.iter().filter(|(_, program)| !program.lock().unwrap().is_running());
        ended.map(|(part, _)| *part).collect()
    }

    pub async fn begin(&self, fault: Fault) -> Result<(), String> {
        let (bouncer, redis) = (self.bouncer.clone(), self.redis.clone());
        match fault {
            Fault::Kill(part) => {
                self.with(part, |program| {
                    program.kill();
                    Ok(())
                })
                .await
            }
            Fault::Terminate(part) => self.with(part, Program::terminate).await,
            Fault::Freeze(part) => {
                self.with(part, |program| {
                    program.signal("STOP");
                    Ok(())
                })
                .await
            }
            Fault::KillPgBouncer => {
                blocking(move || {
                    bouncer.kill();
                    Ok(())
                })
                .await
            }
            Fault::PausePgBouncer => blocking(move || bouncer.pause().map_err(|error| error.to_string())).await,
            Fault::EmptyRedis => {
                blocking(move || {
                    redis.kill();
                    Ok(())
                })
                .await
            }
            Fault::KillSubscribers => kill_subscribers(redis.port()).await.map_err(|error| error.to_string()),
            Fault::Partition(link) => {
                self.links[&link].partition();
                Ok(())
            }
            Fault::Cut(link) => {
                self.links[&link].cut();
                Ok(())
            }
            Fault::Delay(link, by) => {
                self.links[&link].delay(by);
                Ok(())
            }
        }
    }

    pub async fn end(&self, fault: Fault) -> Result<(), String> {
        let (bouncer, redis) = (self.bouncer.clone(), self.redis.clone());
        match fault {
            Fault::Kill(part) | Fault::Terminate(part) => {
                self.with(part, |program| {
                    program.start();
                    Ok(())
                })
                .await
            }
            Fault::Freeze(part) => {
                self.with(part, |program| {
                    program.signal("CONT");
                    Ok(())
                })
                .await
            }
            Fault::KillPgBouncer => blocking(move || bouncer.restart().map_err(|error| error.to_string())).await,
            Fault::PausePgBouncer => blocking(move || bouncer.resume().map_err(|error| error.to_string())).await,
            Fault::EmptyRedis => blocking(move || redis.restart().map_err(|error| error.to_string())).await,
            Fault::KillSubscribers | Fault::Cut(_) => Ok(()),
            Fault::Partition(link) | Fault::Delay(link, _) => {
                self.links[&link].heal();
                Ok(())
            }
        }
    }

    async fn with(
        &self,
        part: Part,
        work: impl FnOnce(&mut Program) -> Result<(), String> + std::marker::Send + 'static,
    ) -> Result<(), String> {
        let program = self.programs[&part].clone();
        blocking(move || work(&mut program.lock().unwrap())).await
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), String> + std::marker::Send + 'static) -> Result<(), String> {
    tokio::task::spawn_blocking(work).await.unwrap()
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

/// Below the range of outgoing connections, which could take a port while its program is down.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(15_000..32_000)).find(free).unwrap()
}

async fn connect(postgres: &Postgres, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres.url(database), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn kill_subscribers(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"CLIENT KILL TYPE pubsub\r\nQUIT\r\n").await?;
    stream.read_to_string(&mut String::new()).await.map(drop)
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
