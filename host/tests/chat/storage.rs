//! Group commit under trouble: one bad or slow message harms nobody else, and no answer is a lie.

use arcyou_gateway::batch::BatchConfig;
use arcyou_gateway::store::{Page, PageLimits, Store};
use arcyou_platform::database;
use serde_json::json;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

/// Each of these holds whatever `messages` is: one table, or partitions by conversation.
macro_rules! on_both_tables {
    ($($name:ident),* $(,)?) => {
        mod one_table {
            $(#[tokio::test] async fn $name() { super::$name(super::World::new().await).await })*
        }
        mod partitions {
            $(#[tokio::test] async fn $name() { super::$name(super::World::partitioned().await).await })*
        }
    };
}

on_both_tables!(
    a_conversation_locked_elsewhere_delays_nobody_else_and_keeps_its_order,
    a_lock_that_is_never_given_back_ends_in_an_answer,
    a_message_that_the_database_refuses_fails_alone,
    messages_of_strangers_are_refused_by_the_database_too,
    a_lost_answer_is_called_unknown_and_a_key_resolves_it,
    what_is_stored_stays_acknowledged_when_its_sender_was_removed_since,
    what_is_stored_stays_acknowledged_while_somebody_else_holds_its_conversation,
);

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

async fn a_conversation_locked_elsewhere_delays_nobody_else_and_keeps_its_order(world: World) {
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

async fn a_lock_that_is_never_given_back_ends_in_an_answer(world: World) {
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let (bob, free) = alone(&world).await;
    let _holder = hold(&world, conversation).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let mut neighbour = Client::authenticated(gateway.port, bob).await;
    client.send_text(send(conversation, 0)).await;
    for number in 1..=50 {
        assert_eq!(neighbour.say(free, "x").await["seq"], number);
    }
    let reply = client.next().await;
    assert_eq!((&reply["temp_id"], &reply["code"]), (&json!(0), &json!("unavailable")), "{reply}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 50);
}

async fn a_message_that_the_database_refuses_fails_alone(world: World) {
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

async fn messages_of_strangers_are_refused_by_the_database_too(world: World) {
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

async fn a_lost_answer_is_called_unknown_and_a_key_resolves_it(world: World) {
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let holder = hold(&world, conversation).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k", "temp_id": 2});
    client.send_text(send(conversation, 1)).await;
    client.send_text(keyed.to_string()).await;
    // The gateway's session waits for the lock, again and again: cut it off there.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%store_messages%'";
    world.eventually(cut, 1).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let reply = client.next().await;
    assert_eq!((&reply["temp_id"], &reply["code"]), (&json!(1), &json!("outcome_unknown")), "{reply}");
    let reply = client.next().await;
    assert_eq!((&reply["temp_id"], &reply["status"]), (&json!(2), &json!("stored")), "{reply}");
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE idempotency_key = 'k'").await, 1);
}

async fn what_is_stored_stays_acknowledged_when_its_sender_was_removed_since(world: World) {
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k"});
    let first = client.ok(keyed.clone()).await;
    world.sql.batch_execute("DELETE FROM participants").await.unwrap();
    let again = client.ok(keyed).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
}

/// As when a gateway is rolled back, or not yet upgraded, beside others that have migrated.
#[tokio::test]
async fn a_schema_that_is_newer_is_left_as_it_is() {
    let world = World::new().await;
    let newer = "INSERT INTO arcyou_schema_history (version, name, applied_on, checksum)
        SELECT max(version) + 1, 'later', max(applied_on), '1' FROM arcyou_schema_history";
    world.sql.batch_execute(newer).await.unwrap();
    let applied = arcyou_gateway::migrate::migrate(&world.sql).await.unwrap();
    assert_eq!(applied, Vec::<String>::new());
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    assert_eq!(Client::authenticated(gateway.port, alice).await.say(conversation, "x").await["seq"], 1);
}

/// Whatever the planner thinks of a table that was never analysed: what is read is what is answered.
#[tokio::test]
async fn other_events_are_found_among_messages_without_reading_those() {
    let world = World::new().await;
    let rooms = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    world.sql.batch_execute("ALTER TABLE outbox SET (autovacuum_enabled = false)").await.unwrap();
    let insert = "INSERT INTO outbox (type, conversation_id, seq, payload, processed, internal)
        SELECT CASE WHEN n % 10000 = 0 THEN 'message.read' ELSE 'message.created' END, ($1::uuid[])[1 + n % 2],
            nullif(n, n / 10000 * 10000), '{}', true, true
        FROM generate_series(1, 50000) AS n";
    world.sql.execute(insert, &[&rooms.as_slice()]).await.unwrap();
    // Directly, so that the one session that reads is the one that is told to report.
    let pool = database::pool(&world.direct_url().parse().unwrap(), 1).unwrap();
    let store = Store::new(pool.clone());
    let ids = async |after, rows| -> (Vec<i64>, bool) {
        let page = store.other_events(&rooms, after, PageLimits { rows, bytes: 1 << 20 }).await.unwrap();
        (page.items.into_iter().map(|event| event.id).collect(), page.more)
    };
    assert_eq!(ids(0, 500).await, (vec![10_000, 20_000, 30_000, 40_000, 50_000], false));
    assert_eq!(ids(10_000, 2).await, (vec![20_000, 30_000], true));
    let limits = PageLimits { rows: 500, bytes: 1 << 20 };
    assert_eq!(store.other_events(&rooms[2..], 0, limits).await.unwrap(), Page { items: vec![], more: false });
    // Of its own accord it reports what it counted ten seconds later.
    pool.get().await.unwrap().batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let index = |name: &str| format!("FROM pg_stat_user_indexes WHERE indexrelname = '{name}'");
    world.eventually(&format!("SELECT least(idx_scan, 7) {}", index("outbox_other_events")), 7).await;
    let read = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'outbox')::int8
        + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'outbox')";
    assert!(world.count(read).await < 100);
}

async fn what_is_stored_stays_acknowledged_while_somebody_else_holds_its_conversation(world: World) {
    let gateway = world.gateway().await;
    let (alice, conversation) = alone(&world).await;
    let nap = "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
        CREATE TRIGGER nap BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.body ->> 'text' = 'slow') EXECUTE FUNCTION nap()";
    world.sql.batch_execute(nap).await.unwrap();
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    // All lanes are in use: what comes now waits.
    let lanes = BatchConfig::default().lanes;
    let mut others = Vec::new();
    for _ in 0..lanes {
        let slow = alone(&world).await;
        let mut other = Client::authenticated(gateway.port, slow.0).await;
        other.send_text(json!({"op": "send", "conversation_id": slow.1, "body": {"text": "slow"}}).to_string()).await;
        others.push(other);
    }
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    world.eventually(asleep, lanes as i64).await;
    let keyed = json!({"op": "send", "conversation_id": conversation, "body": {"text": "k"}, "idempotency_key": "k"});
    client.send_text(keyed.to_string()).await;
    // An earlier try, whose answer was lost, is committed only now; and then the next message holds the conversation.
    let earlier = "INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body, idempotency_key)
         VALUES ($1, 1, 1, 1, $2, '{}', 'k')";
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

/// A page of events ends where its bytes do: another service's payloads may be large, and many.
#[tokio::test]
async fn a_page_of_large_events_is_bounded_in_bytes() {
    let world = World::new().await;
    let room = [Uuid::new_v4()];
    let insert = "INSERT INTO outbox (type, conversation_id, payload, processed)
        SELECT 'room.painted', $1, to_jsonb(repeat('x', (ARRAY[10, 30000, 90000, 200000])[1 + n % 4])), true
        FROM generate_series(1, 40) AS n";
    world.sql.execute(insert, &[&room[0]]).await.unwrap();
    let store = Store::new(database::pool(&world.database_url().parse().unwrap(), 1).unwrap());
    let limits = PageLimits { rows: 500, bytes: 128 * 1024 };
    let mut seen = Vec::new();
    loop {
        let page = store.other_events(&room, seen.last().copied().unwrap_or(0), limits).await.unwrap();
        let bytes: usize = page.items.iter().map(|event| event.kind.len() + event.payload.len()).sum();
        assert!(bytes <= limits.bytes || page.items.len() == 1, "{bytes} bytes in {} events", page.items.len());
        seen.extend(page.items.iter().map(|event| event.id));
        if !page.more {
            break;
        }
    }
    let rows = world.sql.query("SELECT id FROM outbox ORDER BY id", &[]).await.unwrap();
    assert_eq!(seen, rows.into_iter().map(|row| row.get(0)).collect::<Vec<i64>>());
}

/// In an outage of Redis gateways deliver what workers have not published; but not what they could not publish.
#[tokio::test]
async fn what_workers_failed_on_or_gave_up_is_not_told() {
    let world = World::new().await;
    let room = [Uuid::new_v4()];
    let insert = "INSERT INTO outbox (type, conversation_id, payload, processed, retry_count, parked_at)
        SELECT 'room.painted', $1, '{}', processed, tries, CASE WHEN is_parked THEN now() END
        FROM (VALUES (false, 0, false), (false, 2, false), (false, 5, true), (true, 2, false), (true, 0, false))
            AS row (processed, tries, is_parked)
        RETURNING id";
    let ids: Vec<i64> = world.sql.query(insert, &[&room[0]]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let store = Store::new(database::pool(&world.database_url().parse().unwrap(), 1).unwrap());
    let page = store.other_events(&room, 0, PageLimits { rows: 500, bytes: 128 * 1024 }).await.unwrap();
    assert_eq!(page.items.iter().map(|event| event.id).collect::<Vec<_>>(), [ids[0], ids[3], ids[4]]);
}
