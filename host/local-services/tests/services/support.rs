//! What the tests share.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One statement's answer, as text.
pub(crate) fn sql(url: &str, statement: &str) -> String {
    let output = psql(url).args(["-c", statement]).output().expect("psql is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statement}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn psql(url: &str) -> Command {
    let mut command = Command::new("psql");
    command.args([url, "-XAtq", "-v", "ON_ERROR_STOP=1"]).env("PGCONNECT_TIMEOUT", "10");
    command
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // A process that ended but was not yet waited for is no longer alive.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    match status {
        Ok(status) => !status.contains("State:\tZ"),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => {
            let mut kill = Command::new("kill");
            kill.args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        }
    }
}

pub(crate) fn send_kill(pid: u32) {
    assert!(Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap().success());
}

/// Waits until something has become true; fails after half a minute.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "still not so after 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory that is removed at the end and that an unprivileged account may enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new().prefix("arcyou-test-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}
