//! `/ready`: a part that answers and does not do its work says so, each shown by the fault itself.

use std::process::Stdio;
use std::time::Duration;

use arcyou_local_services::Redis;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::{Health, PartState};
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::{World, blocking, connect, http_get};

/// The whole report, with its status.
async fn report(admin_port: u16) -> (u16, Value) {
    let answer = http_get(admin_port, "/ready").await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap())
}

/// Waits until a part that is up has a warning, or has none.
async fn until_warning(admin_port: u16, part: &str, expected: Option<&str>) {
    let mut last = Value::Null;
    for _ in 0..1500 {
        let (status, report) = report(admin_port).await;
        last = report["parts"][part].clone();
        let fits = match (last["warning"].as_str(), expected) {
            (Some(warning), Some(expected)) => warning.contains(expected),
            (None, None) => true,
            _ => false,
        };
        if last["state"] == "up" && fits {
            assert_eq!(status, 200, "{report}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{part} never had the warning {expected:?}: {last}");
}

#[tokio::test]
async fn a_database_that_answers_and_stores_nothing_is_no_secret() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    // What PostgreSQL says when its disk is full.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION full_disk()";
    world.sql.batch_execute(full).await.unwrap();
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "lost"}});
    assert_eq!(client.code(send).await, "unavailable");
    let reason = gateway.until("storing", "down").await;
    assert!(reason.contains("No space left on device"), "{reason}");
    let (status, report) = report(gateway.admin_port).await;
    // Other gateways have the same database, so that clients are better off here than nowhere.
    assert_eq!((status, &report["degraded"], &report["parts"]["database"]["state"]), (200, &json!(true), &json!("up")));
    world.sql.batch_execute("DROP TRIGGER full_disk ON messages").await.unwrap();
    client.say(conversation, "stored").await;
    gateway.until("storing", "up").await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_down_for_gateway_and_worker() {
    let world = World::new().await;
    let gateway = world.program(&[]).await;
    let health = Health::new();
    let worker = world.worker_with(&world.database_url(), &world.redis.url(), PubSubMode::Global, &health);
    let admin = connect(&world.servers.postgres.url("postgres")).await;
    // Two transactions: a connection that is made before the setting stands would not have it.
    let set = async |on: &str| {
        let alter = format!("ALTER DATABASE {} SET default_transaction_read_only = {on}", world.database);
        admin.batch_execute(&alter).await.unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        admin.query(end, &[&world.database]).await.unwrap();
    };
    set("on").await;
    // A look that meets an ended connection says that first.
    while !gateway.until("database", "down").await.contains("read-only") {}
    assert_eq!(report(gateway.admin_port).await.0, 503);
    let worker_database = health.part("database");
    while worker_database.state() != PartState::Down {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    set("off").await;
    gateway.until("database", "up").await;
    while worker_database.state() != PartState::Up {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_relay_that_nobody_runs_is_warned_of() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    until_warning(gateway.admin_port, "relay", None).await;
    let conversation = world.conversation(&[]).await;
    let old = "INSERT INTO outbox (type, conversation_id, payload, created_at)
        VALUES ('old', $1, '{}', now() - interval '1 minute')";
    world.sql.execute(old, &[&conversation]).await.unwrap();
    until_warning(gateway.admin_port, "relay", Some("for a worker")).await;
    let worker = world.worker().await;
    until_warning(gateway.admin_port, "relay", None).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_redis_that_answers_plugins_and_keeps_nothing_is_no_secret() {
    let world = World::new().await;
    let redis = blocking(|| Redis::start().unwrap()).await;
    let dir = directory(&["flood-guard"], "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n");
    let gateway = world.program(&[dir.variable(), ("PLUGIN_KV_URL", &redis.url())]).await;
    gateway.until("plugin_values", "up").await;
    let port = redis.port().to_string();
    let set_memory = async |bytes: &str| {
        let mut set = Command::new("redis-cli");
        let status = set.args(["-p", &port, "config", "set", "maxmemory", bytes]).stdout(Stdio::null()).status();
        assert!(status.await.unwrap().success());
    };
    // Its memory is full.
    set_memory("1").await;
    let reason = gateway.until("plugin_values", "down").await;
    assert!(reason.contains("OOM"), "{reason}");
    assert_eq!(report(gateway.admin_port).await.0, 200);
    set_memory("0").await;
    gateway.until("plugin_values", "up").await;
    // And away.
    blocking(move || drop(redis)).await;
    gateway.until("plugin_values", "down").await;
}

#[tokio::test]
async fn a_gateway_without_plugins_that_keep_values_has_no_such_part() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    assert_eq!(report(gateway.admin_port).await.1["parts"]["plugin_values"], Value::Null);
}

#[tokio::test]
async fn folders_that_cannot_be_written_are_warned_of() {
    let world = World::new().await;
    let dir = directory(&["body-shape"], "[[plugin]]\nname = \"body-shape\"\n");
    let nowhere = [("XDG_CACHE_HOME", "/dev/null/cache"), ("PLUGIN_RECORDS_DIR", "/dev/null/records")];
    let gateway = world.program(&[dir.variable(), nowhere[0], nowhere[1]]).await;
    until_warning(gateway.admin_port, "plugins", Some("compiled plugins are not kept: /dev/null/cache")).await;
    until_warning(gateway.admin_port, "plugins", Some("what plugins fail on is not kept: /dev/null/records")).await;
}

#[tokio::test]
async fn a_records_folder_that_goes_away_is_warned_of() {
    let world = World::new().await;
    let records = tempfile::tempdir().unwrap();
    let folder = records.path().join("records");
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = 10000\n[plugin.config]\nfilter = \"panic\"\n";
    let dir = directory(&["misbehaving"], config);
    let gateway = world.program(&[dir.variable(), ("PLUGIN_RECORDS_DIR", folder.to_str().unwrap())]).await;
    until_warning(gateway.admin_port, "plugins", None).await;
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    client.request(json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}})).await;
    until_warning(gateway.admin_port, "plugins", Some("what plugins fail on is not kept")).await;
}

#[tokio::test]
async fn files_that_are_refused_are_told_while_the_old_ones_run() {
    let world = World::new().await;
    let dir = directory(&["body-shape"], "[[plugin]]\nname = \"body-shape\"\n");
    let gateway = world.program(&[dir.variable()]).await;
    dir.configure("[[plugin]]\nname = \"not-there\"\n");
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("the changed files are refused") && reason.contains("not-there"), "{reason}");
    assert_eq!(report(gateway.admin_port).await.0, 200);
    dir.configure("[[plugin]]\nname = \"body-shape\"\n");
    gateway.until("plugins", "up").await;
}
