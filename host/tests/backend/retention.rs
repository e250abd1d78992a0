//! Messages that a conversation keeps no longer: what goes with them, and what sockets notice.

use serde_json::{Value, json};
use tokio_postgres::Client as Sql;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::send::service;
use crate::support::World;
use crate::support::client::Client;

/// One batch: how many messages went, and whether there is more to do.
async fn purge(sql: &Sql, most: i32) -> (i64, bool) {
    let row = sql.query_one("SELECT purged, more FROM public.purge_messages($1)", &[&most]).await.unwrap();
    (row.get(0), row.get(1))
}

/// All that is due.
async fn purge_all(sql: &Sql) -> i64 {
    let mut all = 0;
    loop {
        let (purged, more) = purge(sql, 500).await;
        all += purged;
        if !more {
            return all;
        }
    }
}

async fn keep(world: &World, conversation: Uuid, what: &str) {
    let set = format!("UPDATE conversations SET {what} WHERE id = '{conversation}'");
    world.sql.batch_execute(&set).await.unwrap();
}

/// As if all that there is had been relayed.
async fn relayed(world: &World) {
    world.sql.batch_execute("UPDATE outbox SET processed = true, processed_at = now()").await.unwrap();
}

/// The first and the last message's `n`, how many there are, and the marks.
async fn standing(world: &World, conversation: Uuid) -> [i64; 5] {
    let query = "SELECT coalesce(min(m.n), 0), coalesce(max(m.n), 0), count(m.n), c.purged_n, c.purged_seq
        FROM conversations c LEFT JOIN messages m ON m.conversation_id = c.id WHERE c.id = $1 GROUP BY c.id";
    let row = world.sql.query_one(query, &[&conversation]).await.unwrap();
    [0, 1, 2, 3, 4].map(|column| row.get(column))
}

fn about(op: &str, conversation: Uuid, id: &Value) -> Value {
    json!({"op": op, "conversation_id": conversation, "message_id": id, "body": {"text": "secret"}, "reaction": "+1"})
}

#[tokio::test]
async fn what_is_beyond_count_or_age_goes_oldest_first_and_numbers_stay() {
    for partitioned in [false, true] {
        let world = if partitioned { World::partitioned().await } else { World::new().await };
        let gateway = world.gateway().await;
        let alice = Uuid::new_v4();
        let (conversation, other) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
        let mut client = Client::authenticated(gateway.port, alice).await;
        for _ in 0..30 {
            client.say(conversation, "x").await;
            client.say(other, "x").await;
        }
        assert_eq!(purge(&world.sql, 10).await, (0, false), "nobody has said how long");
        keep(&world, conversation, "keep_messages = 12").await;
        world.eventually("SELECT count(*) FROM outbox WHERE NOT processed AND seq IS NOT NULL", 0).await;
        world.sql.batch_execute("UPDATE outbox SET processed = false").await.unwrap();
        assert_eq!(purge_all(&world.sql).await, 0, "nothing goes that is not relayed");
        relayed(&world).await;
        keep(&world, conversation, "purge_at = DEFAULT").await;
        // Two batches.
        assert_eq!(purge(&world.sql, 10).await, (10, true));
        assert_eq!(standing(&world, conversation).await, [11, 30, 20, 10, 10]);
        assert_eq!(purge_all(&world.sql).await, 8);
        assert_eq!(standing(&world, conversation).await, [19, 30, 12, 18, 18]);
        // One whole message, however often it was changed; and its newest change is the mark.
        let first = format!("SELECT id FROM messages WHERE conversation_id = '{conversation}' AND n = 19");
        client.ok(about("react", conversation, &json!(world.count(&first).await))).await;
        relayed(&world).await;
        let aged = format!(
            "UPDATE messages SET created_at = now() - interval '41 days' WHERE conversation_id = '{conversation}' AND n < 25"
        );
        world.sql.batch_execute(&aged).await.unwrap();
        keep(&world, conversation, "keep_messages = 11, keep_days = 40").await;
        assert_eq!(purge(&world.sql, 1).await, (1, true));
        assert_eq!(standing(&world, conversation).await, [20, 30, 11, 19, 31]);
        // Both at once: the age takes more.
        assert_eq!(purge_all(&world.sql).await, 5);
        assert_eq!(standing(&world, conversation).await, [25, 30, 6, 24, 31]);
        keep(&world, conversation, "keep_messages = NULL, keep_days = NULL").await;
        assert_eq!(purge_all(&world.sql).await, 0);
        let row = "SELECT message_count * 1000 + last_seq FROM conversations WHERE keep_days IS NULL AND purged_n > 0";
        assert_eq!(world.count(row).await, 30_031);
        assert_eq!(standing(&world, other).await, [1, 30, 30, 0, 0]);
        assert_eq!(client.say(conversation, "x").await["seq"], 32);
    }
}

#[tokio::test]
async fn nothing_of_what_was_purged_is_left_anywhere() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let import = format!(
        r#"SELECT * FROM arcyou_import('{conversation}', '[{{"id": "secret name", "sender_id": "{alice}", "created_at": "2020-01-01T00:00:00Z", "body": {{"text": "secret"}}}}]')"#
    );
    world.sql.batch_execute(&import).await.unwrap();
    let mut client = Client::authenticated(gateway.port, alice).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = client.say(conversation, "secret").await["message_id"].clone();
        client.ok(about("edit", conversation, &id)).await;
        client.ok(about("react", conversation, &id)).await;
        ids.push(id.as_i64().unwrap());
    }
    for id in &ids {
        let hold = "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason, edits, edits_version)
            VALUES ($1, $2, '{\"text\": \"secret\"}', 'x', 'secret', $3, 2)";
        world.sql.execute(hold, &[&conversation, &alice, id]).await.unwrap();
        let noted = "INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, sha256, reason, message_id)
            VALUES ($1, $2, 'replaced', 'x', 'y', 'secret', $3)";
        world.sql.execute(noted, &[&conversation, &alice, id]).await.unwrap();
    }
    let mut reply =
        json!({"op": "send", "conversation_id": conversation, "body": {"text": "kept"}, "reply_to": ids[2]});
    client.ok(reply.clone()).await;
    relayed(&world).await;
    // Somebody holds a row that tells of one of them.
    let holder = world.connect().await;
    holder.batch_execute("BEGIN; SELECT FROM outbox WHERE seq = 2 FOR UPDATE").await.unwrap();
    keep(&world, conversation, "keep_messages = 1").await;
    assert_eq!(purge_all(&world.sql).await, 4);
    assert_eq!(world.count("SELECT count(*) FROM outbox_corrections").await, 1);
    holder.batch_execute("COMMIT").await.unwrap();
    world.sql.batch_execute("SELECT mark_outbox('{}')").await.unwrap();
    let anywhere = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'
        AND query_to_xml(format('SELECT * FROM %I', tablename), false, false, '')::text LIKE '%secret%'";
    assert_eq!(world.count(anywhere).await, 0);
    for table in ["message_changes", "message_reactions", "held_messages", "imported_messages", "outbox_corrections"] {
        assert_eq!(world.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    // The reply still says to what; nobody replies to it, changes it or finds it any more.
    let page = client.ok(json!({"op": "history", "conversation_id": conversation})).await;
    assert_eq!((&page["messages"][0]["reply_to"], &page["has_more"]), (&json!(ids[2]), &json!(false)), "{page}");
    reply["body"]["text"] = json!("again");
    assert_eq!(client.code(reply).await, "unknown_message");
    for op in ["edit", "delete", "react"] {
        assert_eq!(client.code(about(op, conversation, &json!(ids[2]))).await, "unknown_message");
    }
}

#[tokio::test]
async fn who_was_away_resumes_above_the_mark_and_begins_anew_below() {
    let world = World::new().await;
    let (gateway, worker) = (world.gateway().await, world.worker().await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut live = Client::joined(gateway.port, alice, conversation).await;
    let mut sender = Client::authenticated(gateway.port, alice).await;
    keep(&world, conversation, "keep_messages = 5").await;
    let mut ids = vec![json!(0)];
    let keyed = |n: i64| json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}, "idempotency_key": n.to_string()});
    for n in 1..=40 {
        ids.push(sender.ok(keyed(n)).await["message_id"].clone());
        keep(&world, conversation, "purge_at = DEFAULT").await;
        purge(&world.sql, 500).await;
    }
    // Whoever listens hears everything once, in order, whatever goes meanwhile.
    for seq in 1..=40 {
        assert_eq!(live.message().await.1, seq);
    }
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    keep(&world, conversation, "purge_at = DEFAULT").await;
    purge_all(&world.sql).await;
    assert_eq!(standing(&world, conversation).await, [36, 40, 5, 35, 35]);
    let mut away = Client::authenticated(gateway.port, alice).await;
    let mut join = async |what: &str, place: Value| {
        let mut request = json!({"op": "join", "conversation_id": conversation});
        request[what] = place;
        away.ok(request).await["resumed"].clone()
    };
    assert_eq!(join("after_seq", json!(34)).await, false);
    assert_eq!(join("after_seq", json!(0)).await, false);
    assert_eq!(join("after_id", ids[20].clone()).await, false);
    assert_eq!(join("after_id", ids[36].clone()).await, true);
    for seq in 37..=40 {
        assert_eq!(away.message().await.1, seq);
    }
    let rejoin = json!({"op": "join", "conversation_id": conversation, "after_seq": 35});
    assert_eq!(away.ok(rejoin).await["resumed"], true);
    assert_eq!(away.message().await.1, 36);
    // Pages end where messages do, on both sides of a place.
    let around = json!({"op": "history", "conversation_id": conversation, "around_seq": 36, "limit": 1});
    assert_eq!(sender.ok(around).await["has_more_before"], false);
    let around = json!({"op": "history", "conversation_id": conversation, "around_seq": 37, "limit": 1});
    assert_eq!(sender.ok(around).await["has_more_before"], true);
    let page = json!({"op": "history", "conversation_id": conversation, "before_seq": 39, "limit": 3});
    assert_eq!(sender.ok(page).await["has_more"], false);
    // Read marks are places, and a key is forgotten with its message.
    let ack = json!({"op": "ack", "conversation_id": conversation, "last_read_id": ids[20]});
    assert_eq!(sender.ok(ack).await["last_read_id"], ids[20]);
    assert_eq!(sender.ok(keyed(39)).await["duplicate"], true);
    assert_eq!(sender.ok(keyed(3)).await["seq"], 41);
    worker.stop().await;
}

#[tokio::test]
async fn a_room_that_missed_what_was_purged_goes_on_and_its_members_begin_anew() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut behind = Client::joined(gateway.port, alice, conversation).await;
    let mut sender = Client::authenticated(gateway.port, alice).await;
    // They were published, and Redis lost them.
    let send = "SELECT arcyou_send($1, $2, '{\"text\": \"x\"}') FROM generate_series(1, 10)";
    world.sql.query(send, &[&conversation, &alice]).await.unwrap();
    relayed(&world).await;
    keep(&world, conversation, "keep_messages = 3").await;
    assert_eq!(purge_all(&world.sql).await, 7);
    let mut level = Client::joined(gateway.port, bob, conversation).await;
    let _worker = world.worker().await;
    sender.say(conversation, "eleven").await;
    assert_eq!(level.message().await, ("eleven".to_owned(), 11));
    assert_eq!(behind.closed().await, Some(4001));
    let mut back = Client::authenticated(gateway.port, alice).await;
    let join = json!({"op": "join", "conversation_id": conversation, "after_seq": 0});
    assert_eq!(back.ok(join).await["resumed"], false);
    sender.say(conversation, "twelve").await;
    for client in [&mut back, &mut level] {
        assert_eq!(client.message().await, ("twelve".to_owned(), 12));
    }
}

#[tokio::test]
async fn workers_purge_side_by_side_and_services_say_what_is_kept() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let worker = world.login(Some("arcyou_worker")).await.connect().await;
    let alice = Uuid::new_v4();
    let mut client = Client::authenticated(gateway.port, alice).await;
    for _ in 0..4 {
        let conversation = world.conversation(&[alice]).await;
        for _ in 0..20 {
            client.say(conversation, "x").await;
        }
    }
    relayed(&world).await;
    service.batch_execute("UPDATE public.conversations SET keep_messages = 2").await.unwrap();
    let refused = service.batch_execute("SELECT FROM public.purge_messages(10)").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    for wrong in ["keep_messages = 0", "keep_days = 0", "keep_days = 36501"] {
        let refused = service.batch_execute(&format!("UPDATE public.conversations SET {wrong}")).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::CHECK_VIOLATION));
    }
    // A sender who holds a conversation is left alone, and holds nobody else up.
    let holder = world.connect().await;
    holder.batch_execute("BEGIN; SELECT FROM conversations ORDER BY id LIMIT 1 FOR NO KEY UPDATE").await.unwrap();
    let (one, other) = tokio::join!(async { purge(&worker, 7).await.0 + purge(&worker, 7).await.0 }, async {
        purge(&world.sql, 7).await.0 + purge(&world.sql, 7).await.0
    });
    assert_eq!(one + other, 28);
    while purge(&worker, 500).await.0 > 0 {}
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 3 * 2 + 20);
    holder.batch_execute("COMMIT").await.unwrap();
    // A worker does it of its own accord.
    let _worker = world.worker().await;
    world.eventually("SELECT count(*) FROM messages", 4 * 2).await;
}
