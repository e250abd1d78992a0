//! Group commit under trouble: one bad or slow message harms nobody else, and no answer is a lie.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::World;
use support::client::Client;
use uuid::Uuid;

async fn alone(world: &World) -> (Uuid, Uuid) {
    let user = Uuid::new_v4();
    (user, world.conversation(&[user]).await)
}

/// Holds a conversation's row, as a long transaction elsewhere would.
async fn hold(world: &World, conversation: Uuid) -> tokio_postgres::Client {
    let holder = world.connect().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", &[&conversation]).await.unwrap();
    holder
}

fn send(conversation: Uuid, number: usize) -> String {
    let body = json!({"text": number.to_string()});
    json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": number}).to_string()
}

#[tokio::test]
async fn a_conversation_locked_elsewhere_delays_nobody_else_and_keeps_its_order() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, locked) = alone(&world).await;
    let free: Vec<(Uuid, Uuid)> = vec![alone(&world).await, alone(&world).await, alone(&world).await];
    let holder = hold(&world, locked).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    for number in 0..10 {
        a.send_text(send(locked, number)).await;
    }
    for (user, conversation) in &free {
        let mut client = Client::authenticated(gateway.port, *user).await;
        for number in 1..=20 {
            assert_eq!(client.say(*conversation, "x").await["seq"], number);
        }
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM messages WHERE conversation_id IN (SELECT conversation_id FROM messages)")
            .await,
        60
    );
    for number in 10..20 {
        a.send_text(send(locked, number)).await;
    }
    holder.batch_execute("COMMIT").await.unwrap();
    for number in 0..20 {
        let reply = a.next().await;
        assert_eq!((&reply["temp_id"], &reply["seq"]), (&json!(number), &json!(number + 1)), "{reply}");
    }
}

#[tokio::test]
async fn a_lock_that_is_never_given_back_ends_in_an_answer() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let _holder = hold(&world, conversation).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let request = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}});
    assert_eq!(client.code(request).await, "unavailable");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 0);
}

#[tokio::test]
async fn a_message_that_the_database_refuses_fails_alone() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.sql.batch_execute("ALTER TABLE messages ADD CHECK (body->>'text' IS DISTINCT FROM '7')").await.unwrap();
    let (alice, conversation) = alone(&world).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    for number in 0..20 {
        client.send_text(send(conversation, number)).await;
    }
    let mut seq = 0;
    for number in 0..20 {
        let reply = client.next().await;
        assert_eq!(reply["temp_id"], json!(number));
        if number == 7 {
            assert_eq!(reply["code"], "unstorable_text");
        } else {
            seq += 1;
            assert_eq!(reply["seq"], json!(seq));
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 19);
}

#[tokio::test]
async fn messages_of_strangers_are_refused_by_the_database_too() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let (alice, conversation) = alone(&world).await;
    // Joined, so that the gateway believes the socket; removed by SQL that no trigger sees.
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    world
        .sql
        .batch_execute(
            "SET session_replication_role = replica; DELETE FROM participants; RESET session_replication_role",
        )
        .await
        .unwrap();
    let request = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}});
    assert_eq!(client.code(request).await, "not_participant");
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, 0);
}

#[tokio::test]
async fn a_lost_answer_is_called_unknown_and_a_key_resolves_it() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let holder = hold(&world, conversation).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k", "temp_id": 2});
    client.send_text(send(conversation, 1)).await;
    client.send_text(keyed.to_string()).await;
    // The gateway's session waits for the lock, again and again: cut it off there.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%arcyou.locked%'";
    world.eventually(cut, 1).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let reply = client.next().await;
    assert_eq!((&reply["temp_id"], &reply["code"]), (&json!(1), &json!("outcome_unknown")), "{reply}");
    let reply = client.next().await;
    assert_eq!((&reply["temp_id"], &reply["status"]), (&json!(2), &json!("stored")), "{reply}");
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE idempotency_key = 'k'").await, 1);
}

#[tokio::test]
async fn what_is_stored_stays_acknowledged_when_its_sender_was_removed_since() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k"});
    let first = client.ok(keyed.clone()).await;
    world.sql.batch_execute("DELETE FROM participants").await.unwrap();
    let again = client.ok(keyed).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
}

#[tokio::test]
async fn what_is_stored_stays_acknowledged_while_somebody_else_holds_its_conversation() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    // Half of all conversations share a lane with this one.
    let mut slow = alone(&world).await;
    while slow.1.as_u128() % 2 != conversation.as_u128() % 2 {
        slow = alone(&world).await;
    }
    let nap = "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
        CREATE TRIGGER nap BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.body ->> 'text' = 'slow') EXECUTE FUNCTION nap()";
    world.sql.batch_execute(nap).await.unwrap();
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    let mut other = Client::authenticated(gateway.port, slow.0).await;
    other.send_text(json!({"op": "send", "conversation_id": slow.1, "body": {"text": "slow"}}).to_string()).await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    world.eventually(asleep, 1).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k"});
    client.send_text(keyed.to_string()).await;
    let looked_up = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%idempotency_key = $3%' AND state = 'idle'";
    world.eventually(looked_up, 1).await;
    // An earlier try, whose answer was lost, is committed only now; and then the next message holds the conversation.
    let earlier =
        "INSERT INTO messages (conversation_id, seq, sender_id, body, idempotency_key) VALUES ($1, 1, $2, '{}', 'k')";
    world.sql.execute(earlier, &[&conversation, &alice]).await.unwrap();
    let holder = hold(&world, conversation).await;
    let reply = client.next().await;
    assert_eq!(
        (&reply["status"], &reply["seq"], &reply["duplicate"]),
        (&json!("stored"), &json!(1), &json!(true)),
        "{reply}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
}
