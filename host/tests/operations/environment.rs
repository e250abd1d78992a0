//! What somebody reads who sets a variable wrongly.

use std::process::Output;

use tokio::process::Command;

use crate::support::World;

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.env_clear().envs(environment.iter().copied()).args(arguments);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    (status.code(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[tokio::test]
async fn every_wrong_variable_is_explained_at_once_and_the_exit_code_is_2() {
    let environment = [
        ("DATABASE_URL", "mysql://me:hunter2@h/d"),
        ("REDIS_URL", "redis://:hunter2@h/abc"),
        ("JWT_PUBLIC_KEY", "dev-placeholder"),
        ("BIND_ADDR", "localhost"),
        ("ADMIN_ADDR", "9098"),
        ("PORT", "99999"),
        ("RATE_LIMIT_BURST", "0"),
        ("RUST_LOG", "verbose"),
        ("LOG_FORMAT", "\"json\""),
        ("MAX_CONECTIONS", "5"),
    ];
    let (code, said) = run(&["serve"], &environment).await;
    assert_eq!(code, Some(2), "{said}");
    for line in [
        "arcyou-gateway: the configuration is not usable:",
        "DATABASE_URL is not valid: expected postgres://user:password@host:port/name (it must begin with postgres:// or postgresql://)",
        "BIND_ADDR must be an IP address, such as 127.0.0.1 (0.0.0.0: every one of this machine), not localhost",
        "PORT must be a whole number from 1 to 65535, not 99999",
        "RATE_LIMIT_BURST must be a whole number from 1 to 1000000, not 0",
        "LOG_FORMAT is in quotes, which count as a part of the value; leave them out",
        "MAX_CONECTIONS is set, and nothing reads it; is MAX_CONNECTIONS meant?",
    ] {
        assert!(said.lines().any(|found| found == line), "{line} is missing in:\n{said}");
    }
    for part in [
        "ADMIN_ADDR must be an IP address and a port",
        "RUST_LOG is not valid: verbose is no level",
        "REDIS_URL is not valid",
    ] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    assert!(!said.contains("hunter2") && !said.contains("ParseIntError") && !said.contains("invalid digit"), "{said}");
    for arguments in [&["held", "list"][..], &["migrate"], &["no-such-command"], &["dev", "--no-such-option"]] {
        assert_eq!(run(arguments, &environment).await.0, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_login_that_fails_is_told_in_the_servers_words_and_the_exit_code_is_1() {
    let world = World::new().await;
    let port = world.servers.postgres.port();
    let url = format!("postgres://nobody_here:hunter2@127.0.0.1:{port}/{}", world.database);
    for arguments in [&["migrate"][..], &["held", "list"]] {
        let (code, said) = run(arguments, &[("DATABASE_URL", &url)]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the database cannot be reached: role \"nobody_here\" does not exist"), "{said}");
        assert!(!said.contains("db error") && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn commands_say_what_they_lack() {
    // Nobody listens there: what is lacking is told before anybody is asked.
    let environment = [("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/d")];
    for action in ["release", "refuse"] {
        for user in [&[][..], &[("USER", " ")]] {
            let (code, said) = run(&["held", action, "7"], &[&environment, user].concat()).await;
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains("USER is not set (say who decides: --as NAME)"), "{said}");
        }
        for (user, arguments) in [("alice", &["held", action, "7"][..]), ("", &["held", action, "7", "--as", "alice"])]
        {
            let (code, said) = run(arguments, &[&environment[..], &[("USER", user)]].concat()).await;
            assert!(code == Some(1) && said.contains("cannot be reached"), "{said}");
        }
    }
    for command in ["test", "check"] {
        let (code, said) = run(&["plugin", command, "/nope"], &[]).await;
        assert_eq!(code, Some(1), "{command}: {said}");
        assert!(said.contains("/nope does not exist; name a .wasm file"), "{command}: {said}");
    }
}

#[tokio::test]
async fn help_lists_every_variable_and_the_exit_codes() {
    let (code, said) = run(&["--help"], &[]).await;
    assert_eq!(code, Some(0));
    for variable in arcyou_gateway::config::VARIABLES {
        assert!(said.contains(&format!("  {} ", variable.name)), "{} is missing in:\n{said}", variable.name);
    }
    assert!(said.contains("Exit status: 0 done"), "{said}");
}
