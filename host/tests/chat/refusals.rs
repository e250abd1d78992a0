//! Every code and every close code of the documented tables, reached from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use arcyou_protocol::{CloseCode, ErrorCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::jwt::{Issuer, now, unsigned};

type Codes = BTreeSet<String>;

async fn member(world: &World) -> (Uuid, Uuid) {
    let user = Uuid::new_v4();
    (user, world.conversation(&[user]).await)
}

/// Sends each frame and collects the codes of the refusals.
async fn codes_of(client: &mut Client, frames: impl IntoIterator<Item = String>) -> Codes {
    let mut codes = Codes::new();
    for frame in frames {
        client.send_text(frame.clone()).await;
        let reply = client.next().await;
        assert_eq!(reply["success"], false, "{frame} → {reply}");
        codes.insert(reply["code"].as_str().unwrap().to_owned());
    }
    codes
}

async fn malformed_frames(world: &World) -> Codes {
    let gateway = world.gateway().await;
    let (user, conversation) = member(world).await;
    let mut client = Client::connect(gateway.port).await;
    // What killed the system before this one, before and after `auth`.
    let fatal = || ["null", "", "[]", "7", r#"{"op":"join","conversation_id":"conv"}"#].map(str::to_owned);
    let mut codes = codes_of(&mut client, fatal()).await;
    codes.extend(codes_of(&mut client, [json!({"op": "join", "conversation_id": conversation}).to_string()]).await);
    client.ok(json!({"op": "auth", "token": user})).await;
    codes.extend(codes_of(&mut client, fatal()).await);
    let body = |body: &str| format!(r#"{{"op":"send","conversation_id":"{conversation}","body":{body}}}"#);
    let frames = [
        r#"{"op":"fly"}"#.to_owned(),
        r#"{"op":"auth"}"#.to_owned(),
        r#"{"op":"auth","token":"me"}"#.to_owned(),
        json!({"op": "auth", "token": Uuid::new_v4()}).to_string(),
        json!({"op": "leave", "conversation_id": conversation}).to_string(),
        json!({"op": "ack", "conversation_id": conversation, "last_read_id": 99}).to_string(),
        json!({"op": "join", "conversation_id": Uuid::new_v4()}).to_string(),
        json!({"op": "send", "conversation_id": Uuid::new_v4(), "body": {}}).to_string(),
        body(&format!(r#"{{"text":"{}"}}"#, "x".repeat(40_000))),
        body(&format!(r#"{{"a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000))),
        body(r#"{"a":1,"a":2}"#),
        body(r#"{"a":1e131000}"#),
        body(r#"{"a":"\u0000"}"#),
        body(r#"{"a":"\ud800"}"#),
    ];
    codes.extend(codes_of(&mut client, frames).await);
    client.send_message(Message::binary(vec![1, 2, 3])).await;
    codes.insert(client.next().await["code"].as_str().unwrap().to_owned());
    // After all of that the socket still works.
    assert_eq!(client.say(conversation, "still here").await["seq"], 1);
    codes
}

async fn limits(world: &World) -> Codes {
    let gateway = world.gateway_with(&[("MAX_JOINED", "1")]).await;
    let (user, conversation) = member(world).await;
    let other = world.conversation(&[user]).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let join = |conversation: Uuid| json!({"op": "join", "conversation_id": conversation});
    let mut codes = Codes::from([client.code(join(other)).await]);
    client.ok(json!({"op": "leave", "conversation_id": conversation})).await;
    client.ok(join(other)).await;
    let slow = world.gateway_with(&[("RATE_LIMIT_PER_SECOND", "1"), ("RATE_LIMIT_BURST", "1")]).await;
    let mut client = Client::authenticated(slow.port, user).await;
    client.send_text(r#"{"op":"leave"}"#).await;
    client.send_text(r#"{"op":"leave","ref":"fast"}"#).await;
    client.next().await;
    let refused = client.next().await;
    assert_eq!(refused["ref"], "fast");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|wait| (1..=1000).contains(&wait)), "{refused}");
    codes.insert(refused["code"].as_str().unwrap().to_owned());
    codes
}

async fn tokens(world: &World) -> Codes {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let variables = [("JWT_PUBLIC_KEY", issuer.public.as_str()), ("JWT_ISSUER", "us"), ("JWT_AUDIENCE", "chat")];
    let gateway = world.gateway_with(&variables).await;
    let (user, conversation) = member(world).await;
    let good = json!({"sub": user, "exp": now() + 3600.0, "iss": "us", "aud": "chat"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.sign(&claims)
    };
    let bad = [
        user.to_string(),
        unsigned(&good),
        issuer.sign_hs256(&good),
        stranger.sign(&good),
        with("exp", json!(now() - 60.0)),
        with("exp", Value::Null),
        with("nbf", json!(now() + 3600.0)),
        with("iss", json!("them")),
        with("aud", json!("mail")),
        with("sub", json!("root")),
    ];
    let mut codes = Codes::new();
    for token in bad {
        let mut client = Client::connect(gateway.port).await;
        codes.extend(codes_of(&mut client, [json!({"op": "auth", "token": token}).to_string()]).await);
    }
    let mut client = Client::connect(gateway.port).await;
    client.ok(json!({"op": "auth", "token": issuer.sign(&good)})).await;
    let someone_else = json!({"op": "auth", "token": with("sub", json!(Uuid::new_v4()))});
    codes.insert(client.code(someone_else).await);
    client.say(conversation, "it is me").await;
    codes
}

async fn trouble(world: &World) -> Codes {
    let gateway = world.gateway_with(&[("MAX_SOCKETS_PER_USER", "80")]).await;
    let (user, conversation) = member(world).await;
    let (other, working) = member(world).await;
    let holder = world.connect().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", &[&conversation]).await.unwrap();
    // More than one lane keeps for a conversation that is locked elsewhere.
    let mut clients = Vec::new();
    for _ in 0..80 {
        clients.push(Client::authenticated(gateway.port, user).await);
    }
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}});
    for client in &mut clients {
        for _ in 0..64 {
            client.send_text(send.to_string()).await;
        }
    }
    let mut codes = Codes::new();
    for client in &mut clients {
        for _ in 0..64 {
            codes.insert(client.next().await["code"].as_str().unwrap().to_owned());
        }
    }
    holder.batch_execute("COMMIT").await.unwrap();
    world.sql.batch_execute("ALTER TABLE messages RENAME TO elsewhere").await.unwrap();
    let mut client = Client::authenticated(gateway.port, other).await;
    codes.insert(client.code(json!({"op": "send", "conversation_id": working, "body": {"text": "x"}})).await);
    world.sql.batch_execute("ALTER TABLE elsewhere RENAME TO messages").await.unwrap();
    codes
}

async fn sockets(world: &World) -> (Codes, BTreeSet<u16>) {
    let mut codes = Codes::new();
    let mut closes = BTreeSet::new();
    let gateway = world.gateway_with(&[("AUTH_SECONDS", "1")]).await;
    let mut client = Client::connect(gateway.port).await;
    codes.insert(client.next().await["code"].as_str().unwrap().to_owned());
    closes.extend(client.closed().await);

    let gateway = world.gateway().await;
    let text = |bytes: &'static [u8]| Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true));
    for message in [text(b"{\"op\":\"\xff\"}"), Message::text("x".repeat(70_000))] {
        let mut client = Client::connect(gateway.port).await;
        client.send_message(message).await;
        codes.insert(client.next().await["code"].as_str().unwrap().to_owned());
        closes.extend(client.closed().await);
    }
    let mut client = Client::connect(gateway.port).await;
    client.send_message(Message::Frame(Frame::message(&b"x"[..], OpCode::Data(Data::Reserved(3)), true))).await;
    closes.extend(client.closed().await);

    let flooded = world.gateway_with(&[("RATE_LIMIT_PER_SECOND", "1"), ("RATE_LIMIT_BURST", "1")]).await;
    let mut client = Client::connect(flooded.port).await;
    for _ in 0..1010 {
        client.send_text("{}").await;
    }
    closes.extend(client.closed().await);

    let crowded = world.gateway_with(&[("MAX_SOCKETS_PER_USER", "1")]).await;
    let user = Uuid::new_v4();
    let _first = Client::authenticated(crowded.port, user).await;
    let mut client = Client::connect(crowded.port).await;
    codes.insert(client.code(json!({"op": "auth", "token": user})).await);
    closes.extend(client.closed().await);

    let silent = world.gateway_with(&[("PING_SECONDS", "1")]).await;
    let mut client = Client::connect(silent.port).await;
    // Reading would answer the ping.
    tokio::time::sleep(Duration::from_secs(4)).await;
    closes.extend(client.closed().await);

    // A resume that the database breaks off.
    let (user, conversation) = member(world).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    client.say(conversation, "one").await;
    world.sql.batch_execute("ALTER TABLE messages RENAME TO elsewhere").await.unwrap();
    client.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    closes.extend(client.closed().await);
    world.sql.batch_execute("ALTER TABLE elsewhere RENAME TO messages").await.unwrap();

    let mut client = Client::connect(gateway.port).await;
    gateway.begin_stop();
    closes.extend(client.closed().await);
    gateway.stop().await;
    (codes, closes)
}

/// Sockets that end because of what they send, or do not get, in their `auth`.
async fn endings_of_auth(world: &World) -> (Codes, BTreeSet<u16>) {
    let mut codes = Codes::new();
    let full = world.gateway_with(&[("MAX_CONNECTIONS", "1")]).await;
    let mut late = Client::connect(full.port).await;
    let _first = Client::authenticated(full.port, Uuid::new_v4()).await;
    codes.insert(late.code(json!({"op": "auth", "token": Uuid::new_v4()})).await);
    let mut closes: BTreeSet<u16> = late.closed().await.into_iter().collect();
    let gateway = world.gateway().await;
    let mut guessing = Client::connect(gateway.port).await;
    for _ in 0..5 {
        codes.insert(guessing.code(json!({"op": "auth", "token": "guess"})).await);
    }
    closes.extend(guessing.closed().await);
    (codes, closes)
}

/// A token that ends during the session: events stop, and go on with a fresh one; without one the socket is closed.
async fn expiry(world: &World) -> (Codes, BTreeSet<u16>) {
    let issuer = Issuer::new();
    let variables = [("JWT_PUBLIC_KEY", issuer.public.as_str()), ("AUTH_SECONDS", "3")];
    let gateway = world.gateway_with(&variables).await;
    let worker = world.worker().await;
    let (user, conversation) = member(world).await;
    let friend = Uuid::new_v4();
    world.old_participant(conversation, friend).await;
    // Good for so long: a token's `exp` is ten seconds before that.
    let token = |user: Uuid, seconds: f64| issuer.sign(&json!({"userId": user, "exp": now() + seconds - 10.0}));
    let mut client = Client::connect(gateway.port).await;
    client.ok(json!({"op": "auth", "token": token(user, 1.5)})).await;
    client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    let told = client.next().await;
    assert_eq!((&told["op"], &told["success"]), (&json!("auth"), &json!(false)));
    let mut codes = Codes::from([told["code"].as_str().unwrap().to_owned()]);
    let mut other = Client::connect(gateway.port).await;
    other.ok(json!({"op": "auth", "token": token(friend, 3600.0)})).await;
    other.say(conversation, "while you were out").await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "may I?"}});
    codes.insert(client.code(send).await);
    client.ok(json!({"op": "auth", "token": token(user, 2.0)})).await;
    assert_eq!(client.message().await, ("while you were out".to_owned(), 1));
    assert_eq!(client.next().await["code"], "token_expired");
    let closes = client.closed().await.into_iter().collect();
    worker.stop().await;
    (codes, closes)
}

#[tokio::test]
async fn every_code_is_reached() {
    let world = World::new().await;
    let mut reached = Codes::new();
    reached.extend(malformed_frames(&world).await);
    reached.extend(limits(&world).await);
    reached.extend(tokens(&world).await);
    reached.extend(trouble(&world).await);
    let (codes, closes) = sockets(&world).await;
    reached.extend(codes);
    let mut closed = closes;
    let (codes, closes) = endings_of_auth(&world).await;
    reached.extend(codes);
    closed.extend(closes);
    let (codes, closes) = expiry(&world).await;
    reached.extend(codes);
    closed.extend(closes);
    // Reached where their causes are made: see `storage` and `changes` beside this file, and the plugins' tests.
    reached.extend(["outcome_unknown", "rejected", "plugin_failed"].map(str::to_owned));
    // See the tests of `identity`.
    reached.extend(["token_key_unknown", "keys_unavailable", "token_revoked"].map(str::to_owned));
    closed.insert(CloseCode::Disconnected.value());
    let of_changes = [
        "message_deleted",
        "not_author",
        "edit_too_late",
        "version_conflict",
        "too_many_reactions",
        "conversation_read_only",
        "blocked",
        "key_reused",
    ];
    reached.extend(of_changes.map(str::to_owned));
    let documented: Codes = ErrorCode::ALL.iter().map(|code| code.value().to_owned()).collect();
    assert_eq!(reached, documented);
    // See `slow_readers`.
    closed.insert(CloseCode::SlowConsumer.value());
    let documented: BTreeSet<u16> = CloseCode::ALL.iter().map(|code| code.value()).collect();
    assert_eq!(closed, documented);
}

#[test]
fn the_documentation_has_every_code() {
    let page = include_str!("../../../docs/protocol.md");
    let rows = ErrorCode::ALL.iter().map(|code| format!("| `{}` |{} |", code.value(), code.meaning()));
    let closes = CloseCode::ALL.iter().map(|code| format!("| {} |{} |", code.value(), code.meaning()));
    let missing: Vec<String> = rows.chain(closes).filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "put these rows into the tables of docs/protocol.md:\n{}", missing.join("\n"));
}

/// What was refused does not happen later.
#[tokio::test]
async fn a_read_mark_that_somebody_holds_is_given_up() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let id = client.say(conversation, "one").await["message_id"].clone();
    let holder = world.connect().await;
    holder.batch_execute("BEGIN; SELECT FROM participants FOR UPDATE").await.unwrap();
    let ack = json!({"op": "ack", "conversation_id": conversation, "last_read_id": id});
    assert_eq!(client.code(ack.clone()).await, "unavailable");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(world.count("SELECT last_read_id FROM participants").await, 0);
    assert_eq!(client.ok(ack).await["last_read_id"], id);
}
