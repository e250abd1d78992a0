//! A few messages take another way into the database than a large batch, and come to the same.

use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

const ALICE: &str = "'00000000-0000-0000-0000-00000000000a'";
const BOB: &str = "'00000000-0000-0000-0000-00000000000b'";
const BOB_SPOKE: &str = "SELECT FROM arcyou_send({room}, '00000000-0000-0000-0000-00000000000b', '{}', 'k')";
const ALICE_IS_BLOCKED: &str = "INSERT INTO user_blocks (user_id, blocked_id)
    VALUES ('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000a')";
const LAST: &str = "(SELECT last_message_id FROM conversations WHERE id = {room})";

/// A message, by the parameters of the statements, and what is to become of it. `{room}` stands for its conversation.
struct Case {
    status: &'static str,
    /// What happened in the conversation of Alice and Bob.
    before: &'static str,
    sender: &'static str,
    reply_to: &'static str,
    key: &'static str,
    annotations: &'static str,
    decider: &'static str,
}

const PLAIN: Case = Case {
    status: "stored",
    before: BOB_SPOKE,
    sender: ALICE,
    reply_to: "NULL",
    key: "NULL",
    annotations: "NULL",
    decider: "NULL",
};

const CASES: &[Case] = &[
    Case { before: "", ..PLAIN },
    Case { key: "'k'", ..PLAIN },
    Case { annotations: "'{\"tag\": 1}'", decider: "'a-plugin'", ..PLAIN },
    Case { reply_to: LAST, ..PLAIN },
    Case { before: "UPDATE conversations SET last_message_at = '2500-01-01' WHERE id = {room}", ..PLAIN },
    Case { status: "stored before", sender: BOB, key: "'k'", ..PLAIN },
    Case {
        status: "held before",
        before: "INSERT INTO held_messages (conversation_id, sender_id, body, idempotency_key, held_by, reason)
            SELECT conversation_id, user_id, '{}', 'k', 'p', 'r' FROM participants WHERE conversation_id = {room}",
        key: "'k'",
        ..PLAIN
    },
    Case { status: "forbidden", sender: "gen_random_uuid()", ..PLAIN },
    Case { status: "forbidden", before: "DELETE FROM conversations WHERE id = {room}", ..PLAIN },
    Case { status: "read only", before: "UPDATE conversations SET read_only = true WHERE id = {room}", ..PLAIN },
    Case { status: "blocked", before: ALICE_IS_BLOCKED, ..PLAIN },
    Case { before: ALICE_IS_BLOCKED, sender: BOB, ..PLAIN },
    Case {
        before: "INSERT INTO user_blocks SELECT user_id, '00000000-0000-0000-0000-00000000000a' FROM participants
                WHERE conversation_id = {room} AND user_id <> '00000000-0000-0000-0000-00000000000a';
            INSERT INTO participants (conversation_id, user_id) VALUES ({room}, gen_random_uuid())",
        ..PLAIN
    },
    Case { status: "unknown message", reply_to: "7777777", ..PLAIN },
    Case {
        status: "deleted message",
        before: "SELECT FROM arcyou_send({room}, '00000000-0000-0000-0000-00000000000b', '{}');
            UPDATE messages SET body = NULL, deleted_at = '2025-01-01' WHERE conversation_id = {room}",
        reply_to: LAST,
        ..PLAIN
    },
];

/// As `status`, `seq` and what the event tells.
fn alone(case: &Case, body: &str) -> String {
    let Case { sender, reply_to, key, annotations, decider, .. } = case;
    format!(
        "SELECT a[1] AS status, a[3] AS seq, a[6]::jsonb AS payload FROM (SELECT store_message({{room}}, {sender}, '{body}',
            {reply_to}, {key}, {annotations}, {decider}, 0.5) AS a) answer"
    )
}

fn in_a_batch(case: &Case, body: &str) -> String {
    let Case { sender, reply_to, key, annotations, decider, .. } = case;
    format!(
        "SELECT status, seq::text AS seq, payload::jsonb AS payload FROM store_messages(ARRAY[{{room}}::uuid],
            ARRAY[{sender}::uuid], ARRAY['{body}'], ARRAY[{reply_to}::bigint], ARRAY[{key}], ARRAY[{annotations}],
            ARRAY[{decider}], '{{NULL}}', false, NULL, NULL, 0.5)"
    )
}

/// The answer, and what the tables have of the conversation then, without ids and times.
async fn told(world: &World, room: Uuid, call: &str) -> Value {
    let query = format!(
        "SELECT jsonb_build_object('status', status, 'seq', seq, 'payload', payload)::text FROM ({}) answer",
        within(room, call)
    );
    let answer: String = world.sql.query_one(&query, &[]).await.unwrap().get(0);
    let state = "SELECT jsonb_build_object(
        'messages', (SELECT jsonb_agg(to_jsonb(m) || jsonb_build_object('is_now', m.created_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute',
            'replies', m.reply_to IS NOT NULL, 'told_by', o.payload, 'told', o.type, 'as', o.seq, 'internal', o.internal,
            'left', o.relay_after > o.created_at) ORDER BY m.seq)
            FROM messages m LEFT JOIN outbox o ON o.id = m.outbox_id WHERE m.conversation_id = {room}),
        'room', (SELECT to_jsonb(c) || jsonb_build_object('is_last', c.last_message_id = (SELECT max(id) FROM messages WHERE conversation_id = {room}))
            FROM conversations c WHERE c.id = {room}))::text";
    let state: String = world.sql.query_one(&within(room, state), &[]).await.unwrap().get(0);
    let mut told = Value::Array(vec![serde_json::from_str(&answer).unwrap(), serde_json::from_str(&state).unwrap()]);
    forget(&mut told);
    told
}

/// Takes out what is never the same twice.
fn forget(value: &mut Value) {
    const OWN: [&str; 8] = [
        "id",
        "conversation_id",
        "created_at",
        "outbox_id",
        "reply_to",
        "last_message_id",
        "last_message_at",
        "purge_at",
    ];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OWN.contains(&name.as_str()));
            fields.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

fn within(room: Uuid, text: &str) -> String {
    text.replace("{room}", &format!("'{room}'"))
}

async fn room(world: &World, before: &str) -> Uuid {
    let user = |text: &str| text.trim_matches('\'').parse::<Uuid>().unwrap();
    let room = world.conversation(&[user(ALICE), user(BOB)]).await;
    world.sql.batch_execute("DELETE FROM user_blocks").await.unwrap();
    world.sql.batch_execute(&within(room, before)).await.unwrap();
    room
}

#[tokio::test]
async fn it_comes_to_the_same() {
    for world in [World::new().await, World::partitioned().await] {
        for case in CASES {
            let body = r#"{"text": "x", "more": [1, null]}"#;
            let first = room(&world, case.before).await;
            let alone = told(&world, first, &alone(case, body)).await;
            let second = room(&world, case.before).await;
            let in_a_batch = told(&world, second, &in_a_batch(case, body)).await;
            assert_eq!(alone, in_a_batch);
            assert_eq!(alone[0]["status"], case.status, "{alone}");
        }
    }
}

#[tokio::test]
async fn it_fails_in_the_same_way() {
    let world = World::new().await;
    let fails = async |room: Uuid, call: String| {
        let failed = world.sql.query(&within(room, &call), &[]).await.unwrap_err();
        failed.code().cloned().unwrap()
    };
    let room = room(&world, "").await;
    for body in ["{", r#"{"a": "\u0000"}"#] {
        let code = fails(room, in_a_batch(&PLAIN, body)).await;
        assert_eq!(fails(room, alone(&PLAIN, body)).await, code, "{body}");
    }
    let holder = world.connect().await;
    holder.batch_execute(&within(room, "BEGIN; SELECT FROM conversations WHERE id = {room} FOR UPDATE")).await.unwrap();
    for call in [alone(&PLAIN, "{}"), in_a_batch(&PLAIN, "{}")] {
        let answer = world.sql.query_one(&within(room, &call), &[]).await.unwrap();
        assert_eq!(answer.get::<_, &str>("status"), "busy");
    }
    world.sql.batch_execute("SET default_transaction_isolation = 'repeatable read'").await.unwrap();
    for call in [alone(&PLAIN, "{}"), in_a_batch(&PLAIN, "{}")] {
        assert_eq!(fails(room, call).await, SqlState::INAPPROPRIATE_ISOLATION_LEVEL_FOR_BRANCH_TRANSACTION);
    }
}

/// The figures of a quiet time are those of this way.
#[tokio::test]
async fn gateways_take_it_for_up_to_three() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let users = [(); 3].map(|()| Uuid::new_v4());
    let rooms = [world.conversation(&users).await, world.conversation(&users).await];
    world.sql.batch_execute("ALTER FUNCTION store_messages RENAME TO away").await.unwrap();
    let one = Client::authenticated(gateway.port, users[0]).await;
    let two = Client::authenticated(gateway.port, users[1]).await;
    let three = Client::authenticated(gateway.port, users[2]).await;
    // As many as there are writers are in one batch at most.
    let write = async |mut writer: Client, name: usize| {
        for number in 0..100 {
            let text = format!("{name} {number}");
            let stored = writer.say(rooms[(name + number) % 2], &text).await;
            let id = stored["message_id"].as_i64().unwrap();
            let query = "SELECT body->>'text', seq FROM messages WHERE id = $1";
            let row = world.sql.query_one(query, &[&id]).await.unwrap();
            assert_eq!((row.get(0), json!(row.get::<_, i64>(1))), (text, stored["seq"].clone()));
        }
        writer
    };
    let (mut writer, ..) = tokio::join!(write(one, 0), write(two, 1), write(three, 2));
    assert_eq!(world.count("SELECT sum(last_seq)::bigint FROM conversations").await, 300);
    let first = writer.say(rooms[0], "x").await["message_id"].clone();
    let reply =
        json!({"op": "send", "conversation_id": rooms[0], "body": {}, "reply_to": first, "idempotency_key": "k"});
    writer.ok(reply.clone()).await;
    // A repeat is one of those that it leaves to the function that is away.
    assert_eq!(writer.code(reply.clone()).await, "internal");
    world.sql.batch_execute("ALTER FUNCTION away RENAME TO store_messages").await.unwrap();
    assert_eq!(writer.ok(reply).await["duplicate"], true);
}

#[tokio::test]
async fn calls_in_one_statement_see_what_those_before_them_did() {
    let world = World::new().await;
    let room = room(&world, "").await;
    let keyed = Case { key: "'k'", ..PLAIN };
    let call = |case: &Case| {
        format!("({})", alone(case, "{}").replace("AS status, a[3] AS seq, a[6]::jsonb AS payload", "|| ' ' || a[3]"))
    };
    let query = format!("SELECT {}, {}, {}", call(&keyed), call(&keyed), call(&Case { sender: BOB, ..PLAIN }));
    let row = world.sql.query_one(&within(room, &query), &[]).await.unwrap();
    let told: [&str; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(told, ["stored 1", "stored before 1", "stored 2"]);
}
