//! What the three services share: start on a port, wait until ready, stop, kill, start again on the same port.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::ServiceError;
use crate::log::LogSince;
use crate::port;
use crate::supervisor::{Plan, Signal, Supervised};
use crate::workspace::Workspace;

const PORTS_TO_TRY: u32 = 8;
/// How long a restart waits for the port, and for what a killed server left behind, to become free.
const RESTART_PATIENCE: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// What is particular to one service.
pub(crate) trait Recipe {
    const NAME: &'static str;
    /// The signal that ends it in an orderly way without waiting for its clients.
    const STOP: Signal;
    /// The longest that it may take to become ready.
    const PATIENCE: Duration;

    /// The command line for this port, after writing whatever files it needs.
    fn command(&self, workspace: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError>;

    /// Whether the process `pid`, and no other that happens to have the port, accepts clients.
    fn is_ready(&self, workspace: &Workspace, port: u16, pid: u32, log: &LogSince) -> bool;

    /// Whether this log tells of something that passes by itself, left behind by a killed server.
    fn passes(_log: &str) -> bool {
        false
    }
}

/// A service on its port, running or not.
#[derive(Debug)]
pub(crate) struct Service<R> {
    // First, so that it is stopped before its directory is removed.
    running: Mutex<Option<Supervised>>,
    pub(crate) recipe: R,
    account: Account,
    workspace: Workspace,
    port: u16,
}

impl<R: Recipe> Service<R> {
    pub(crate) fn start(
        recipe: R,
        account: Account,
        workspace: Workspace,
        port: Option<u16>,
    ) -> Result<Self, ServiceError> {
        let mut service =
            Self { running: Mutex::new(None), recipe, account, workspace, port: port.unwrap_or_default() };
        let tries = if port.is_some() { 1 } else { PORTS_TO_TRY };
        let mut outcome = Err(ServiceError::NoPort(R::NAME));
        for _ in 0..tries {
            service.port = port.or_else(port::free).ok_or(ServiceError::NoPort(R::NAME))?;
            outcome = service.launch_patiently(false);
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

    /// Writes the files of the running service anew.
    pub(crate) fn configure(&self) -> Result<(), ServiceError> {
        self.recipe.command(&self.workspace, self.port).map(drop)
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
            service.wait(RESTART_PATIENCE);
        }
    }

    pub(crate) fn restart(&self) -> Result<(), ServiceError> {
        let mut running = self.running();
        drop(running.take());
        *running = Some(self.launch_patiently(true)?);
        Ok(())
    }

    /// Waits for what a killed server left behind to pass, and for its port if no other will do.
    fn launch_patiently(&self, port_is_fixed: bool) -> Result<Supervised, ServiceError> {
        let deadline = Instant::now() + RESTART_PATIENCE;
        loop {
            let error = match self.launch() {
                Ok(service) => return Ok(service),
                Err(error) => error,
            };
            let passes = match &error {
                ServiceError::PortTaken { .. } => port_is_fixed,
                ServiceError::Exited { log, .. } => R::passes(log),
                _ => false,
            };
            if !passes || Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
    }

    fn launch(&self) -> Result<Supervised, ServiceError> {
        let (program, arguments) = self.recipe.command(&self.workspace, self.port)?;
        let log = self.log_since_now();
        let mut service = Supervised::start(Plan {
            account: &self.account,
            environment: &[],
            directory: self.workspace.path(),
            temporary: self.workspace.removable(),
            log: &self.log(),
            stop: R::STOP,
            program,
            arguments,
        })?;
        let deadline = Instant::now() + R::PATIENCE;
        loop {
            if let Some(status) = service.wait(BETWEEN_LOOKS) {
                return Err(self.ended(status, &log));
            }
            if self.recipe.is_ready(&self.workspace, self.port, service.pid(), &log) {
                return Ok(service);
            }
            if Instant::now() > deadline {
                return Err(ServiceError::NotReady { service: R::NAME, waited: R::PATIENCE, log: log.tail() });
            }
        }
    }

    fn ended(&self, status: &str, log: &LogSince) -> ServiceError {
        if log.text().contains("ddress already in use") {
            return ServiceError::PortTaken { service: R::NAME, port: self.port };
        }
        ServiceError::Exited { service: R::NAME, status: status.to_owned(), log: log.tail() }
    }

    /// A panic elsewhere leaves the service as it was: it can still be stopped.
    fn running(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
