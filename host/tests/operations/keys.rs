//! The keys of an issuer that rotates them, while the gateway runs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::jwt::{Issuer, now};
use crate::support::program::Program;

/// The code with which a token of this issuer is refused, if it is.
async fn refused(program: &Program, issuer: &Issuer) -> Option<String> {
    let token = issuer.sign(&json!({"sub": Uuid::from_u128(1), "exp": now() + 600.0}));
    let mut client = Client::connect(program.port).await;
    let answer = client.request(json!({"op": "auth", "token": token})).await;
    answer["code"].as_str().map(str::to_owned)
}

/// Waits until the log says this so many times.
async fn until_logged(log: &Path, text: &str, times: usize) {
    for _ in 0..1500 {
        if std::fs::read_to_string(log).unwrap().matches(text).count() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{text} is not in {}", std::fs::read_to_string(log).unwrap());
}

async fn warning(program: &Program) -> Value {
    let report: Value = serde_json::from_str(program.get("/ready").await.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    report["parts"]["auth"]["warning"].clone()
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart_and_a_bad_file_changes_nothing() {
    let world = World::new().await;
    let (old, new) = (Issuer::new(), Issuer::new());
    let folder = tempfile::tempdir().unwrap();
    let (log, file) = (folder.path().join("log"), folder.path().join("jwt.pub.pem"));
    std::fs::write(&file, &old.public).unwrap();
    let variables = [("JWT_PUBLIC_KEY", file.to_str().unwrap()), ("RUST_LOG", "info")];
    let program = world.program_logging_to(Stdio::from(std::fs::File::create(&log).unwrap()), &variables).await;
    assert_eq!(
        (refused(&program, &old).await, refused(&program, &new).await),
        (None, Some("token_signature".to_owned()))
    );

    // A file that holds what is no key beside one that is: all or nothing.
    std::fs::write(&file, format!("{}-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", new.public))
        .unwrap();
    program.signal("HUP").await;
    until_logged(&log, "holds a certificate", 1).await;
    assert_eq!(
        (refused(&program, &old).await, refused(&program, &new).await),
        (None, Some("token_signature".to_owned()))
    );
    assert!(warning(&program).await.as_str().unwrap().contains("openssl x509"));

    for (text, times, old_is_refused) in
        [(format!("{}{}", old.public, new.public), 1, false), (new.public.clone(), 2, true)]
    {
        std::fs::write(&file, text).unwrap();
        program.signal("HUP").await;
        until_logged(&log, "JWT_PUBLIC_KEY was read again", times).await;
        assert_eq!((refused(&program, &old).await.is_some(), refused(&program, &new).await), (old_is_refused, None));
        assert_eq!(warning(&program).await, Value::Null);
    }
    assert!(!std::fs::read_to_string(&log).unwrap().contains("BEGIN"));
}

#[tokio::test]
async fn a_key_that_is_no_file_survives_a_hangup() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let variables = [("JWT_PUBLIC_KEY", issuer.public.as_str()), ("RUST_LOG", "info")];
    let program = world.program_logging_to(Stdio::from(std::fs::File::create(&log).unwrap()), &variables).await;
    program.signal("HUP").await;
    until_logged(&log, "nothing to read again", 1).await;
    assert_eq!(refused(&program, &issuer).await, None);
}
