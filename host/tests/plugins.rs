//! Plugins as clients meet them: built from source, loaded by a real gateway.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use support::World;
use support::client::Client;
use support::plugins::directory;
use uuid::Uuid;

async fn member(world: &World) -> (Uuid, Uuid) {
    let user = Uuid::new_v4();
    (user, world.conversation(&[user]).await)
}

fn send(conversation: Uuid, body: Value) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": "t"})
}

#[tokio::test]
async fn one_message_is_rewritten_and_another_refused() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"body-shape\"\n[[plugin]]\nname = \"word-filter\"\n\
                  [plugin.config]\nmask = [\"badword\", \"나쁜말\"]\nreject = [\"forbidden\"]\n";
    let dir = directory(&["body-shape", "word-filter"], config);
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    client.ok(send(conversation, json!({"text": "What a BadWord, 나쁜말!"}))).await;
    assert_eq!(client.message().await, ("What a *******, ***!".to_owned(), 1));
    let reply = client.request(send(conversation, json!({"text": "this is FORBIDDEN"}))).await;
    assert_eq!(
        (&reply["code"], &reply["plugin"], &reply["temp_id"]),
        (&json!("rejected"), &json!("word-filter"), &json!("t"))
    );
    assert!(reply["reject_code"].is_string() && reply["error"].is_string(), "{reply}");
    let reply = client.request(send(conversation, json!({"words": "no text"}))).await;
    assert_eq!((&reply["code"], &reply["plugin"]), (&json!("rejected"), &json!("body-shape")));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    let decided = world.sql.query_one("SELECT decided_by FROM messages", &[]).await.unwrap();
    assert_eq!(decided.get::<_, Option<String>>(0).as_deref(), Some("word-filter"));
    // A key is looked up before the plugins run: what is stored already is not refused by a new rule.
    let keyed = |text: &str| {
        let mut frame = send(conversation, json!({"text": text}));
        frame["idempotency_key"] = json!("k");
        frame
    };
    let first = client.ok(keyed("fine")).await;
    let again = client.ok(keyed("forbidden")).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
}

/// Every verdict and every misbehaviour, by one plugin that does what the text says.
#[tokio::test]
async fn each_verdict_and_each_failure_is_told_and_harms_one_message() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = 50\nmemory_mib = 8\n";
    let dir = directory(&["misbehaving"], config);
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let mut stored = 0;
    for deed in ["panic", "loop", "memory", "recurse", "replace-garbage", "replace-huge"] {
        let reply = client.request(send(conversation, json!({"filter": deed}))).await;
        assert_eq!(
            (&reply["code"], &reply["plugin"]),
            (&json!("plugin_failed"), &json!("misbehaving")),
            "{deed}: {reply}"
        );
        // The next message is none the worse for it.
        stored += 1;
        assert_eq!(client.ok(send(conversation, json!({"filter": "accept"}))).await["seq"], stored, "after {deed}");
        client.event().await;
    }
    for (deed, status) in [("discard", "discarded"), ("hold", "held")] {
        let reply = client.ok(send(conversation, json!({"filter": deed}))).await;
        assert_eq!(
            (&reply["status"], &reply["message_id"], &reply["seq"]),
            (&json!(status), &Value::Null, &Value::Null)
        );
    }
    // Held under a key, it is held once.
    for duplicate in [Value::Null, json!(true)] {
        let mut frame = send(conversation, json!({"filter": "hold"}));
        frame["idempotency_key"] = json!("k");
        let reply = client.ok(frame).await;
        assert_eq!((&reply["status"], &reply["duplicate"]), (&json!("held"), &duplicate));
    }
    assert_eq!(world.count("SELECT count(*) FROM held_messages WHERE idempotency_key = 'k'").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM held_messages WHERE idempotency_key IS NULL AND held_by = 'misbehaving'")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM messages").await, stored);
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, stored);
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_left_alone_and_operators_see_it() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.breaker]\nfailures = 3\ncool_down_ms = 100\n";
    let dir = directory(&["misbehaving"], config);
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    for _ in 0..3 {
        assert_eq!(client.code(send(conversation, json!({"filter": "panic"}))).await, "plugin_failed");
    }
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("misbehaving is not called"), "{reason}");
    // It behaves again, and is called again, by itself.
    while client.request(send(conversation, json!({"filter": "accept"}))).await["success"] != true {}
    gateway.until("plugins", "up").await;
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
    let world = World::new().await;
    let dir = directory(&["word-filter"], "[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = [\"old\"]\n");
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    dir.configure("[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = [\"new\"]\n");
    while {
        client.say(conversation, "old or new").await;
        client.message().await.0 != "old or ***"
    } {}
    dir.configure("[[plugin]]\nname = \"word-filter\"\ncolour = \"red\"\n");
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("colour"), "{reason}");
    client.say(conversation, "old or new").await;
    assert_eq!(client.message().await.0, "old or ***");
}
