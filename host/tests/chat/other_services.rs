//! What other services do to `conversations` and `participants` by SQL, and what the gateway makes of it.

use arcyou_platform::contract::READ_EVENT_KEY;
use serde_json::json;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::{World, connect};

/// The events that wait in the outbox, oldest first, as (type, user, role).
async fn told(world: &World) -> Vec<(String, Option<Uuid>, Option<String>)> {
    let query = "SELECT type, (payload->>'user_id')::uuid, payload->>'role' FROM outbox ORDER BY id";
    world.sql.query(query, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn what_is_told_is_what_changed_at_commit() {
    let world = World::new().await;
    let [alice, bob, carol, dave] = [(); 4].map(|()| Uuid::new_v4());
    let conversation = world.conversation(&[alice, bob, carol]).await;
    let add = |user: Uuid, role: &str| {
        format!(
            "INSERT INTO participants (conversation_id, user_id, role) VALUES ('{conversation}', '{user}', '{role}')"
        )
    };
    // The list of participants is replaced by itself, as many services write lists.
    let replace =
        ["DELETE FROM participants".to_owned(), add(alice, "member"), add(bob, "member"), add(carol, "member")];
    world.sql.batch_execute(&format!("BEGIN; {}; COMMIT", replace.join("; "))).await.unwrap();
    assert_eq!(told(&world).await, [], "nothing has changed");
    // Of several changes to one participant the sum is told, and nothing of what a savepoint undid.
    let changes = [
        add(dave, "member"),
        format!("UPDATE participants SET role = 'moderator' WHERE user_id = '{dave}'"),
        format!("DELETE FROM participants WHERE user_id = '{alice}'"),
        "SAVEPOINT before; DELETE FROM participants; ROLLBACK TO before".to_owned(),
        format!("UPDATE participants SET role = 'owner' WHERE user_id = '{bob}'"),
        format!("UPDATE participants SET role = 'guest' WHERE user_id = '{carol}'"),
        format!("UPDATE participants SET role = 'member' WHERE user_id = '{carol}'"),
    ];
    world.sql.batch_execute(&format!("BEGIN; {}; COMMIT", changes.join("; "))).await.unwrap();
    let mut sums = told(&world).await;
    sums.sort();
    assert_eq!(
        sums,
        [
            ("participant.added".to_owned(), Some(dave), Some("moderator".to_owned())),
            ("participant.removed".to_owned(), Some(alice), None),
            ("participant.role_changed".to_owned(), Some(bob), Some("owner".to_owned())),
        ]
    );
    assert_eq!(world.count("SELECT count(*) FROM participant_changes").await, 0);
    assert_eq!(world.count("SELECT (SELECT count(*) FROM participant_changes_due)").await, 0);
}

#[tokio::test]
async fn truncated_conversations_are_deleted_conversations() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    client.say(conversation, "old").await;
    client.message().await;
    world.sql.batch_execute("TRUNCATE conversations CASCADE").await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 0);
    let event = client.event().await;
    assert_eq!(event["type"], "conversation.deleted", "{event}");
    let lost = client.next().await;
    assert_eq!((&lost["op"], &lost["code"]), (&json!("join"), &json!("not_participant")), "{lost}");
    world.sql.execute("INSERT INTO conversations (id) VALUES ($1)", &[&conversation]).await.unwrap();
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, 1, "its numbers go on");
}

#[tokio::test]
async fn marks_and_cursors_survive_the_deletion_of_their_message() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let alice = Uuid::new_v4();
    let (conversation, other) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    let mut client = Client::authenticated(gateway.port, alice).await;
    let mut ids = Vec::new();
    for text in ["1", "2", "3", "4"] {
        ids.push(client.say(conversation, text).await["message_id"].as_i64().unwrap());
    }
    let newer = client.say(other, "later").await["message_id"].as_i64().unwrap();
    world.sql.execute("DELETE FROM messages WHERE id = ANY($1)", &[&&ids[2..]]).await.unwrap();
    let ack = |id: i64| json!({"op": "ack", "conversation_id": conversation, "last_read_id": id});
    assert_eq!(client.ok(ack(ids[3])).await["last_read_id"], ids[3]);
    assert_eq!(client.code(ack(newer)).await, "unknown_message", "this one the conversation never had");
    // From behind the end nothing is missing; from a gap, what is left after it.
    let join = |id: i64| json!({"op": "join", "conversation_id": conversation, "after_id": id});
    let joined = client.ok(join(ids[3])).await;
    assert_eq!((&joined["last_seq"], &joined["resumed"]), (&json!(4), &json!(true)));
    assert_eq!(client.code(join(newer)).await, "unknown_message");
    world.sql.execute("DELETE FROM messages WHERE id = $1", &[&ids[0]]).await.unwrap();
    client.ok(join(ids[0])).await;
    assert_eq!(client.message().await, ("2".to_owned(), 2));
}

#[tokio::test]
async fn no_message_is_older_than_the_one_before_it() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    // The clock of another primary was ahead.
    let ahead = "UPDATE conversations SET last_message_at = '2100-01-02T03:04:05.678Z'";
    world.sql.batch_execute(ahead).await.unwrap();
    let mut client = Client::authenticated(gateway.port, alice).await;
    for text in ["a", "b"] {
        assert_eq!(client.say(conversation, text).await["created_at"], "2100-01-02T03:04:05.678Z");
    }
    // A time is taken under the lock and not when the transaction began.
    let back = "UPDATE conversations SET last_message_at = NULL";
    let holder = connect(&world.direct_url()).await;
    holder.batch_execute(&format!("BEGIN; {back}")).await.unwrap();
    client.send_text(json!({"op": "send", "conversation_id": conversation, "body": {"text": "c"}}).to_string()).await;
    world.eventually("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 1).await;
    let row = holder.query_one("SELECT message_time(clock_timestamp())", &[]).await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    let waited = client.next().await;
    assert!(waited["created_at"].as_str().unwrap() >= row.get::<_, &str>(0), "{waited}");
}

#[tokio::test]
async fn a_number_keeps_its_digits_up_to_every_reader() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    let body = r#"{"big": 18446744073709551616, "fine": 0.12345678901234567890123, "price": 1.50}"#;
    let send = format!(r#"{{"op": "send", "conversation_id": "{conversation}", "body": {body}}}"#);
    client.send_text(send).await;
    assert_eq!(client.next().await["status"], "stored");
    assert_eq!(world.sql.query_one("SELECT body::text FROM messages", &[]).await.unwrap().get::<_, &str>(0), body);
    let small =
        format!(r#"{{"op": "send", "conversation_id": "{conversation}", "body": {{"tiny": 1e-400}}, "ref": 9}}"#);
    client.send_text(small).await;
    loop {
        let frame = client.next().await;
        if frame["ref"] == 9 {
            break assert_eq!(frame["code"], "number_out_of_range");
        }
    }
}

/// A copy of a database, as staging has one of production, is another installation.
#[tokio::test]
async fn a_copied_database_marks_its_events_with_another_key() {
    let (world, copy) = (World::new().await, World::new().await);
    let secret: Vec<u8> = world.sql.query_one("SELECT event_key FROM installation", &[]).await.unwrap().get(0);
    copy.sql.execute("UPDATE installation SET event_key = $1", &[&secret]).await.unwrap();
    assert_ne!(event_key(&world.sql).await, event_key(&copy.sql).await);
    assert_eq!(event_key(&world.sql).await, event_key(&world.connect().await).await);
}

async fn event_key(sql: &tokio_postgres::Client) -> Vec<u8> {
    sql.query_one(READ_EVENT_KEY, &[]).await.unwrap().get(0)
}
