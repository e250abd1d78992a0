//! What a gateway commits it tells itself, and workers stand behind it.

use serde_json::json;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::gateway::Running;

/// Two users, each on a gateway of their own, in one conversation.
async fn two_gateways(world: &World) -> (Uuid, [Client; 2], [Running; 2]) {
    let users = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&users).await;
    let gateways = [world.gateway_without_worker().await, world.gateway_without_worker().await];
    let first = Client::joined(gateways[0].port, users[0], conversation).await;
    let second = Client::joined(gateways[1].port, users[1], conversation).await;
    (conversation, [first, second], gateways)
}

/// Sends where nobody listens until the gateway promises to tell what it commits: it leaves that to workers until it knows
/// the key of events, and has published some.
async fn until_it_tells(world: &World, gateway: &Running) {
    let user = Uuid::new_v4();
    let elsewhere = world.conversation(&[user]).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    let promised =
        format!("SELECT count(*) FROM outbox WHERE conversation_id = '{elsewhere}' AND relay_after IS NOT NULL");
    while world.count(&promised).await == 0 {
        client.say(elsewhere, "do you tell?").await;
    }
}

/// There is no worker at all.
#[tokio::test]
async fn every_change_reaches_all_gateways_without_a_worker() {
    let world = World::new().await;
    let (conversation, [mut a, mut b], gateways) = two_gateways(&world).await;
    for gateway in &gateways {
        until_it_tells(&world, gateway).await;
    }
    // Whoever marks rows leaves those to the workers that a newer change is just correcting: so one change after the other.
    let marked =
        format!("SELECT count(*) FROM outbox WHERE conversation_id = '{conversation}' AND processed_at IS NOT NULL");
    let message = a.say(conversation, "one").await["message_id"].clone();
    world.eventually(&marked, 1).await;
    let about = |op: &str, more: serde_json::Value| {
        let mut request = json!({"op": op, "conversation_id": conversation, "message_id": message});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    a.ok(about("edit", json!({"body": {"text": "two"}}))).await;
    world.eventually(&marked, 2).await;
    b.ok(about("react", json!({"reaction": "+1"}))).await;
    world.eventually(&marked, 3).await;
    a.ok(about("delete", json!({}))).await;
    world.eventually(&marked, 4).await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("one".to_owned(), 1));
        for (kind, seq) in [("message.edited", 2), ("reaction.added", 3), ("message.deleted", 4)] {
            let event = client.event().await;
            assert_eq!((&event["type"], &event["seq"]), (&json!(kind), &json!(seq)), "{event}");
        }
    }
}

/// What a gateway promised to tell, and did not: it was killed.
#[tokio::test]
async fn a_worker_tells_what_no_gateway_has_told() {
    let world = World::new().await;
    let (conversation, [mut a, mut b], _gateways) = two_gateways(&world).await;
    let worker = world.worker().await;
    let store = "SELECT status, outbox_id, payload, (SELECT relay_after > now() FROM outbox WHERE id = outbox_id)
        FROM store_messages(ARRAY[$1::uuid, $1], (SELECT array_agg(user_id) FROM participants),
            ARRAY['{\"text\": \"1\"}', '{\"text\": \"2\"}'], '{NULL,NULL}', '{NULL,NULL}', '{NULL,NULL}', '{NULL,NULL}',
            '{NULL,NULL}', true, NULL, NULL, $2)";
    let rows = world.sql.query(store, &[&conversation, &0.3_f64]).await.unwrap();
    for (place, row) in rows.iter().enumerate() {
        assert_eq!(row.get::<_, &str>(0), "stored");
        let told: String = world
            .sql
            .query_one("SELECT payload::text FROM outbox WHERE id = $1", &[&row.get::<_, i64>(1)])
            .await
            .unwrap()
            .get(0);
        assert_eq!(row.get::<_, &str>(2), told, "the answer is what the outbox has");
        let payload: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(payload["message"]["body"]["text"], json!((place + 1).to_string()));
    }
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("1".to_owned(), 1));
        assert_eq!(client.message().await, ("2".to_owned(), 2));
    }
    world.eventually("SELECT count(*) FROM outbox WHERE seq IS NOT NULL AND NOT processed", 0).await;
    // Nobody is waited for longer than it was said.
    let early = "SELECT count(*) FROM outbox WHERE processed_at < relay_after";
    assert_eq!(world.count(early).await, 0);
    worker.stop().await;
}

/// A row that a worker holds is left to it, and nobody waits for it.
#[tokio::test]
async fn a_row_that_a_worker_holds_is_marked_by_that_worker() {
    let world = World::new().await;
    let conversation = world.conversation(&[]).await;
    let insert = "INSERT INTO outbox (type, conversation_id, payload) SELECT 'x', $1, '{}' FROM generate_series(1, 2) RETURNING id";
    let rows = world.sql.query(insert, &[&conversation]).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let worker = world.connect().await;
    worker.batch_execute("BEGIN").await.unwrap();
    worker.query("SELECT FROM outbox WHERE id = $1 FOR UPDATE", &[&ids[0]]).await.unwrap();
    let mark = "SELECT set_config('statement_timeout', '20s', true), mark_told($1)::text";
    world.sql.query(mark, &[&ids]).await.unwrap();
    let marked = "SELECT array_agg(id) FROM outbox WHERE processed";
    assert_eq!(world.sql.query_one(marked, &[]).await.unwrap().get::<_, Vec<i64>>(0), ids[1..]);
    worker.batch_execute("COMMIT").await.unwrap();
    world.sql.query(mark, &[&ids]).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM outbox WHERE processed").await, 2);
}
