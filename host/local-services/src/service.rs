//! What all services share: start on a port, wait until ready, stop, kill, start again on the same port.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::ServiceError;
use crate::log::LogSince;
use crate::port;
use crate::supervisor::{Launch, Signal, Supervised};
use crate::workspace::Workspace;

/// Another process may take a free port before the service does.
const MAX_PORT_ATTEMPTS: u32 = 8;
/// How long a restart waits for the port, and for what a killed server left behind, to become free.
const RESTART_TIMEOUT: Duration = Duration::from_secs(15);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What differs between the services.
pub(crate) trait ServiceKind {
    const NAME: &'static str;
    /// The signal that makes it shut down without waiting for its clients.
    const STOP: Signal;
    /// The longest that it may take to become ready.
    const READY_TIMEOUT: Duration;

    /// Writes the files that the service needs, and returns its command line for this port.
    fn command(&self, workspace: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError>;

    /// Whether the process `pid`, and not another one on the same port, accepts clients.
    fn is_ready(&self, workspace: &Workspace, port: u16, pid: u32, log: &LogSince) -> bool;

    /// Whether the log of a failed start shows a problem that passes by itself, left behind by a killed server.
    fn is_transient(_log: &str) -> bool {
        false
    }
}

/// A service on its port, running or not.
#[derive(Debug)]
pub(crate) struct Service<R> {
    // First, so that it is stopped before its directory is removed.
    running: Mutex<Option<Supervised>>,
    pub(crate) kind: R,
    account: Account,
    workspace: Workspace,
    port: u16,
}

impl<R: ServiceKind> Service<R> {
    pub(crate) fn start(
        kind: R,
        account: Account,
        workspace: Workspace,
        port: Option<u16>,
    ) -> Result<Self, ServiceError> {
        let mut service = Self { running: Mutex::new(None), kind, account, workspace, port: port.unwrap_or_default() };
        let tries = if port.is_some() { 1 } else { MAX_PORT_ATTEMPTS };
        let mut outcome = Err(ServiceError::NoPort(R::NAME));
        for _ in 0..tries {
            service.port = port.or_else(port::free).ok_or(ServiceError::NoPort(R::NAME))?;
            outcome = service.launch_with_retries(false);
            if !matches!(outcome, Err(ServiceError::PortTaken { .. })) {
                break;
            }
        }
        service.running = Mutex::new(Some(outcome?));
        Ok(service)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let mut running = self.running();
        let service = running.as_mut()?;
        service.wait(Duration::ZERO).is_none().then(|| service.pid())
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.workspace.path().join(format!("{}.log", R::NAME))
    }

    /// What the log says from here on.
    pub(crate) fn log_since_now(&self) -> LogSince {
        LogSince::now(&self.log())
    }

    /// Rewrites the files of the running service.
    pub(crate) fn configure(&self) -> Result<(), ServiceError> {
        self.kind.command(&self.workspace, self.port).map(drop)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(service) = self.running().as_mut() {
            service.signal(signal);
        }
    }

    pub(crate) fn stop(&self) {
        let stopped = self.running().take();
        drop(stopped);
    }

    pub(crate) fn kill(&self) {
        let killed = self.running().take();
        if let Some(mut service) = killed {
            service.signal(Signal::Kill);
            service.wait(RESTART_TIMEOUT);
        }
    }

    pub(crate) fn restart(&self) -> Result<(), ServiceError> {
        let mut running = self.running();
        drop(running.take());
        *running = Some(self.launch_with_retries(true)?);
        Ok(())
    }

    /// Launches, and retries while the problem is what a killed server left behind or, with a fixed port, a taken port.
    fn launch_with_retries(&self, port_is_fixed: bool) -> Result<Supervised, ServiceError> {
        let deadline = Instant::now() + RESTART_TIMEOUT;
        loop {
            let error = match self.launch() {
                Ok(service) => return Ok(service),
                Err(error) => error,
            };
            let is_transient = match &error {
                ServiceError::PortTaken { .. } => port_is_fixed,
                ServiceError::Exited { log, .. } => R::is_transient(log),
                _ => false,
            };
            if !is_transient || Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    fn launch(&self) -> Result<Supervised, ServiceError> {
        let (program, arguments) = self.kind.command(&self.workspace, self.port)?;
        let log = self.log_since_now();
        let mut service = Supervised::start(Launch {
            account: &self.account,
            environment: &[],
            directory: self.workspace.path(),
            temporary: self.workspace.removable(),
            log: &self.log(),
            stop: R::STOP,
            program,
            arguments,
        })?;
        let deadline = Instant::now() + R::READY_TIMEOUT;
        loop {
            if let Some(status) = service.wait(POLL_INTERVAL) {
                return Err(self.ended(status, &log));
            }
            if self.kind.is_ready(&self.workspace, self.port, service.pid(), &log) {
                return Ok(service);
            }
            if Instant::now() > deadline {
                return Err(ServiceError::NotReady { service: R::NAME, waited: R::READY_TIMEOUT, log: log.tail() });
            }
        }
    }

    fn ended(&self, status: &str, log: &LogSince) -> ServiceError {
        if log.text().contains("ddress already in use") {
            return ServiceError::PortTaken { service: R::NAME, port: self.port };
        }
        ServiceError::Exited { service: R::NAME, status: status.to_owned(), log: log.tail() }
    }

    /// After a panic elsewhere the service is unchanged and can still be stopped.
    fn running(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
