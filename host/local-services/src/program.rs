//! A program of the caller, such as a gateway or a worker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::Account;
use crate::error::ServiceError;
use crate::supervisor::{Launch, Signal, Supervised};

/// The longest that the supervisor may take to report the end of a killed program.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// A program of the caller, such as a gateway or a worker, that can be stopped and started again with the same
/// settings. It does not outlive the caller. Dropping it kills it.
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
    /// A program that is not started yet. Its working directory is `directory`, which is removed if the caller is
    /// killed; its output is appended to the file `log` there. It gets `environment` and, of the caller's environment,
    /// only the variables that locate programs.
    pub fn new(
        path: impl Into<PathBuf>,
        environment: Vec<(String, String)>,
        directory: &Path,
        log: &str,
    ) -> Result<Self, ServiceError> {
        let (path, log, account) = (path.into(), directory.join(log), Account::caller()?);
        Ok(Self { path, environment, directory: directory.to_owned(), log, account, running: None })
    }

    /// Starts the program. If it runs, it is killed first.
    pub fn start(&mut self) -> Result<(), ServiceError> {
        self.kill();
        self.running = Some(Supervised::start(Launch {
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

    /// Asks the program to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::Terminate);
    }

    /// Suspends the program (SIGSTOP) until [`thaw`](Self::thaw).
    pub fn freeze(&mut self) {
        self.signal(Signal::Stop);
    }

    /// Continues a suspended program (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::Continue);
    }

    /// Kills the program (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.running.take() {
            program.signal(Signal::Kill);
            program.wait(KILL_TIMEOUT);
        }
    }

    /// Waits for the end of the program, at most this long. Returns how it ended (`exit status 0`, `signal 15`), or
    /// None if it still runs or was never started.
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
