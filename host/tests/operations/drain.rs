//! SIGTERM: what was accepted is answered, and the clients do not all come back in the same instant.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::program::free_port;
use crate::support::{World, http_get};

const SOCKETS: usize = 200;
const DRAIN: Duration = Duration::from_secs(2);

/// What one socket saw of the end.
struct Goodbye {
    code: Option<u16>,
    after: Duration,
    /// Keys whose send was acknowledged.
    stored: BTreeSet<String>,
}

/// Sends without a break until it is sent away.
async fn talk(mut client: Client, conversation: Uuid, started: Instant) -> Goodbye {
    let mut stored = BTreeSet::new();
    let ask = async |client: &mut Client| {
        let key = Uuid::new_v4();
        let send =
            json!({"op": "send", "conversation_id": conversation, "body": {}, "idempotency_key": key, "ref": key});
        // The last ones go to a socket that is closed already.
        client.try_send(send.to_string()).await;
    };
    for _ in 0..3 {
        ask(&mut client).await;
    }
    loop {
        match client.next_or_close().await {
            Ok(reply) => {
                assert_eq!(reply["status"], "stored", "{reply}");
                stored.insert(reply["ref"].as_str().unwrap().to_owned());
                ask(&mut client).await;
            }
            Err(code) => return Goodbye { code, after: started.elapsed(), stored },
        }
    }
}

#[tokio::test]
async fn a_drain_answers_what_was_accepted_and_spreads_its_goodbyes() {
    let world = World::new().await;
    let variables = [("DRAIN_SECONDS", "2"), ("RATE_LIMIT_PER_SECOND", "0"), ("MAX_SOCKETS_PER_USER", "200")];
    let mut gateway = world.program(&variables).await;
    let user = Uuid::new_v4();
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        clients.push((Client::authenticated(gateway.port, user).await, world.conversation(&[user]).await));
    }
    gateway.begin_stop().await;
    let started = Instant::now();
    let talks = clients.into_iter().map(|(client, conversation)| talk(client, conversation, started));
    let (goodbyes, status) = tokio::join!(join_all(talks), gateway.ended());
    println!("the process ended in {status} after {:?}", started.elapsed());
    assert!(status.success());
    assert!(goodbyes.iter().all(|goodbye| goodbye.code == Some(1012)));
    let mut tenths = [0; 10];
    for Goodbye { after, .. } in &goodbyes {
        tenths[((after.as_secs_f64() / DRAIN.as_secs_f64() * 10.0) as usize).min(9)] += 1;
    }
    println!("goodbyes in each tenth of the drain time: {tenths:?}");
    // A busy machine may bunch them, but not into an instant.
    assert!(tenths.iter().filter(|count| **count > 0).count() >= 3, "{tenths:?}");
    // Whatever is stored was answered.
    let acknowledged: BTreeSet<String> = goodbyes.into_iter().flat_map(|goodbye| goodbye.stored).collect();
    let rows = world.sql.query("SELECT idempotency_key FROM messages", &[]).await.unwrap();
    println!("{} sends were stored and answered in the drain", rows.len());
    assert_eq!(rows.into_iter().map(|row| row.get(0)).collect::<BTreeSet<String>>(), acknowledged);
}

#[tokio::test]
async fn one_that_is_told_to_stop_is_not_ready_at_once_and_takes_sockets_until_balancers_know() {
    let world = World::new().await;
    // Nothing below waits for it.
    let mut gateway = world.program(&[("DRAIN_DELAY_SECONDS", "600")]).await;
    assert!(http_get(gateway.port, "/health").await.starts_with("HTTP/1.1 200"));
    gateway.begin_stop().await;
    let mut ready = gateway.get("/ready").await;
    while !ready.contains(r#""draining":true"#) {
        ready = gateway.get("/ready").await;
    }
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let health = http_get(gateway.port, "/health").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.ends_with(r#"{"status":"draining"}"#), "{health}");
    // Whom a balancer still sends is served like everybody.
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    Client::joined(gateway.port, user, conversation).await.say(conversation, "late").await;
    // An operator who does not want to wait.
    gateway.signal("INT").await;
    assert_eq!(gateway.ended().await.code(), Some(1));
}

#[tokio::test]
async fn one_that_is_told_to_stop_while_it_compiles_its_plugins_ends() {
    let world = World::new().await;
    let cache = tempfile::tempdir().unwrap();
    let plugins = directory(&["link-guard", "pii-mask", "word-filter"], "");
    let (name, path) = plugins.variable();
    let mut gateway = world.serve_command(free_port(), free_port());
    let mut gateway = gateway.env(name, path).env("XDG_CACHE_HOME", cache.path()).spawn().unwrap();
    // It begins with this folder, and has nothing compiled in it.
    while !cache.path().join("arcyou-gateway").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = gateway.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert!(gateway.wait().await.unwrap().success());
}
