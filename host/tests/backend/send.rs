//! `arcyou_send`: what it stores, what it refuses, and who may call it.

use serde_json::json;
use tokio_postgres::Client as Sql;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::state;
use crate::support::World;
use crate::support::client::Client;

/// A service with the rights of its group role and nothing in its search_path.
pub async fn service(world: &World) -> Sql {
    world.grant_rights().await;
    let sql = world.login(Some("arcyou_service")).await.connect().await;
    sql.batch_execute("SET search_path = ''").await.unwrap();
    sql
}

const SEND: &str = "SELECT message_id, seq, created_at::text, duplicate, held_id FROM public.arcyou_send($1, $2, $3::text::jsonb, $4, $5)";

/// A message as the function answers it.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    pub message_id: Option<i64>,
    pub seq: Option<i64>,
    pub duplicate: bool,
    pub held_id: Option<i64>,
}

pub struct Order<'m> {
    pub conversation: Uuid,
    pub sender: Uuid,
    pub body: &'m str,
    pub key: Option<&'m str>,
    pub reply_to: Option<i64>,
}

impl<'m> Order<'m> {
    pub fn of(conversation: Uuid, sender: Uuid, body: &'m str) -> Self {
        Self { conversation, sender, body, key: None, reply_to: None }
    }
}

pub async fn send(sql: &Sql, order: &Order<'_>) -> Result<Sent, tokio_postgres::Error> {
    let Order { conversation, sender, body, key, reply_to } = order;
    let row = sql.query_one(SEND, &[conversation, sender, body, key, reply_to]).await?;
    Ok(Sent { message_id: row.get(0), seq: row.get(1), duplicate: row.get(3), held_id: row.get(4) })
}

const HELLO: &str = r#"{"text": "hello"}"#;

/// Everything about the first message, but for its id and its times.
async fn stored(world: &World) -> [String; 3] {
    let query = "SELECT (to_jsonb(m) - '{id,created_at,outbox_id}'::text[])::text,
            ((o.payload #- '{message,id}') #- '{message,created_at}')::text,
            concat_ws(' ', o.type, o.seq, o.internal, o.processed, o.payload #> '{message,id}' = to_jsonb(m.id), c.last_seq,
                c.message_count, c.last_message_id = m.id, c.last_message_at = m.created_at)
        FROM messages m JOIN conversations c ON c.id = m.conversation_id JOIN outbox o ON o.id = m.outbox_id
        WHERE m.seq = 1";
    let row = world.sql.query_one(query, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

#[tokio::test]
async fn it_is_stored_as_a_gateway_stores_it() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    Client::authenticated(gateway.port, alice).await.say(conversation, "hello").await;
    let by_gateway = stored(&world).await;
    world
        .sql
        .batch_execute(
            "DELETE FROM messages; DELETE FROM outbox; UPDATE conversations SET last_seq = 0, message_count = 0",
        )
        .await
        .unwrap();
    let sent = send(&service, &Order::of(conversation, alice, HELLO)).await.unwrap();
    assert_eq!((sent.seq, sent.duplicate, sent.held_id), (Some(1), false, None));
    assert_eq!(stored(&world).await, by_gateway);
}

#[tokio::test]
async fn it_is_committed_and_rolled_back_with_the_business_rows_and_told_like_any_other() {
    let world = World::new().await;
    let (gateway, _worker, service) = (world.gateway().await, world.worker().await, service(&world).await);
    world.sql.batch_execute("CREATE TABLE orders (text text); GRANT ALL ON orders TO arcyou_service").await.unwrap();
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut client = Client::joined(gateway.port, bob, conversation).await;
    for (text, end) in [("lost", "ROLLBACK"), ("one", "COMMIT"), ("lost too", "ROLLBACK"), ("two", "COMMIT")] {
        service.batch_execute("BEGIN; INSERT INTO public.orders VALUES ('x')").await.unwrap();
        let body = json!({ "text": text }).to_string();
        send(&service, &Order::of(conversation, alice, &body)).await.unwrap();
        service.batch_execute(end).await.unwrap();
    }
    assert_eq!(client.message().await, ("one".to_owned(), 1));
    assert_eq!(client.message().await, ("two".to_owned(), 2));
    assert_eq!(world.count("SELECT count(*) FROM orders").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
    // Sockets and services share the sequence.
    assert_eq!(client.say(conversation, "three").await["seq"], 3);
    client.event().await;
    let page = client.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 0})).await;
    let numbers: Vec<(i64, i64)> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["seq"].as_i64().unwrap(), message["n"].as_i64().unwrap()))
        .collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn a_conversation_a_participant_and_a_message_can_be_made_in_one_transaction() {
    let world = World::new().await;
    let service = service(&world).await;
    service.batch_execute("BEGIN").await.unwrap();
    let conversation: Uuid =
        service.query_one("INSERT INTO public.conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap().get(0);
    let user = Uuid::new_v4();
    let add = "INSERT INTO public.participants (conversation_id, user_id) VALUES ($1, $2)";
    service.execute(add, &[&conversation, &user]).await.unwrap();
    let first = send(&service, &Order::of(conversation, user, HELLO)).await.unwrap();
    let reply = Order { reply_to: first.message_id, ..Order::of(conversation, user, HELLO) };
    assert_eq!(send(&service, &reply).await.unwrap().seq, Some(2));
    service.batch_execute("COMMIT").await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE reply_to IS NOT NULL").await, 1);
}

#[tokio::test]
async fn a_key_stores_once_whoever_uses_it_first() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let keyed = Order { key: Some("k"), ..Order::of(conversation, alice, HELLO) };
    let first = send(&service, &keyed).await.unwrap();
    let again = send(&service, &keyed).await.unwrap();
    assert_eq!(again, Sent { duplicate: true, ..first });
    let mut client = Client::authenticated(gateway.port, alice).await;
    let same = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}, "idempotency_key": "k"});
    let reply = client.ok(same).await;
    assert_eq!((&reply["message_id"], &reply["duplicate"]), (&json!(again.message_id), &json!(true)));
    assert!(!send(&service, &Order { sender: bob, ..keyed }).await.unwrap().duplicate, "another sender's key");
    // What a plugin holds of a client is known too.
    let hold = "INSERT INTO held_messages (conversation_id, sender_id, body, idempotency_key, held_by, reason)
        VALUES ($1, $2, '{}', 'held', 'x', 'y') RETURNING id";
    let held: i64 = world.sql.query_one(hold, &[&conversation, &alice]).await.unwrap().get(0);
    let sent = send(&service, &Order { key: Some("held"), ..Order::of(conversation, alice, HELLO) }).await.unwrap();
    assert_eq!(sent, Sent { message_id: None, seq: None, duplicate: true, held_id: Some(held) });
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

#[tokio::test]
async fn each_refusal_has_its_sqlstate_and_says_what_to_do() {
    let world = World::new().await;
    let service = service(&world).await;
    let [alice, stranger] = [Uuid::new_v4(), Uuid::new_v4()];
    let (conversation, other) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    let elsewhere = send(&service, &Order::of(other, alice, HELLO)).await.unwrap().message_id;
    let deleted = send(&service, &Order::of(conversation, alice, HELLO)).await.unwrap().message_id;
    world.sql.execute("UPDATE messages SET body = NULL, deleted_at = now() WHERE id = $1", &[&deleted]).await.unwrap();
    let long_key = "k".repeat(129);
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let bodies = [
        "[1]".to_owned(),
        "null".to_owned(),
        r#""text""#.to_owned(),
        json!({"text": "x".repeat(32768)}).to_string(),
        nested(33),
        r#"{"n": 2e308}"#.to_owned(),
        r#"{"n": -1e-400}"#.to_owned(),
        format!(r#"{{"n": [0, {{"m": {}}}]}}"#, "1".repeat(1101)),
    ];
    let message = || Order::of(conversation, alice, HELLO);
    let mut refused = vec![
        ("YC001", Order { conversation: Uuid::new_v4(), ..message() }),
        ("YC002", Order { sender: stranger, ..message() }),
        ("YC003", Order { reply_to: Some(987_654), ..message() }),
        ("YC003", Order { reply_to: elsewhere, ..message() }),
        ("YC004", Order { reply_to: deleted, ..message() }),
        ("YC006", Order { key: Some(""), ..message() }),
        ("YC006", Order { key: Some(&long_key), ..message() }),
    ];
    refused.extend(bodies.iter().map(|body| ("YC005", Order { body, ..message() })));
    for (expected, order) in &refused {
        let error = send(&service, order).await.unwrap_err();
        assert_eq!(state(&error), *expected, "{error:?}");
    }
    let documented = include_str!("../../../docs/backend.md");
    for (state, _) in &refused {
        assert!(documented.contains(&format!("| `{state}` |")), "{state} is not documented");
    }
    let accepted = [
        nested(32),
        r#"{"n": [1.7e308, -1e-5, {"m": 12345678901234567890}]}"#.to_owned(),
        "{}".to_owned(),
        json!({"text": "x".repeat(32700)}).to_string(),
    ];
    for body in &accepted {
        send(&service, &Order { body, ..message() }).await.unwrap();
    }
    // A deployer who lets clients write more lets services write more.
    service.batch_execute("SET arcyou.max_body_bytes = 100000").await.unwrap();
    send(&service, &Order { body: &bodies[3], ..message() }).await.unwrap();
}

#[tokio::test]
async fn a_right_on_the_function_is_enough_and_nobody_else_has_it() {
    let world = World::new().await;
    world.grant_rights().await;
    let [alice, conversation] = [Uuid::new_v4(), Uuid::new_v4()];
    world.sql.execute("INSERT INTO conversations (id) VALUES ($1)", &[&conversation]).await.unwrap();
    world.old_participant(conversation, alice).await;
    let login = world.login(None).await;
    let sql = login.connect().await;
    for call in ["arcyou_send($1, $2, '{}')", "arcyou_import($1, jsonb_build_array($2))"] {
        let call_it = format!("SELECT public.{call} FROM (VALUES ($1::uuid, $2::uuid)) v");
        let error = sql.query(&call_it, &[&conversation, &alice]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{call}");
    }
    let grant = format!("GRANT EXECUTE ON FUNCTION arcyou_send TO {}", login.name);
    world.sql.batch_execute(&grant).await.unwrap();
    // Nothing of the caller's own is taken for ours.
    sql.batch_execute(
        "CREATE TEMPORARY TABLE conversations (id uuid); CREATE TEMPORARY TABLE messages (id bigserial);
         CREATE FUNCTION pg_temp.body_fault(jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
         SET search_path = pg_temp, public",
    )
    .await
    .unwrap();
    let sent = send(&sql, &Order::of(conversation, alice, HELLO)).await.unwrap();
    assert_eq!(sent.seq, Some(1));
    assert_eq!(state(&send(&sql, &Order::of(conversation, alice, "[]")).await.unwrap_err()), "YC005");
    assert_eq!(world.count("SELECT count(*) FROM public.messages").await, 1);
    for table in ["conversations", "messages", "outbox", "imported_messages"] {
        let read = sql.batch_execute(&format!("SELECT FROM public.{table}")).await.unwrap_err();
        assert_eq!(read.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{table}");
    }
    let service = world.login(Some("arcyou_service")).await.connect().await;
    let import = service.query("SELECT arcyou_import($1, '[]')", &[&conversation]).await.unwrap_err();
    assert_eq!(import.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "an operator decides who may write history");
}

#[tokio::test]
async fn it_works_in_another_schema_and_on_partitions() {
    let world = World::bare("UTF8").await;
    world.sql.batch_execute("CREATE SCHEMA \"the chat\"; SET search_path = \"the chat\"").await.unwrap();
    arcyou_gateway::migrate::migrate(&world.sql).await.unwrap();
    let sql = world.connect().await;
    sql.batch_execute("SET search_path = \"the chat\"; SET arcyou.partitions = 3").await.unwrap();
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    sql.batch_execute("SET search_path = ''").await.unwrap();
    let call = format!("SELECT seq FROM \"the chat\".arcyou_send('{conversation}', '{alice}', '{{}}')");
    assert_eq!(sql.query_one(&call, &[]).await.unwrap().get::<_, i64>(0), 1);
    sql.batch_execute("SET search_path = \"the chat\"").await.unwrap();
    sql.batch_execute(include_str!("../../../migrations/partition_messages.sql")).await.unwrap();
    assert_eq!(sql.query_one(&call, &[]).await.unwrap().get::<_, i64>(0), 2);
}
