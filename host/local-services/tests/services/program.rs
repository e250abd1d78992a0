//! A program of the caller.

use std::time::Duration;

use arcyou_local_services::Program;

use crate::support::{is_alive, open_directory, until};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_program_is_ended_frozen_and_started_again_as_it_was() {
    let directory = open_directory();
    let script = directory.path().join("program");
    std::fs::write(
        &script,
        "#!/bin/sh\ntrap 'echo \"$WORD\"; exit 3' TERM\necho ready\nwhile :; do sleep 0.01; done\n",
    )
    .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let environment = vec![("WORD".to_owned(), "goodbye".to_owned())];
    let mut program = Program::new(script, environment, directory.path(), "log").unwrap();
    assert_eq!((program.pid(), program.wait(Duration::ZERO)), (None, None));
    for ended in 1..=2 {
        program.start().unwrap();
        let said = || std::fs::read_to_string(directory.path().join("log")).unwrap();
        until("it hears signals", || said().matches("ready").count() == ended);
        program.freeze();
        program.thaw();
        assert!(program.pid().is_some_and(is_alive));
        program.terminate();
        assert_eq!(program.wait(LONG), Some("exit status 3"));
        assert_eq!(said().matches("goodbye").count(), ended);
        assert_eq!(program.pid(), None);
    }
    program.start().unwrap();
    let pid = program.pid().unwrap();
    program.freeze();
    drop(program);
    until("a frozen program is gone", || !is_alive(pid));
    assert!(directory.path().exists());
}
