//! What a socket gets of the messages that it has sent itself.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

fn send(conversation: Uuid, text: &str) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": {"text": text}, "temp_id": format!("t-{text}")})
}

/// What a frame is about: a reply's `temp_id`, or an event's text and `temp_id`.
fn told(frame: &Value) -> String {
    let temp_id = frame["temp_id"].as_str().unwrap_or("none");
    match frame["op"].as_str() {
        Some("send") => format!("reply to {temp_id}"),
        _ => format!("event {} {temp_id}", frame["message"]["body"]["text"].as_str().unwrap()),
    }
}

/// The second send is stored and relayed while the first one waits for a lock, so that neither is answered.
#[tokio::test]
async fn the_reply_to_a_send_comes_before_its_event_however_late_it_is() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let (locked, free) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice, bob]).await);
    let other = world.conversation(&[alice, bob]).await;
    let mut sender = Client::joined(gateway.port, alice, free).await;
    let mut listeners =
        [Client::joined(gateway.port, alice, free).await, Client::joined(gateway.port, bob, free).await];
    for conversation in [locked, other] {
        sender.ok(json!({"op": "join", "conversation_id": conversation})).await;
    }
    let holder = world.connect().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", &[&locked]).await.unwrap();
    sender.send_text(send(locked, "first").to_string()).await;
    sender.send_text(send(free, "second").to_string()).await;
    // Nobody else waits, not even the same user on another socket.
    for listener in &mut listeners {
        assert_eq!(told(&listener.event().await), "event second none");
    }
    // What follows in that conversation waits as well; what is said elsewhere does not.
    let [_, bobs] = &mut listeners;
    bobs.say(free, "third").await;
    bobs.say(other, "elsewhere").await;
    assert_eq!(told(&sender.next().await), "event elsewhere none");
    holder.batch_execute("COMMIT").await.unwrap();
    let mut frames = Vec::new();
    for _ in 0..5 {
        frames.push(told(&sender.next().await));
    }
    let place =
        |frame: &str| frames.iter().position(|told| told == frame).unwrap_or_else(|| panic!("{frame}: {frames:?}"));
    assert!(place("reply to t-first") < place("event first t-first"), "{frames:?}");
    assert!(place("reply to t-first") < place("reply to t-second"), "{frames:?}");
    assert!(place("reply to t-second") < place("event second t-second"), "{frames:?}");
    assert!(place("event second t-second") < place("event third none"), "{frames:?}");
}

#[tokio::test]
async fn a_flood_of_sends_is_answered_before_its_events_and_each_brings_its_temp_id() {
    const MESSAGES: usize = 300;
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut clients = [
        Client::joined(gateway.port, alice, conversation).await,
        Client::joined(gateway.port, bob, conversation).await,
    ];
    for number in 0..MESSAGES {
        for (client, name) in clients.iter_mut().zip(["a", "b"]) {
            client.send_text(send(conversation, &format!("{name}{number}")).to_string()).await;
        }
    }
    for (client, name) in clients.iter_mut().zip(["a", "b"]) {
        let (mut answered, mut seen) = (Vec::new(), 0);
        while seen < 2 * MESSAGES || answered.len() < MESSAGES {
            let frame = client.next().await;
            if frame["op"] == "send" {
                assert_eq!(frame["success"], true, "{frame}");
                answered.push(frame["seq"].clone());
                continue;
            }
            seen += 1;
            assert_eq!(frame["message"]["seq"], seen, "{frame}");
            let text = frame["message"]["body"]["text"].as_str().unwrap();
            if text.starts_with(name) {
                assert!(answered.contains(&frame["message"]["seq"]), "{frame}");
                assert_eq!(frame["temp_id"], format!("t-{text}"));
            } else {
                assert!(frame["temp_id"].is_null(), "{frame}");
            }
        }
    }
}

/// A token that ends while a send is under way: what waits for the reply is neither lost nor shown twice.
#[tokio::test]
async fn what_waits_for_a_reply_when_the_token_ends_comes_once_after_its_renewal() {
    use crate::support::jwt::{Issuer, now};
    let world = World::new().await;
    let issuer = Issuer::new();
    let gateway = world.gateway_with(&[("JWT_PUBLIC_KEY", &issuer.public), ("AUTH_SECONDS", "60")]).await;
    let _worker = world.worker().await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let (locked, free) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice, bob]).await);
    // Good for so long: a token's `exp` is ten seconds before that.
    let token = |user: Uuid, seconds: f64| issuer.sign(&json!({"sub": user, "exp": now() + seconds - 10.0}));
    let [mut sender, mut listener] = [Client::connect(gateway.port).await, Client::connect(gateway.port).await];
    listener.ok(json!({"op": "auth", "token": token(bob, 3600.0)})).await;
    sender.ok(json!({"op": "auth", "token": token(alice, 5.0)})).await;
    for client in [&mut sender, &mut listener] {
        client.ok(json!({"op": "join", "conversation_id": free})).await;
    }
    let holder = world.connect().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", &[&locked]).await.unwrap();
    sender.send_text(send(locked, "first").to_string()).await;
    sender.send_text(send(free, "second").to_string()).await;
    assert_eq!(listener.message().await.0, "second");
    let expired = sender.next().await;
    assert_eq!(expired["code"], "token_expired", "{expired}");
    holder.batch_execute("COMMIT").await.unwrap();
    for temp_id in ["t-first", "t-second"] {
        let frame = sender.next().await;
        assert_eq!((&frame["op"], &frame["temp_id"]), (&json!("send"), &json!(temp_id)), "{frame}");
    }
    sender.ok(json!({"op": "auth", "token": token(alice, 3600.0)})).await;
    assert_eq!(sender.message().await, ("second".to_owned(), 1));
    listener.say(free, "third").await;
    assert_eq!(sender.message().await, ("third".to_owned(), 2));
}
