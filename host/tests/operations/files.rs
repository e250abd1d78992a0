//! A process that may not open as many files as its configuration needs.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;
use tokio_tungstenite::tungstenite;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::program::free_port;

/// The hard limit. Beside 138 files of its own, there is room for 58 authenticated sockets.
const FILES: usize = 300;
const FIT: usize = 58;

#[tokio::test]
async fn as_many_sockets_as_files_allow_and_a_refusal_for_one_more() {
    let world = World::new().await;
    let worker = world.worker().await;
    let (port, admin_port) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The soft limit is raised: with the one that it starts with, nothing would work.
    let limited = format!("ulimit -S -n 64 && ulimit -H -n {FILES} && exec \"$0\" serve");
    let gateway = world.serve_command(port, admin_port);
    let mut command = Command::new("sh");
    command.arg("-c").arg(limited).arg(gateway.as_std().get_program()).env_clear();
    command.envs(gateway.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).kill_on_drop(true);
    let _process = command.spawn().unwrap();
    crate::support::ready(admin_port).await;

    let mut clients = Vec::new();
    for number in 0..FIT {
        clients.push(Client::authenticated(port, Uuid::from_u128(number as u128 + 1)).await);
    }
    let refused = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 503), "{refused}");

    // Connections that say nothing take no file away from anybody.
    let mut silent = Vec::new();
    for _ in 0..FILES {
        silent.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let user = Uuid::from_u128(1);
    let conversation = world.conversation(&[user]).await;
    clients[0].ok(json!({"op": "join", "conversation_id": conversation})).await;
    clients[0].say(conversation, "there is room for the database").await;
    assert_eq!(clients[0].message().await.0, "there is room for the database");
    for part in ["database", "redis_publish", "redis_subscribe"] {
        crate::support::until(admin_port, part, "up").await;
    }
    drop(clients.pop());
    // Its place is free as soon as the gateway has noticed.
    let mut tries = 0;
    while let Err(error) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/")).await {
        tries += 1;
        assert!(tries < 1500, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    worker.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("hard limit")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains(&format!("max_connections={FIT}")), "{log}");
    assert!(!log.contains("cannot be accepted"), "{log}");
}
