//! Services whose starter is killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{self, is_alive, until};

struct Stack {
    program: Child,
    services: Vec<(u32, PathBuf)>,
}

/// The program of this package, with its three services up.
fn stack() -> Stack {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-local-services"));
    let mut program = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines().map_while(Result::ok);
    let lines = lines.take_while(|line| !line.contains("Ctrl-C"));
    let services = lines.filter_map(|line| {
        let (_, rest) = line.strip_prefix("# ")?.split_once(": process ")?;
        let (pid, log) = rest.split_once(", log ")?;
        Some((pid.parse().ok()?, PathBuf::from(log)))
    });
    let services: Vec<_> = services.collect();
    assert_eq!(services.len(), 3);
    assert!(services.iter().all(|(pid, log)| is_alive(*pid) && log.exists()));
    Stack { program, services }
}

#[test]
fn nothing_is_left_of_a_program_that_was_killed() {
    let mut stack = stack();
    stack.program.kill().unwrap();
    stack.program.wait().unwrap();
    for (pid, log) in &stack.services {
        until("the service is gone", || !is_alive(*pid));
        until("its directory is gone", || !log.parent().unwrap().exists());
    }
}

#[test]
fn a_dead_service_leaves_no_directory_behind_either() {
    let mut stack = stack();
    for (pid, _) in &stack.services {
        support::send_kill(*pid);
        until("the service is gone", || !is_alive(*pid));
    }
    stack.program.kill().unwrap();
    stack.program.wait().unwrap();
    for (_, log) in &stack.services {
        until("its directory is gone", || !log.parent().unwrap().exists());
    }
}

#[test]
fn an_interrupt_from_the_terminal_is_not_the_services_business() {
    let mut stack = stack();
    let group = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned))
    };
    let own = group(stack.program.id());
    for (pid, _) in &stack.services {
        assert!(own.is_none() || group(*pid) != own);
    }
    stack.program.kill().unwrap();
    stack.program.wait().unwrap();
    for (pid, _) in &stack.services {
        until("the service is gone", || !is_alive(*pid));
    }
}
