//! What is said by a gateway and a worker that cannot start yet, and that they start when somebody has acted.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use arcyou_gateway::migrate::migrate_at;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::{Health, PartState};
use serde_json::Value;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::program::free_port;
use crate::support::rights::Login;
use crate::support::{World, ready, until};

/// The group roles exist for all databases of this server.
async fn make_group_roles() {
    World::new().await.grant_rights().await;
}

async fn starting(world: &World, login: &Login) -> Running {
    world.starting_gateway(0, &[("DATABASE_URL", login.url())]).await
}

/// Waits until `/ready` says `text` about the schema.
async fn says(gateway: &Running, text: &str) -> String {
    for _ in 0..1500 {
        let reason = gateway.until("schema", "down").await;
        if reason.contains(text) {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{text:?} was never said, but {:?}", gateway.until("schema", "down").await);
}

/// The same of a worker.
async fn worker_says(health: &Health, text: &str) -> String {
    for _ in 0..1500 {
        let reason = health.report().parts["schema"].reason.clone().unwrap_or_default();
        if reason.contains(text) {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{text:?} was never said, but {:?}", health.report());
}

async fn worker_is_ready(health: &Health) {
    for _ in 0..1500 {
        if health.report().ready && health.part("schema").state() == PartState::Up {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the worker was never ready: {:?}", health.report());
}

#[tokio::test]
async fn without_a_schema_they_wait_and_say_who_must_run_what() {
    make_group_roles().await;
    let world = World::bare("UTF8").await;
    let [login, worker_login] = [world.login(Some("arcyou_gateway")).await, world.login(Some("arcyou_worker")).await];
    let log = tempfile::NamedTempFile::new().unwrap();
    let (port, admin_port) = (free_port(), free_port());
    let mut command = world.serve_command(port, admin_port);
    command
        .env("DATABASE_URL", login.url())
        .env("RUST_LOG", "info")
        .stderr(Stdio::from(File::create(log.path()).unwrap()));
    let gateway = command.spawn().unwrap();
    let health = Health::new();
    let worker = world.worker_with(worker_login.url(), &world.redis.url(), PubSubMode::Global, &health);
    while tokio::net::TcpStream::connect(("127.0.0.1", admin_port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reason = until(admin_port, "schema", "down").await;
    for part in ["lacks V1__chat", &login.name, "schema public", "`arcyou-gateway migrate`", "MIGRATE_DATABASE_URL"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    let reason = worker_says(&health, "lacks table installation, table outbox").await;
    for part in ["function claim_outbox", &worker_login.name, "`arcyou-gateway migrate`"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    // Its tasks have asked for nothing meanwhile, and whoever connects is told to come back.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut early = Client::authenticated(port, Uuid::new_v4()).await;
    let join = serde_json::json!({"op": "join", "conversation_id": Uuid::new_v4()});
    assert_eq!(early.code(join).await, "unavailable");
    let owner: arcyou_platform::database::DatabaseUrl = world.direct_url().parse().unwrap();
    assert_eq!(migrate_at(&owner).await.unwrap(), ["V1__chat"]);
    ready(admin_port).await;
    worker_is_ready(&health).await;
    drop(gateway);
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("a part waits")).count(), 1, "{log}");
    // What this test has set up so, and what this machine may lack.
    let known = ["JWT_PUBLIC_KEY", "no plugins", "hard limit"];
    let unasked = |line: &&str| !known.iter().any(|text| line.contains(text));
    let complaints = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).filter(unasked);
    // The one request before the schema was there.
    let complaints: Vec<&str> = complaints.filter(|line| !line.contains("did not answer requests")).collect();
    assert_eq!(complaints, Vec::<&str>::new(), "{log}");
    worker.stop().await;
}

#[tokio::test]
async fn a_gateway_that_may_brings_the_schema_up_to_date_and_says_nothing_worse() {
    make_group_roles().await;
    let world = World::bare("UTF8").await;
    let login = world.login(Some("arcyou_gateway")).await;
    let migrate = [("DATABASE_URL", login.url()), ("MIGRATE_DATABASE_URL", &world.direct_url())];
    let gateway = world.starting_gateway(0, &migrate).await;
    gateway.ready().await;
    gateway.stop().await;
    // The next one needs no such right.
    starting(&world, &login).await.ready().await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_it_lacks_and_whom_to_ask() {
    let world = World::new().await;
    world.grant_rights().await;
    let (nobody, clerk) = (world.login(None).await, world.login(None).await);
    let gateway = starting(&world, &nobody).await;
    let health = Health::new();
    let worker = world.worker_with(clerk.url(), &world.redis.url(), PubSubMode::Global, &health);
    let reason = says(&gateway, "lacks rights").await;
    for part in [
        "INSERT on table messages (id, conversation_id, seq",
        "UPDATE on table conversations (last_seq, message_count, last_message_id, last_message_at, read_only, keep_days",
        "USAGE on sequence outbox_id_seq",
        &format!("GRANT arcyou_gateway TO {}", nobody.name),
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    worker_says(&health, &format!("GRANT arcyou_worker TO {}", clerk.name)).await;
    for (group, login) in [("arcyou_gateway", &nobody), ("arcyou_worker", &clerk)] {
        world.sql.batch_execute(&format!("GRANT {group} TO {}", login.name)).await.unwrap();
    }
    gateway.ready().await;
    worker_is_ready(&health).await;
    worker.stop().await;
}

/// Rights on rows, granted by hand, are enough.
#[tokio::test]
async fn a_role_with_row_rights_alone_starts() {
    let world = World::new().await;
    let login = world.login(None).await;
    let grant = format!(
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT SELECT, INSERT, UPDATE, DELETE ON conversations, participants, messages, message_changes, message_reactions,
             held_messages, plugin_audit, outbox, outbox_corrections, user_cutoffs, user_blocks TO {0};
         GRANT SELECT ON installation, api_keys TO {0};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {0}",
        login.name
    );
    world.sql.batch_execute(&grant).await.unwrap();
    let gateway = starting(&world, &login).await;
    gateway.ready().await;
    let answer = gateway.get("/ready").await;
    let report: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    // It may not read which migrations were applied, and says so.
    assert!(report["parts"]["schema"]["warning"].as_str().unwrap().contains("arcyou_schema_history"), "{report}");
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    assert_eq!(Client::joined(gateway.port, user, conversation).await.say(conversation, "x").await["seq"], 1);
}

#[tokio::test]
async fn tables_in_a_schema_out_of_sight_are_found_and_named() {
    make_group_roles().await;
    let world = World::bare("UTF8").await;
    world.sql.batch_execute("CREATE SCHEMA chat; SET search_path = chat").await.unwrap();
    arcyou_gateway::migrate::migrate(&world.sql).await.unwrap();
    let login = world.login(Some("arcyou_gateway")).await;
    let gateway = starting(&world, &login).await;
    says(&gateway, &format!("ALTER ROLE {} SET search_path = chat", login.name)).await;
    world.sql.batch_execute(&format!("ALTER ROLE {} SET search_path = chat", login.name)).await.unwrap();
    // Sessions have the setting that was there when they began.
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", login.name);
    world.sql.batch_execute(&end).await.unwrap();
    gateway.ready().await;
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused() {
    make_group_roles().await;
    let world = World::bare("SQL_ASCII").await;
    let gateway = world.starting_gateway(0, &[("DATABASE_URL", &world.direct_url())]).await;
    let health = Health::new();
    let worker = world.worker_with(&world.direct_url(), &world.redis.url(), PubSubMode::Global, &health);
    for reason in [says(&gateway, "SQL_ASCII").await, worker_says(&health, "SQL_ASCII").await] {
        assert!(reason.contains("must be UTF8"), "{reason}");
    }
    let error = migrate_at(&world.direct_url().parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("SQL_ASCII"), "{error}");
    assert!(gateway.get("/ready").await.starts_with("HTTP/1.1 503"));
    worker.stop().await;
}

#[tokio::test]
async fn a_schema_that_another_version_made_is_refused() {
    let world = World::new().await;
    world.sql.batch_execute("UPDATE arcyou_schema_history SET checksum = '1'").await.unwrap();
    let gateway = world.starting_gateway(0, &[]).await;
    says(&gateway, "V1__chat was applied to this schema with another text").await;
}

/// Whoever may not create roles is told what an administrator must run.
#[tokio::test]
async fn an_owner_who_may_not_create_roles_is_told_what_to_ask_for() {
    let world = World::bare("UTF8").await;
    let owner = world.login(None).await;
    let sql = owner.connect().await;
    // As where the roles do not exist: they do, for all databases of this server.
    let roles = include_str!("../../../../migrations/roles.sql").replace("arcyou_", "elsewhere_");
    let error = sql.batch_execute(&roles).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.message().contains("elsewhere_gateway, elsewhere_worker"), "{error}");
    assert!(error.hint().unwrap().contains("CREATE ROLE elsewhere_gateway NOLOGIN;"), "{error}");
}
