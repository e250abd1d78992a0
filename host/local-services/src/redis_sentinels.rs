//! Redis Sentinel.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::Account;
use crate::error::{IoContext as _, ServiceError};
use crate::find;
use crate::log::LogSince;
use crate::redis::{INSTALL, Redis};
use crate::service::{Service, ServiceKind};
use crate::supervisor::Signal;
use crate::workspace::Workspace;

/// Sentinels that watch one private Redis and its replicas. Dropping them stops them; the servers are the caller's.
#[derive(Debug)]
pub struct RedisSentinels {
    sentinels: Vec<Service<SentinelService>>,
}

impl RedisSentinels {
    /// The name under which they know the Redis.
    pub const NAME: &str = "chat";

    /// Starts so many sentinels, of which most must agree that `leader` is gone before they choose another.
    pub fn start(leader: &Redis, count: usize) -> Result<Self, ServiceError> {
        let start = |_| {
            let account = Account::choose(SentinelService::NAME)?;
            let workspace = Workspace::temporary(SentinelService::NAME, &account)?;
            let program = find::program(&["redis-server", "valkey-server"], INSTALL)?;
            let kind =
                SentinelService { program, leader: leader.port(), quorum: count / 2 + 1, account: account.clone() };
            Service::start(kind, account, workspace, None)
        };
        Ok(Self { sentinels: (0..count).map(start).collect::<Result<_, _>>()? })
    }

    /// What a client is given to find the Redis that leads.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{}", hosts.join(","), Self::NAME)
    }

    /// The ports of the sentinels.
    pub fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(Service::port).collect()
    }

    /// Kills one of them (SIGKILL).
    pub fn kill(&self, index: usize) {
        self.sentinels[index].kill();
    }
}

#[derive(Debug)]
struct SentinelService {
    program: PathBuf,
    leader: u16,
    quorum: usize,
    account: Account,
}

impl ServiceKind for SentinelService {
    const NAME: &'static str = "sentinel";
    const STOP: Signal = Signal::Terminate;
    const READY_TIMEOUT: Duration = Duration::from_secs(30);

    /// A sentinel keeps what it learns in its configuration file.
    fn command(&self, workspace: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError> {
        let (file, name) = (workspace.path().join("sentinel.conf"), RedisSentinels::NAME);
        let text = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {directory}\n\
             sentinel monitor {name} 127.0.0.1 {leader} {quorum}\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n",
            directory = workspace.path().display(),
            leader = self.leader,
            quorum = self.quorum,
        );
        std::fs::write(&file, text).during(|| format!("writing {}", file.display()))?;
        self.account.give(&file)?;
        Ok((self.program.clone(), vec![file.into(), "--sentinel".into()]))
    }

    /// A sentinel does not end a connection that asks it to, as a Redis does, but its log is its own.
    fn is_ready(&self, _: &Workspace, port: u16, _: u32, log: &LogSince) -> bool {
        let text = log.text();
        text.contains(&format!("Running mode=sentinel, port={port}")) && text.contains("+monitor")
    }
}
