//! A program of the caller's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::Account;
use crate::error::ServiceError;
use crate::supervisor::{Plan, Signal, Supervised};

const KILLED: Duration = Duration::from_secs(15);

/// A program of the caller's own, such as a gateway or a worker, that can be ended and started again as it was. It does
/// not outlive the caller. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    environment: Vec<(String, String)>,
    directory: PathBuf,
    log: PathBuf,
    account: Account,
    running: Option<Supervised>,
}

impl Program {
    /// Nothing runs yet. The program will work in `directory`, which is removed if the caller is killed, append what it
    /// says to the file `log` there, and see `environment` and what finds programs, nothing else of the caller's.
    pub fn new(
        path: impl Into<PathBuf>,
        environment: Vec<(String, String)>,
        directory: &Path,
        log: &str,
    ) -> Result<Self, ServiceError> {
        let (path, log, account) = (path.into(), directory.join(log), Account::caller()?);
        Ok(Self { path, environment, directory: directory.to_owned(), log, account, running: None })
    }

    /// Starts it; one that runs is killed first.
    pub fn start(&mut self) -> Result<(), ServiceError> {
        self.kill();
        self.running = Some(Supervised::start(Plan {
            account: &self.account,
            environment: &self.environment,
            directory: &self.directory,
            temporary: Some(&self.directory),
            log: &self.log,
            stop: Signal::Kill,
            program: self.path.clone(),
            arguments: Vec::new(),
        })?);
        Ok(())
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::Terminate);
    }

    /// Stops it where it is (SIGSTOP), until [`thaw`](Self::thaw).
    pub fn freeze(&mut self) {
        self.signal(Signal::Stop);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::Continue);
    }

    /// Kills it (SIGKILL), and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.running.take() {
            program.signal(Signal::Kill);
            program.wait(KILLED);
        }
    }

    /// Waits for its end at most this long; how it ended, if it did: `exit status 0`, `signal 15`.
    pub fn wait(&mut self, longest: Duration) -> Option<&str> {
        self.running.as_mut()?.wait(longest)
    }

    /// The process, if it runs.
    pub fn pid(&mut self) -> Option<u32> {
        let program = self.running.as_mut()?;
        program.wait(Duration::ZERO).is_none().then(|| program.pid())
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(program) = &mut self.running {
            program.signal(signal);
        }
    }
}
