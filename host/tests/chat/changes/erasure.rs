//! What was deleted is gone from wherever it was.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{Room, delete, edit, react};
use crate::support::World;
use crate::support::client::Client;
use crate::support::plugins::directory;

/// Fails if any row of any table has this text: what a dump would show.
async fn nowhere(world: &World, text: &str) {
    let search = format!(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'
            AND query_to_xml(format('SELECT * FROM %I', tablename), false, false, '')::text LIKE '%{text}%'"
    );
    assert_eq!(world.count(&search).await, 0, "{text} is still there");
}

#[tokio::test]
async fn a_dump_has_no_text_of_a_deleted_message() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "secret one").await["message_id"].clone();
    room.alice.ok(edit(conversation, &id, "secret two")).await;
    room.bob.ok(react(conversation, &id, "secret-three")).await;
    room.alice.ok(edit(conversation, &id, "secret four")).await;
    room.world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    room.alice.ok(delete(conversation, &id)).await;
    nowhere(&room.world, "secret").await;
    room.world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(room.world.count("SELECT count(*) FROM outbox WHERE seq IS NOT NULL").await, 5);
}

#[tokio::test]
async fn a_dump_has_no_text_of_a_deleted_conversation() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "secret one").await["message_id"].clone();
    room.alice.ok(edit(conversation, &id, "secret two")).await;
    room.world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    room.world.sql.execute("DELETE FROM conversations WHERE id = $1", &[&conversation]).await.unwrap();
    nowhere(&room.world, "secret").await;
}

#[tokio::test]
async fn what_no_worker_has_relayed_yet_is_told_without_its_text() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut alices = Client::authenticated(gateway.port, alice).await;
    let id = alices.say(conversation, "secret one").await["message_id"].clone();
    alices.ok(edit(conversation, &id, "secret two")).await;
    // A worker that has claimed the rows holds them, whatever was decided since.
    let worker = world.connect().await;
    worker.batch_execute("BEGIN; SELECT FROM outbox WHERE seq IS NOT NULL FOR UPDATE").await.unwrap();
    alices.ok(delete(conversation, &id)).await;
    assert_eq!(world.count("SELECT count(*) FROM outbox_corrections").await, 2);
    worker.batch_execute("ROLLBACK; SELECT mark_outbox('{}')").await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM outbox_corrections").await, 0);
    nowhere(&world, "secret").await;
    let mut bobs = Client::joined(gateway.port, bob, conversation).await;
    bobs.ok(json!({"op": "leave", "conversation_id": conversation})).await;
    bobs.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    for (kind, overtaken) in [("message.created", false), ("message.edited", true), ("message.deleted", false)] {
        let event = bobs.event().await;
        assert_eq!((event["type"].as_str(), event["overtaken"] == true), (Some(kind), overtaken), "{event}");
        assert!(event["message"]["body"].is_null(), "{event}");
    }
}

/// A worker marks what it has relayed; what it held meanwhile is corrected by whoever marks next.
#[tokio::test]
async fn corrections_that_find_no_row_are_forgotten() {
    let world = World::new().await;
    world
        .sql
        .batch_execute("INSERT INTO outbox_corrections VALUES (77, '{}'); SELECT mark_outbox('{}')")
        .await
        .unwrap();
    assert_eq!(world.count("SELECT count(*) FROM outbox_corrections").await, 0);
}

/// A plugin fails on the message and on its edit, and both stand all the same.
#[tokio::test]
async fn no_log_and_no_failure_record_has_a_text_of_a_deleted_message() {
    let world = World::new().await;
    let plugins = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\non_error = \"accept\"\n");
    let (records, log) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let kept = || std::fs::read_dir(records.path()).unwrap().count();
    let records_dir = ("PLUGIN_RECORDS_DIR", records.path().to_str().unwrap());
    let stderr = Stdio::from(log.reopen().unwrap());
    let gateway = world.program_logging_to(stderr, &[plugins.variable(), records_dir, ("RUST_LOG", "info")]).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut alices = Client::authenticated(gateway.port, alice).await;
    let mut bobs = Client::authenticated(gateway.port, bob).await;
    let send = |text: &str| {
        let body = json!({"text": text, "filter": "panic"});
        json!({"op": "send", "conversation_id": conversation, "body": body})
    };
    let id = alices.ok(send("secret one")).await["message_id"].clone();
    let mut change = edit(conversation, &id, "secret two");
    change["body"]["filter"] = json!("panic");
    alices.ok(change).await;
    bobs.ok(send("what stays")).await;
    while kept() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alices.ok(delete(conversation, &id)).await;
    while kept() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let last = std::fs::read_dir(records.path()).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(last).unwrap().contains("what stays"));
    nowhere(&world, "secret").await;
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("a failure record is removed") && !log.contains("secret"), "{log}");
}
