//! Redis.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::account::Account;
use crate::error::ServiceError;
use crate::find;
use crate::log::LogSince;
use crate::service::{Service, ServiceKind};
use crate::supervisor::Signal;
use crate::workspace::Workspace;

pub(crate) const INSTALL: &str = "apt-get install redis-server (Debian, Ubuntu), brew install redis (macOS)";
/// The longest that a server may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that is read of an answer; `INFO` and `CLUSTER NODES` are shorter.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A private Redis (or Valkey) server that keeps nothing on disk. Dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    service: Service<RedisService>,
}

impl Redis {
    /// Starts a server on a free port and waits until it answers.
    pub fn start() -> Result<Self, ServiceError> {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, for example `("client-output-buffer-limit", "pubsub 1mb 1mb 0")`.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, ServiceError> {
        let account = Account::choose(RedisService::NAME)?;
        let workspace = Workspace::temporary(RedisService::NAME, &account)?;
        let program = find::program(&["redis-server", "valkey-server"], INSTALL)?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(Self { service: Service::start(RedisService { program, settings }, account, workspace, None)? })
    }

    /// The server's address. It stays the same over a restart.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// The server's process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.service.pid()
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.service.log()
    }

    /// The raw answer to a command whose arguments contain no spaces; None if the server does not answer.
    pub(crate) fn ask(&self, command: &str) -> Option<String> {
        // The answer to QUIT follows.
        ask(self.port(), command).map(|answer| answer.trim_end_matches("+OK\r\n").to_owned())
    }

    /// Stops the server. [`restart`](Self::restart) starts it again, empty.
    pub fn stop(&self) {
        self.service.stop();
    }

    /// Kills the server (SIGKILL).
    pub fn kill(&self) {
        self.service.kill();
    }

    /// Starts an empty server on the same port; a running one is stopped first.
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.service.restart()
    }
}

#[derive(Debug)]
struct RedisService {
    program: PathBuf,
    settings: Vec<(String, String)>,
}

impl ServiceKind for RedisService {
    const NAME: &'static str = "redis";
    const STOP: Signal = Signal::Terminate;
    const READY_TIMEOUT: Duration = Duration::from_secs(30);

    fn command(&self, workspace: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError> {
        let (port, directory) = (port.to_string(), workspace.path());
        let mut arguments: Vec<OsString> = Vec::new();
        let fixed =
            [("port", port.as_str()), ("bind", "127.0.0.1"), ("save", ""), ("appendonly", "no"), ("daemonize", "no")];
        for (name, value) in
            fixed.into_iter().chain(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        {
            arguments.extend([format!("--{name}").into(), value.into()]);
        }
        arguments.extend(["--dir".into(), directory.into()]);
        Ok((self.program.clone(), arguments))
    }

    /// Asks the server on the port for its process number: the port could belong to another process.
    fn is_ready(&self, _: &Workspace, port: u16, pid: u32, _: &LogSince) -> bool {
        ask(port, "INFO server")
            .is_some_and(|info| info.lines().any(|line| line.trim_end() == format!("process_id:{pid}")))
    }
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).ok()?;
    Some(answer)
}
