//! Everything that the system does, with roles that may do that and nothing else.

use arcyou_outbox_worker::parked::{self, Decision};
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database;
use arcyou_platform::health::Health;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::rights::Login;

/// `arcyou-gateway …` against this database.
pub(super) async fn command(url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let command = command.env_clear().env("USER", "carol").env("DATABASE_URL", url).args(arguments);
    let output = command.output().await.unwrap();
    let [said, logged] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {said}{logged}");
    said
}

fn told(conversation: Uuid, what: &str, key: &str) -> Value {
    let body = json!({"filter": what, "text": what});
    json!({"op": "send", "conversation_id": conversation, "body": body, "idempotency_key": key})
}

/// The next event that has this type.
async fn event(client: &mut Client, kind: &str) -> Value {
    loop {
        let event = client.event().await;
        if event["type"] == kind {
            return event;
        }
    }
}

/// A conversation, made by another backend's service that has no schema in its search_path.
async fn conversation(service: &tokio_postgres::Client, schema: &str, users: &[Uuid]) -> Uuid {
    let insert = format!("INSERT INTO {schema}.conversations DEFAULT VALUES RETURNING id");
    let conversation = service.query_one(&insert, &[]).await.unwrap().get(0);
    let insert = format!("INSERT INTO {schema}.participants (conversation_id, user_id) VALUES ($1, $2)");
    for user in users {
        service.execute(&insert, &[&conversation, user]).await.unwrap();
    }
    conversation
}

/// What is old, for gateway and worker to remove; and a row that is parked.
async fn leave_old_things(world: &World) {
    world
        .sql
        .batch_execute(
            "INSERT INTO plugin_audit (created_at, conversation_id, sender_id, verdict, plugin, sha256)
                 VALUES (now() - interval '90 days', gen_random_uuid(), gen_random_uuid(), 'rejected', 'old', 'x');
             INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason, refused_at)
                 VALUES (gen_random_uuid(), gen_random_uuid(), '{}', 'old', 'y', now() - interval '90 days');
             INSERT INTO outbox (type, conversation_id, payload, processed, processed_at, created_at)
                 VALUES ('old', gen_random_uuid(), '{}', true, now() - interval '90 days', now() - interval '90 days');
             INSERT INTO outbox (type, conversation_id, payload, parked_at, error)
                 SELECT 'parked', gen_random_uuid(), '{}', now(), 'x' FROM generate_series(1, 2)",
        )
        .await
        .unwrap();
}

/// What a worker's operators do, with the worker's role.
async fn decide_on_parked_rows(worker: &Login) {
    let pool = database::pool(&worker.url().parse().unwrap(), 1).unwrap();
    let rows = parked::list(&pool, 0, 10).await.unwrap();
    let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(parked::show(&pool, first.id).await.unwrap().is_some());
    assert_eq!(parked::decide(&pool, Decision::Drop, &[first.id]).await.unwrap(), [first.id]);
    assert_eq!(parked::decide(&pool, Decision::Requeue, &[second.id]).await.unwrap(), [second.id]);
}

async fn everything_works(world: World, schema: &str) {
    let [gateway_role, worker_role, service_role, reader_role] =
        ["arcyou_gateway", "arcyou_worker", "arcyou_service", "arcyou_reader"];
    let [gateway_role, worker_role] = [world.login(Some(gateway_role)).await, world.login(Some(worker_role)).await];
    let [service_role, reader_role] = [world.login(Some(service_role)).await, world.login(Some(reader_role)).await];
    for role in [&gateway_role, &worker_role, &reader_role] {
        let set = format!("ALTER ROLE {} SET search_path = {schema}", role.name);
        world.sql.batch_execute(&set).await.unwrap();
    }
    leave_old_things(&world).await;
    let bouncer = world.bouncer_for(&gateway_role).await;
    let url = bouncer.url(&world.database);
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let gateway = world.gateway_with(&[("DATABASE_URL", &url), dir.variable()]).await;
    let worker = world.worker_with(worker_role.url(), &world.redis.url(), PubSubMode::Global, &Health::new());
    let service = service_role.connect().await;
    service.batch_execute("SET search_path = ''").await.unwrap();
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = conversation(&service, schema, &[alice, bob]).await;

    // Send, event, history, read mark, repeated send.
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    let sent = a.say(conversation, "hello").await;
    assert_eq!(event(&mut b, "message.created").await["message"]["seq"], 1);
    let page = b.ok(json!({"op": "history", "conversation_id": conversation})).await;
    assert_eq!(page["messages"][0]["body"]["text"], "hello", "{page}");
    b.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": sent["message_id"]})).await;
    event(&mut a, "message.read").await;
    assert_eq!(a.ok(told(conversation, "replace", "k1")).await["seq"], 2);
    assert_eq!(a.ok(told(conversation, "replace", "k1")).await["duplicate"], true);
    assert_eq!(event(&mut b, "message.created").await["message"]["body"]["text"], "replaced");

    // What plugins decide, and people after them.
    assert_eq!(a.code(told(conversation, "reject", "k2")).await, "rejected");
    for key in ["k3", "k4"] {
        assert_eq!(a.ok(told(conversation, "hold", key)).await["status"], "held");
    }
    let ids = world.sql.query("SELECT id::text FROM held_messages WHERE refused_at IS NULL ORDER BY id", &[]).await;
    let ids: Vec<String> = ids.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(command(&url, &["held", "list"]).await.contains("somebody should look"));
    command(&url, &["held", "release", &ids[0]]).await;
    command(&url, &["held", "refuse", &ids[1]]).await;
    assert_eq!(event(&mut b, "message.created").await["message"]["seq"], 3);
    world.eventually("SELECT count(*) FROM plugin_audit", 6).await;

    // What another service does.
    let event_of_service = format!(
        "INSERT INTO {schema}.outbox (type, conversation_id, payload) VALUES ('room.renamed', '{conversation}', '{{}}')"
    );
    service.batch_execute(&event_of_service).await.unwrap();
    event(&mut b, "room.renamed").await;
    let remove = format!("DELETE FROM {schema}.participants WHERE user_id = $1");
    assert_eq!(service.execute(&remove, &[&alice]).await.unwrap(), 1);
    assert_eq!(event(&mut b, "participant.removed").await["user_id"], json!(alice));
    assert_eq!(a.code(told(conversation, "accept", "k5")).await, "not_participant");
    let erase = format!("DELETE FROM {schema}.conversations WHERE id = $1");
    assert_eq!(service.execute(&erase, &[&conversation]).await.unwrap(), 1);
    event(&mut b, "conversation.deleted").await;
    let mine = format!("FROM messages WHERE conversation_id = '{conversation}'");
    assert_eq!(world.count(&format!("SELECT count(*) {mine}")).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM held_messages WHERE held_by <> 'old'").await, 0);

    // Upkeep.
    decide_on_parked_rows(&worker_role).await;
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    for old in ["plugin_audit WHERE plugin = 'old'", "held_messages WHERE held_by = 'old'", "outbox WHERE type = 'old'"]
    {
        world.eventually(&format!("SELECT count(*) FROM {old}"), 0).await;
    }
    assert_eq!(world.count("SELECT count(*) FROM outbox WHERE retry_count > 0").await, 0);
    assert_eq!(gateway.until("schema", "up").await, "");

    // Reports.
    let reader = reader_role.connect().await;
    for table in ["conversations", "participants", "messages", "held_messages", "plugin_audit", "outbox"] {
        reader.query(&format!("SELECT * FROM {table}"), &[]).await.unwrap();
    }
    gateway.stop().await;
    worker.stop().await;
}

#[tokio::test]
async fn everything_works_with_the_least_rights() {
    let world = World::new().await;
    world.grant_rights().await;
    everything_works(world, "public").await;
}

/// The rights pass to the new table.
#[tokio::test]
async fn everything_works_with_the_least_rights_on_partitions() {
    let world = World::new().await;
    world.grant_rights().await;
    world.partition_messages().await;
    everything_works(world, "public").await;
}

/// An owner who is no superuser, a schema that is not `public`, and another service that records its migrations with
/// the same library there.
#[tokio::test]
async fn everything_works_in_a_schema_of_its_own() {
    let world = World::new().await;
    // So that the roles exist: an administrator makes them.
    world.grant_rights().await;
    let world = World { ..World::bare("UTF8").await };
    let owner = world.login(None).await;
    let prepare = format!(
        "CREATE SCHEMA chat AUTHORIZATION {0}; ALTER ROLE {0} SET search_path = chat; SET search_path = chat;
         CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name text, applied_on text, checksum text);
         INSERT INTO refinery_schema_history VALUES (1, 'theirs', '2026-01-01T00:00:00Z', '7');
         GRANT ALL ON refinery_schema_history TO {0}",
        owner.name
    );
    world.sql.batch_execute(&prepare).await.unwrap();
    let said = command(owner.url(), &["migrate"]).await;
    assert!(said.contains("applied V1__chat") && said.contains("have their rights"), "{said}");
    assert!(!command(owner.url(), &["migrate"]).await.contains("applied"));
    everything_works(world, "chat").await;
}
