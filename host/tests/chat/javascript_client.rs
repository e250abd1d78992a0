//! The reference client in JavaScript: against a script, and against everything real while parts of it are broken.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::World;
use crate::support::gateway::Running;
use crate::support::proxy::Proxy;

/// Longer than any fault takes on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn script(name: &str) -> String {
    format!("{}/tests/js/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs tests of Node's own test runner.
async fn pass(tests: &str) {
    let output = Command::new("node").arg("--test").arg(script(tests)).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn the_client_does_what_it_promises() {
    pass("client-library.test.mjs").await;
}

#[tokio::test]
async fn the_room_of_the_client_shows_what_the_gateway_has() {
    pass("room.test.mjs").await;
}

#[tokio::test]
async fn the_types_of_the_client_are_true_and_of_use() {
    pass("types.test.mjs").await;
}

#[tokio::test]
async fn two_clients_chat_through_faults() {
    let world = World::breakable().await;
    let faults = ["gateway-a", "pgbouncer", "gateway-b", "redis", "everything"];
    let report = through_faults(&world, "chat-through-faults.mjs", &faults).await;
    let messages = report["messages"].as_i64().unwrap();
    assert!(messages >= 600, "{report}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, messages);
    assert_eq!(world.count("SELECT count(DISTINCT idempotency_key) FROM messages").await, messages);
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, messages);
    // Faults that nobody felt would prove nothing.
    assert!(report["duplicates"].as_i64().unwrap() >= 5, "{report}");
    for losses in report["losses"].as_array().unwrap() {
        assert!(losses.as_array().unwrap().contains(&json!(1012)), "{report}");
    }
}

#[tokio::test]
async fn two_rooms_show_the_same_after_faults() {
    let world = World::breakable().await;
    let report = through_faults(&world, "room-through-faults.mjs", &["gateway-a", "redis", "everything"]).await;
    let messages = report["messages"].as_i64().unwrap();
    assert!(messages >= 150 && report["edited"].as_i64().unwrap() >= 20, "{report}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, messages);
    assert!(world.count("SELECT last_seq FROM conversations").await > messages, "{report}");
    for losses in report["losses"].as_array().unwrap() {
        assert!(losses.as_array().unwrap().contains(&json!(1012)), "{report}");
    }
}

/// Two users, each at a gateway of their own, in a script that says when something is to break. Its last line.
async fn through_faults(world: &World, name: &str, faults: &[&str]) -> Value {
    let mut gateways = [world.gateway().await, world.gateway().await];
    let _worker = world.worker().await;
    let [a, b] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[a, b]).await;
    let mut chat = Command::new("node")
        .arg(script(name))
        .args(gateways.each_ref().map(|gateway| format!("ws://127.0.0.1:{}/ws", gateway.port)))
        .args([conversation, a, b].map(|id| id.to_string()))
        .args(faults)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut say = chat.stdin.take().unwrap();
    let mut said = BufReader::new(chat.stdout.take().unwrap()).lines();
    let mut report = Value::Null;
    while let Some(line) = timeout(PATIENCE, said.next_line()).await.expect("the chat is stuck").unwrap() {
        if let Some(fault) = line.strip_prefix("break ") {
            gateways = go_through(fault, world, gateways).await;
            say.write_all(b"mended\n").await.unwrap();
        } else {
            report = serde_json::from_str(&line).unwrap();
        }
    }
    assert!(chat.wait().await.unwrap().success());
    println!("{report}");
    report
}

#[tokio::test]
async fn a_thousand_conversations_come_back_in_a_few_frames() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let _worker = world.worker().await;
    let link = Proxy::start(gateway.port).await;
    let [user, other] = [Uuid::new_v4(), Uuid::new_v4()];
    let make = format!(
        "WITH made AS (INSERT INTO conversations (id) SELECT gen_random_uuid() FROM generate_series(1, 1000) RETURNING id),
              joined AS (INSERT INTO participants (conversation_id, user_id)
                         SELECT id, unnest(ARRAY['{user}', '{other}']::uuid[]) FROM made)
         SELECT id::text FROM made"
    );
    let rooms: Vec<String> = world.sql.query(&make, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut client = Command::new("node")
        .arg(script("many-rooms.mjs"))
        .args([link.port, gateway.port].map(|port| format!("ws://127.0.0.1:{port}/ws")))
        .args([user, other].map(|id| id.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut say = client.stdin.take().unwrap();
    say.write_all(format!("{}\n\n", rooms.join("\n")).as_bytes()).await.unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut report = Value::Null;
    while let Some(line) = timeout(PATIENCE, said.next_line()).await.expect("the client is stuck").unwrap() {
        match line.as_str() {
            "cut" => {
                link.partition();
                say.write_all(b"go on\n").await.unwrap();
            }
            "heal" => {
                link.cut();
                link.heal();
            }
            _ => report = serde_json::from_str(&line).unwrap(),
        }
    }
    assert!(client.wait().await.unwrap().success());
    assert_eq!(report["refused"], 0, "{report}");
    // The token, what was pending, and the lists; the rest is room for pings.
    assert!(report["frames"].as_u64().unwrap() <= 8, "{report}");
}

/// Breaks it and mends it.
async fn go_through(fault: &str, world: &World, [a, b]: [Running; 2]) -> [Running; 2] {
    match fault {
        "gateway-a" => [replace(world, a).await, b],
        "gateway-b" => [a, replace(world, b).await],
        "pgbouncer" => {
            restart_pgbouncer(world).await;
            [a, b]
        }
        "redis" => {
            restart_redis(world).await;
            [a, b]
        }
        "everything" => {
            let ports = [a.port, b.port];
            tokio::join!(restart_pgbouncer(world), restart_redis(world), a.stop(), b.stop());
            [world.gateway_at(ports[0], &[]).await, world.gateway_at(ports[1], &[]).await]
        }
        other => panic!("no such fault: {other}"),
    }
}

/// In an orderly way, by another one on the same port.
async fn replace(world: &World, gateway: Running) -> Running {
    let port = gateway.port;
    gateway.stop().await;
    world.gateway_at(port, &[]).await
}

async fn restart_pgbouncer(world: &World) {
    let bouncer = world.bouncer.clone().unwrap();
    let restart = move || {
        bouncer.kill();
        bouncer.restart().unwrap();
    };
    spawn_blocking(restart).await.unwrap();
}

async fn restart_redis(world: &World) {
    let redis = world.redis.clone();
    let restart = move || {
        redis.kill();
        redis.restart().unwrap();
    };
    spawn_blocking(restart).await.unwrap();
}
