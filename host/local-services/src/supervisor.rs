//! One service under its supervising shell (`supervisor.sh`).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::account::Account;
use crate::error::{IoContext, ServiceError};

const SCRIPT: &str = include_str!("supervisor.sh");
/// What follows the polite signal if the service does not end, each with the time to wait after it.
const STOP_ESCALATION: [(Signal, Duration); 2] =
    [(Signal::Quit, Duration::from_secs(5)), (Signal::Kill, Duration::from_secs(5))];
/// How long to wait after the polite signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that the shell may take to start the service and report its process number.
const START_TIMEOUT: Duration = Duration::from_secs(10);

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

/// What to run, and how.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) account: &'a Account,
    /// Variables of the service, besides those that [`Account::apply`] sets.
    pub(crate) environment: &'a [(String, String)],
    pub(crate) directory: &'a Path,
    /// Removed when the starter ends without having taken responsibility for it.
    pub(crate) temporary: Option<&'a Path>,
    pub(crate) log: &'a Path,
    /// The signal that makes the service shut down.
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
    pub(crate) fn start(plan: Launch<'_>) -> Result<Self, ServiceError> {
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
        match running.reports.recv_timeout(START_TIMEOUT) {
            Ok(Report::Started(pid)) => running.pid = pid,
            _ => running.exited = Some("its supervisor did not start".to_owned()),
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end of the service, at most this long. Returns how it ended, or None if it still runs.
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

    /// No-op if the service has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exited.is_none() {
            self.send_line(signal.name());
        }
    }

    /// Errors are ignored: a shell that is gone has stopped the service already.
    fn send_line(&mut self, line: &str) {
        if let Some(commands) = &mut self.commands {
            let _ = commands.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal(self.stop);
        self.wait(STOP_TIMEOUT);
        for (signal, patience) in STOP_ESCALATION {
            self.signal(signal);
            self.wait(patience);
        }
        self.send_line("keep");
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}

/// Forwards the shell's reports. There are at most two, so sending never blocks.
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

/// How the service ended. A shell reports a signal as 128 plus the signal's number.
fn describe(status: &str) -> String {
    match status.parse::<u32>() {
        Ok(number @ 129..) => format!("signal {}", number - 128),
        _ => format!("exit status {status}"),
    }
}
