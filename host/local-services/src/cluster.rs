//! The data of a PostgreSQL server on disk (a cluster): created by `initdb`, or left by an earlier run.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::{IoContext, ServiceError};
use crate::find::{self, PostgresPrograms};
use crate::supervisor::{Launch, Signal, Supervised};
use crate::workspace::Workspace;

/// The superuser of every cluster that is created here.
pub(crate) const SUPERUSER: &str = "postgres";
/// Between looks at whether `initdb` has ended.
const INITDB_POLL: Duration = Duration::from_secs(1);
/// How the supervisor reports a program that ended well.
const SUCCESS: &str = "exit status 0";
/// How long to wait for a server whose starter was killed; its supervisor is stopping it.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster that is ready to be started. While this value exists, no other process can use it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) programs: PostgresPrograms,
    pub(crate) data: PathBuf,
    /// The superuser's password; None if every local user may log in without one.
    pub(crate) password: Option<String>,
    _lock: Option<File>,
}

impl Cluster {
    /// Uses the cluster in the workspace, or creates one if there is none or if `fresh` discards it.
    pub(crate) fn prepare(
        workspace: &Workspace,
        account: &Account,
        fresh: bool,
        durable: bool,
    ) -> Result<Self, ServiceError> {
        let directory = workspace.path();
        let data = directory.join("data");
        let lock = workspace.is_kept().then(|| take_over(directory, &data, account)).transpose()?;
        if fresh {
            empty(directory)?;
        }
        let found = std::fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned());
        if found.is_none() && data.exists() {
            return Err(ServiceError::NotACluster(directory.to_owned()));
        }
        let programs = find::postgres(found.as_deref())?;
        let password_file = directory.join("password");
        match found {
            Some(found) if found != programs.major => {
                return Err(ServiceError::VersionMismatch {
                    directory: directory.to_owned(),
                    found,
                    server: programs.major,
                });
            }
            Some(_) => {}
            None => {
                let password_file = workspace.is_kept().then_some(password_file.as_path());
                create(&programs, account, &data, password_file, durable)?;
            }
        }
        let password = std::fs::read_to_string(password_file).ok();
        Ok(Self { programs, data, password, _lock: lock })
    }

    /// A copy of the cluster of a running server, set up to replicate from that server.
    pub(crate) fn follow(
        programs: PostgresPrograms,
        primary: &str,
        workspace: &Workspace,
        account: &Account,
    ) -> Result<Self, ServiceError> {
        let data = workspace.path().join("data");
        // pg_basebackup is beside the server's program, after symbolic links are resolved.
        let server = programs.postgres.canonicalize().during(|| format!("finding {}", programs.postgres.display()))?;
        let mut copy = Command::new(server.with_file_name("pg_basebackup"));
        copy.args(["--dbname", primary, "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"])
            .arg(&data);
        copy.current_dir(workspace.path()).stdin(Stdio::null());
        account.apply(&mut copy);
        let output = copy.output().during(|| "starting pg_basebackup".to_owned())?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(ServiceError::Copy(text));
        }
        Ok(Self { programs, data, password: None, _lock: None })
    }
}

/// Ensures that no other process uses a kept directory, now or later, and that the account can write in it.
fn take_over(directory: &Path, data: &Path, account: &Account) -> Result<File, ServiceError> {
    let lock = lock(directory)?;
    let owner = directory.metadata().during(|| format!("looking at {}", directory.display()))?.uid();
    let data_owner = data.metadata().map_or(owner, |data| data.uid());
    if owner != account.uid() || data_owner != account.uid() {
        if let Account::Own { .. } = account {
            return Err(ServiceError::ForeignOwner { directory: directory.to_owned(), owner });
        }
        account.give_all(directory)?;
    }
    account.check_reach(directory)?;
    wait_for_orphan(directory, data)?;
    Ok(lock)
}

/// Locks the directory for as long as this process has the file open, however the process ends.
fn lock(directory: &Path) -> Result<File, ServiceError> {
    let path = directory.join("lock");
    let what = || format!("locking {}", path.display());
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.during(what)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message; the holder may not have written its number yet.
            let _ = file.read_to_string(&mut pid);
            return Err(ServiceError::InUse { directory: directory.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(error).during(what),
    }
    file.set_len(0).during(what)?;
    writeln!(file, "{}", std::process::id()).during(what)?;
    Ok(file)
}

/// Waits for a server that runs on without its starter; its supervisor is stopping it. Then removes the pid file,
/// because PostgreSQL mistakes any process that has got the same number since for the old server.
fn wait_for_orphan(directory: &Path, data: &Path) -> Result<(), ServiceError> {
    let file = data.join("postmaster.pid");
    let deadline = Instant::now() + ORPHAN_TIMEOUT;
    loop {
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(()) };
        let pid = text.lines().next().unwrap_or_default().trim().to_owned();
        if !serves(&pid, data) {
            // Fails if a server that has just ended removed the file itself.
            let _ = std::fs::remove_file(&file);
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(ServiceError::InUse { directory: directory.to_owned(), pid });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether this process is the server of these data. The working directory of a server is its data directory; on a
/// system that does not show it, the name of the program decides.
fn serves(pid: &str, data: &Path) -> bool {
    if Path::new("/proc/self/cwd").exists() {
        // Unreadable for another user's process, which cannot be the server that ran as this user.
        return std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory == data);
    }
    let output = Command::new("ps").args(["-o", "comm=", "-p", pid]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
}

/// Removes what was created here, and nothing else in the directory.
fn empty(directory: &Path) -> Result<(), ServiceError> {
    for name in ["data", "data.new"] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).during(|| format!("removing {}", path.display()))?;
        }
    }
    for name in ["password", "postgres.log", "initdb.log"] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::remove_file(&path).during(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Creates the cluster under another name and renames it when it is complete, so that an interrupted run leaves nothing
/// that looks like a cluster.
fn create(
    programs: &PostgresPrograms,
    account: &Account,
    data: &Path,
    password_file: Option<&Path>,
    durable: bool,
) -> Result<(), ServiceError> {
    let unfinished = data.with_extension("new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).during(|| format!("removing {}", unfinished.display()))?;
    }
    let mut arguments = vec![OsString::from("--pgdata"), unfinished.clone().into()];
    arguments.extend(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C"].map(OsString::from));
    match password_file {
        Some(path) => {
            write_password(path, account)?;
            arguments.extend(["--auth=scram-sha-256".into(), "--pwfile".into(), path.into()]);
        }
        None => {
            arguments.push("--auth=trust".into());
        }
    }
    if !durable {
        arguments.push("--no-sync".into());
    }
    let directory = data.parent().unwrap_or(data);
    let log = directory.join("initdb.log");
    // Supervised, so that it does not go on when the caller is gone.
    let mut initdb = Supervised::start(Launch {
        account,
        environment: &[],
        directory,
        temporary: None,
        log: &log,
        stop: Signal::Terminate,
        program: programs.initdb.clone(),
        arguments,
    })?;
    let status = loop {
        if let Some(status) = initdb.wait(INITDB_POLL) {
            break status.to_owned();
        }
    };
    drop(initdb);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    if status != SUCCESS {
        return Err(ServiceError::Initdb(format!("{} ({status})", text.trim_end())));
    }
    std::fs::rename(&unfinished, data).during(|| format!("moving {}", unfinished.display()))
}

/// A kept cluster has a password: it may run for hours, and its superuser can run programs, so not every user of the
/// machine may log in.
fn write_password(path: &Path, account: &Account) -> Result<(), ServiceError> {
    let what = || format!("writing {}", path.display());
    let mut random = [0_u8; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).during(what)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).during(what)?;
    file.write_all(password.as_bytes()).during(what)?;
    account.give(path)
}
