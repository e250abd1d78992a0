//! A test in a process of its own, for what would be left in everybody's otherwise.

use std::process::Command;

const MARK: &str = "ARCYOU_TEST_ALONE";

/// Runs a test, of this name with its modules, in another process of this program; what it says is said here.
pub fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["--exact", name, "--nocapture"]).env(MARK, "1").output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{name}: {}", output.status);
}
