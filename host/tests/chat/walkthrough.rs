//! The documented walk-through with tools by other authors: `psql` for the SQL, npm's `ws` for the chat.

use std::process::Output;

use tokio::process::Command;
use uuid::Uuid;

use crate::support::World;

async fn psql(world: &World, sql: &str) -> String {
    let output =
        Command::new("psql").args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(world.direct_url()).output();
    succeeded(output.await.unwrap())
}

async fn node(script: &str, arguments: &[String]) -> String {
    let path = format!("{}/tests/js/{script}", env!("CARGO_MANIFEST_DIR"));
    succeeded(Command::new("node").arg(path).args(arguments).output().await.unwrap())
}

fn succeeded(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.trim().to_owned()
}

#[tokio::test]
async fn two_users_chat() {
    let world = World::new().await;
    let (one, two, worker) = (world.gateway().await, world.gateway().await, world.worker().await);
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    // `psql` prints the command's tag after what it returned.
    let inserted = psql(&world, "INSERT INTO conversations DEFAULT VALUES RETURNING id;").await;
    let conversation = inserted.lines().next().unwrap().to_owned();
    let insert = format!(
        "INSERT INTO participants(conversation_id, user_id)
         VALUES('{conversation}', '{a}'), ('{conversation}', '{b}');"
    );
    psql(&world, &insert).await;
    let (url_a, url_b) = (format!("ws://127.0.0.1:{}", one.port), format!("ws://127.0.0.1:{}/ws", two.port));
    let arguments = [url_a, conversation, a.to_string(), b.to_string(), url_b];
    node("walkthrough.mjs", &arguments).await;
    let messages = psql(&world, "SELECT count(*) FROM messages").await;
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(psql(&world, "SELECT count(*) FROM outbox WHERE processed").await, messages);
    for part in [one, two, worker] {
        part.stop().await;
    }
}

#[tokio::test]
async fn sockets_open_with_a_subprotocol_and_below_any_path() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    node("handshakes.mjs", &[format!("ws://127.0.0.1:{}", gateway.port)]).await;
}

#[tokio::test]
async fn no_frame_is_met_with_silence() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let report = node("fuzzish.mjs", &[format!("ws://127.0.0.1:{}", gateway.port), Uuid::new_v4().to_string()]).await;
    assert!(report.lines().count() > 30, "{report}");
    for line in report.lines().filter(|line| line.contains("close with") || line.contains("close without")) {
        assert!(!line.contains("1006"), "a close must be answered: {line}");
    }
}
