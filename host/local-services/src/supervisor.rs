//! One service under its supervising shell (`supervisor.sh`).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::account::Account;
use crate::error::{ServiceError, While};

const SCRIPT: &str = include_str!("supervisor.sh");
/// Longest time between two steps of a stop: polite, urgent, by force.
const PATIENCE: [(Signal, Duration); 2] =
    [(Signal::Quit, Duration::from_secs(5)), (Signal::Kill, Duration::from_secs(5))];
const POLITE: Duration = Duration::from_secs(10);
const FIRST_WORD: Duration = Duration::from_secs(10);

/// The signals that are sent to services.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Quit,
    Kill,
    Hangup,
    User1,
    User2,
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Hangup => "HUP",
            Self::User1 => "USR1",
            Self::User2 => "USR2",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) account: &'a Account,
    /// What the service sees besides what the account gives it.
    pub(crate) environment: &'a [(String, String)],
    pub(crate) directory: &'a Path,
    /// Removed when the starter is gone without having said otherwise.
    pub(crate) temporary: Option<&'a Path>,
    pub(crate) log: &'a Path,
    /// The signal that asks the service to end.
    pub(crate) stop: Signal,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// A running service. Dropping it stops the service and waits for that.
#[derive(Debug)]
pub(crate) struct Supervised {
    shell: Child,
    commands: Option<ChildStdin>,
    reports: Receiver<Report>,
    stop: Signal,
    pid: u32,
    exited: Option<String>,
}

#[derive(Debug)]
enum Report {
    Started(u32),
    Exited(String),
}

impl Supervised {
    pub(crate) fn start(plan: Plan<'_>) -> Result<Self, ServiceError> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "arcyou-supervisor"]);
        shell.arg(plan.temporary.map(Path::as_os_str).unwrap_or_default()).arg(plan.log).arg(plan.stop.name());
        shell.arg(&plan.program).args(plan.arguments);
        shell.current_dir(plan.directory).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        plan.account.apply(&mut shell);
        shell.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        let mut shell = shell.spawn().during(|| format!("starting {}", plan.program.display()))?;

        let commands = shell.stdin.take();
        let (sender, reports) = sync_channel(2);
        if let Some(output) = shell.stdout.take() {
            std::thread::spawn(move || forward(output, &sender));
        }
        let mut running = Self { shell, commands, reports, stop: plan.stop, pid: 0, exited: None };
        match running.reports.recv_timeout(FIRST_WORD) {
            Ok(Report::Started(pid)) => running.pid = pid,
            _ => running.exited = Some("its supervisor did not start".to_owned()),
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the service's end at most this long; how it ended, if it did.
    pub(crate) fn wait(&mut self, longest: Duration) -> Option<&str> {
        if self.exited.is_none() {
            match self.reports.recv_timeout(longest) {
                Ok(Report::Exited(status)) => self.exited = Some(status),
                Ok(Report::Started(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.exited = Some("its supervisor was killed".to_owned()),
            }
        }
        self.exited.as_deref()
    }

    /// Does nothing to a service that has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exited.is_none() {
            self.say(signal.name());
        }
    }

    /// A shell that is gone has stopped the service already, so nobody needs to hear that it could not be told.
    fn say(&mut self, line: &str) {
        if let Some(commands) = &mut self.commands {
            let _ = commands.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal(self.stop);
        self.wait(POLITE);
        for (signal, patience) in PATIENCE {
            self.signal(signal);
            self.wait(patience);
        }
        self.say("keep");
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}

/// The shell speaks twice at most, so the channel never makes this wait.
fn forward(output: ChildStdout, reports: &SyncSender<Report>) {
    for line in BufReader::new(output).lines() {
        let report = match line.as_deref().ok().and_then(|line| line.split_once(' ')) {
            Some(("pid", pid)) => pid.parse().ok().map(Report::Started),
            Some(("exit", status)) => Some(Report::Exited(describe(status))),
            _ => None,
        };
        let Some(report) = report else { return };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// A shell reports an end by signal as 128 and the signal's number.
fn describe(status: &str) -> String {
    match status.parse::<u32>() {
        Ok(number @ 129..) => format!("signal {}", number - 128),
        _ => format!("exit status {status}"),
    }
}
