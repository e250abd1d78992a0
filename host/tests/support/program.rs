//! A gateway in a process of its own: what it costs and how it ends can be told from what the test itself does.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::World;
use super::guests::CACHE_HOME;

/// It ends with the test; [`Program::begin_stop`] ends it in an orderly way.
pub struct Program {
    pub port: u16,
    pub admin_port: u16,
    child: Child,
}

impl World {
    /// A gateway process with the defaults of a deployment and these variables, once it is ready.
    pub async fn program(&self, variables: &[(&str, &str)]) -> Program {
        self.program_logging_to(Stdio::inherit(), variables).await
    }

    /// The same with its log in this place.
    pub async fn program_logging_to(&self, log: Stdio, variables: &[(&str, &str)]) -> Program {
        let (port, admin_port) = (free_port(), free_port());
        let child = self.serve_command(port, admin_port).envs(variables.iter().copied()).stderr(log).spawn().unwrap();
        let program = Program { port, admin_port, child };
        super::ready(admin_port).await;
        program
    }

    /// `arcyou-gateway serve` with the least that it needs to serve this machine.
    pub fn serve_command(&self, port: u16, admin_port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
        command
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", self.database_url())
            .env("REDIS_URL", self.redis.url())
            .env("JWT_PUBLIC_KEY", "dev-placeholder")
            .env("BIND_ADDR", "127.0.0.1")
            // No balancer has to notice.
            .env("DRAIN_DELAY_SECONDS", "0")
            .env("PORT", port.to_string())
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin_port}"))
            .env("RUST_LOG", "warn")
            .env("XDG_CACHE_HOME", CACHE_HOME)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

impl Program {
    /// Waits for a part of the gateway to be reported in this state; returns the reason, if there is one.
    pub async fn until(&self, part: &str, state: &str) -> String {
        super::until(self.admin_port, part, state).await
    }

    /// The value of a metric; 0 if there is none yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = super::http_get(self.admin_port, "/metrics").await;
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        metrics.lines().find_map(value).unwrap_or_default()
    }

    /// Waits until a metric has at least this value.
    pub async fn until_metric(&self, name: &str, least: f64) {
        for _ in 0..1500 {
            if self.metric(name).await >= least {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} was never {least}");
    }

    /// A GET on the admin listener: status line, headers and body.
    pub async fn get(&self, path: &str) -> String {
        super::http_get(self.admin_port, path).await
    }

    /// Memory that the process holds, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// SIGTERM.
    pub async fn begin_stop(&self) {
        self.signal("TERM").await;
    }

    pub async fn signal(&self, name: &str) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(&process).status().await.unwrap().success());
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }
}

/// Nobody else's in this process, and below the range of outgoing connections, which could take a port while its
/// program is down.
pub fn free_port() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let free =
        |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok() && TAKEN.lock().unwrap().insert(*port);
    std::iter::repeat_with(|| fastrand::u16(15_000..32_000)).find(free).unwrap()
}
