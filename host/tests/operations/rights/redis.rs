//! Users of least rights in Redis, as docs/operations.md describes them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arcyou_local_services::RedisCluster;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::Health;
use serde_json::json;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::program::free_port;
use crate::support::{World, blocking, until};

/// What the documentation says for this mode: the gateway's user and the worker's.
fn users(mode: PubSubMode) -> [String; 2] {
    let heading = format!("# PUBSUB_MODE={mode}");
    let text = include_str!("../../../../docs/operations.md");
    let lines = text.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
    let lines: Vec<String> = lines.take(2).map(str::to_owned).collect();
    lines.try_into().unwrap()
}

/// What plugins' values need besides.
fn values() -> &'static str {
    let text = include_str!("../../../../docs/operations.md");
    text.lines().find(|line| line.starts_with("ACL SETUSER") && line.contains("arcyou:kv:")).unwrap()
}

/// The answer of Redis to one command.
pub(super) fn ask(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.trim_end_matches("+OK\r\n").trim_end().to_owned()
}

/// One that must succeed.
pub(super) fn tell(port: u16, command: &str) {
    assert!(!ask(port, command).starts_with('-'), "{command}: {}", ask(port, command));
}

pub(super) fn url(user: &str, port: u16) -> String {
    format!("redis://{user}:password@127.0.0.1:{port}")
}

/// Two people hear each other, and a repeat is counted in Redis.
pub(super) async fn talk(world: &World, port: u16) {
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::authenticated(port, alice).await;
    let mut b = Client::joined(port, bob, conversation).await;
    for seq in 1..=3 {
        a.say(conversation, &format!("message {seq}")).await;
        assert_eq!(b.message().await, (format!("message {seq}"), seq));
    }
    b.ok(json!({"op": "leave", "conversation_id": conversation})).await;
}

async fn flows(mode: PubSubMode) {
    let world = World::new().await;
    let port = world.redis.port();
    users(mode).iter().for_each(|line| tell(port, line));
    tell(port, values());
    let dir = directory(&["flood-guard"], "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n");
    let (gateway_url, worker_url) = (url("arcyou_gateway", port), url("arcyou_worker", port));
    let mode_name = mode.to_string();
    let variables = [
        ("REDIS_URL", gateway_url.as_str()),
        ("PLUGIN_KV_URL", gateway_url.as_str()),
        ("PUBSUB_MODE", mode_name.as_str()),
        dir.variable(),
    ];
    let gateway = world.gateway_with(&variables).await;
    let health = Health::new();
    let worker = world.worker_with(&world.database_url(), &worker_url, mode, &health);
    talk(&world, gateway.port).await;
    // Everything is up, and Redis has refused nothing.
    gateway.ready().await;
    assert!(health.report().ready, "{:?}", health.report());
    assert_eq!(ask(port, "ACL LOG"), "*0");
    assert_ne!(ask(port, "DBSIZE"), ":0");
    // Nor do they have what they do not need.
    for (user, command, allowed) in [
        ("arcyou_gateway", format!("{} chat:message x", publish(mode)), mode == PubSubMode::Global),
        ("arcyou_gateway", format!("{} conv:{} x", publish(mode), Uuid::new_v4()), mode != PubSubMode::Global),
        ("arcyou_gateway", format!("{} other x", publish(mode)), false),
        ("arcyou_gateway", format!("{} outbox:wake x", publish(mode)), true),
        ("arcyou_gateway", "GET other".to_owned(), false),
        ("arcyou_gateway", "KEYS *".to_owned(), false),
        ("arcyou_gateway", "FLUSHALL".to_owned(), false),
        ("arcyou_gateway", "CONFIG GET *".to_owned(), false),
        ("arcyou_gateway", "PSUBSCRIBE *".to_owned(), false),
        ("arcyou_worker", format!("{} outbox:wake x", publish(mode)), false),
        ("arcyou_worker", "SUBSCRIBE chat:message".to_owned(), false),
        ("arcyou_worker", "GET arcyou:kv:flood-guard:x".to_owned(), false),
        ("arcyou_worker", "ACL LIST".to_owned(), false),
    ] {
        let answer = ask(port, &format!("AUTH {user} password\r\n{command}"));
        assert_eq!(!answer.contains("-NOPERM"), allowed, "{user} {command}: {answer}");
    }
    gateway.stop().await;
    worker.stop().await;
}

fn publish(mode: PubSubMode) -> &'static str {
    if mode == PubSubMode::Sharded { "SPUBLISH" } else { "PUBLISH" }
}

#[tokio::test]
async fn messages_flow_with_the_least_rights() {
    flows(PubSubMode::Global).await;
}

#[tokio::test]
async fn messages_flow_with_the_least_rights_on_a_channel_for_each_conversation() {
    flows(PubSubMode::PerConversation).await;
}

/// One Redis outside of a cluster takes sharded channels too.
#[tokio::test]
async fn messages_flow_with_the_least_rights_on_sharded_channels() {
    flows(PubSubMode::Sharded).await;
}

#[tokio::test]
async fn messages_flow_with_the_least_rights_on_a_cluster() {
    let world = World::new().await;
    let cluster = Arc::new(blocking(|| RedisCluster::start(3)).await.unwrap());
    for node in 0..cluster.len() {
        users(PubSubMode::Sharded).iter().for_each(|line| tell(cluster.node(node).port(), line));
    }
    let port = cluster.node(0).port();
    let gateway_url = url("arcyou_gateway", port);
    let gateway = world.gateway_with(&[("REDIS_URL", &gateway_url), ("PUBSUB_MODE", "sharded")]).await;
    let health = Health::new();
    let worker_url = url("arcyou_worker", port);
    let worker = world.worker_with(&world.database_url(), &worker_url, PubSubMode::Sharded, &health);
    for _ in 0..3 {
        talk(&world, gateway.port).await;
    }
    gateway.ready().await;
    for node in 0..cluster.len() {
        assert_eq!(ask(cluster.node(node).port(), "ACL LOG"), "*0");
    }
    gateway.stop().await;
    worker.stop().await;
}

/// Waits until a part of a worker is down for want of a right.
async fn worker_is_denied(health: &Health, part: &str) {
    for _ in 0..1500 {
        let reason = health.report().parts.get(part).and_then(|part| part.reason.clone()).unwrap_or_default();
        if reason.contains("NOPERM") && reason.contains("docs/operations.md") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{part} was never denied: {:?}", health.report());
}

async fn is_denied(admin_port: u16, part: &str) {
    for _ in 0..1500 {
        let reason = until(admin_port, part, "down").await;
        if reason.contains("NOPERM") && reason.contains("docs/operations.md") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{part} was never denied: {}", until(admin_port, part, "down").await);
}

async fn says_what_is_denied(mode: PubSubMode) {
    let world = World::new().await;
    let port = world.redis.port();
    for user in ["arcyou_gateway", "arcyou_worker"] {
        tell(port, &format!("ACL SETUSER {user} reset on >password +ping +cluster|info +cluster|slots"));
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let (public, admin_port) = (free_port(), free_port());
    let dir = directory(&["flood-guard"], "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n");
    let gateway_url = url("arcyou_gateway", port);
    let mut command = world.serve_command(public, admin_port);
    command
        .envs([("REDIS_URL", gateway_url.as_str()), ("PLUGIN_KV_URL", gateway_url.as_str()), dir.variable()])
        .env("PUBSUB_MODE", mode.to_string())
        .stderr(Stdio::from(File::create(log.path()).unwrap()));
    let _gateway = command.spawn().unwrap();
    let health = Health::new();
    let worker_url = url("arcyou_worker", port);
    let worker = world.worker_with(&world.database_url(), &worker_url, mode, &health);
    while tokio::net::TcpStream::connect(("127.0.0.1", admin_port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_denied(admin_port, "redis_publish").await;
    worker_is_denied(&health, "redis_subscribe").await;
    until(admin_port, "schema", "up").await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(public, alice, conversation).await;
    is_denied(admin_port, "redis_subscribe").await;
    // It is stored, counted by nobody, and delivered from the database.
    a.say(conversation, "one").await;
    assert_eq!(a.message().await, ("one".to_owned(), 1));
    is_denied(admin_port, "plugin_values").await;
    worker_is_denied(&health, "redis_publish").await;
    // It stays so while nothing changes, whatever else works.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for part in ["redis_publish", "redis_subscribe"] {
        is_denied(admin_port, part).await;
        worker_is_denied(&health, part).await;
    }
    let text = std::fs::read_to_string(log.path()).unwrap();
    for part in ["redis_publish", "redis_subscribe", "plugin_values"] {
        let said =
            text.lines().filter(|line| line.contains("NOPERM") && line.contains(&format!("part=\"{part}\""))).count();
        assert_eq!(said, 1, "{part} in {text}");
    }
    users(mode).iter().for_each(|line| tell(port, line));
    tell(port, values());
    a.say(conversation, "two").await;
    assert_eq!(a.message().await, ("two".to_owned(), 2));
    for part in ["redis_publish", "redis_subscribe", "events"] {
        until(admin_port, part, "up").await;
    }
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(world.count("SELECT count(*) FROM outbox WHERE retry_count > 0").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_right_that_redis_denies_is_named() {
    says_what_is_denied(PubSubMode::Global).await;
}

#[tokio::test]
async fn a_right_that_redis_denies_is_named_on_sharded_channels() {
    says_what_is_denied(PubSubMode::Sharded).await;
}
