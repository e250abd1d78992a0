//! Messages that services send, read, edit and delete, and what sockets see of that.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{Service, key};
use crate::support::World;
use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::plugins::directory;

struct Room {
    world: World,
    gateway: Running,
    _worker: Running,
    service: Service,
    alice: Uuid,
    place: String,
    /// Alice's socket.
    socket: Client,
}

impl Room {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(variables: &[(&str, &str)]) -> Self {
        let world = World::new().await;
        let (gateway, worker) = (world.gateway_with(variables).await, world.worker().await);
        let alice = Uuid::new_v4();
        let conversation = world.conversation(&[alice, Uuid::new_v4()]).await;
        let socket = Client::joined(gateway.port, alice, conversation).await;
        let service = Service::new(&world, &gateway).await;
        let place = format!("/conversations/{conversation}/messages");
        Self { world, gateway, _worker: worker, service, alice, place, socket }
    }

    fn message(&self, text: &str) -> Value {
        json!({"sender_id": self.alice, "body": {"text": text}})
    }

    async fn send(&self, text: &str) -> Value {
        self.service.post(&self.place, self.message(text)).await.ok(201)
    }
}

#[tokio::test]
async fn what_a_service_does_to_a_message_is_seen_by_sockets() {
    let mut room = Room::new().await;
    let sent = room.send("hello").await;
    assert_eq!((&sent["status"], &sent["seq"], &sent["duplicate"]), (&json!("stored"), &json!(1), &json!(false)));
    assert_eq!(room.socket.message().await, ("hello".to_owned(), 1));
    let one = format!("{}/{}", room.place, sent["message_id"]);
    let shown = room.service.get(&one).await;
    assert_eq!(shown.headers["etag"], "\"1\"");
    assert_eq!(shown.ok(200)["body"], json!({"text": "hello"}));

    let edit = json!({"body": {"text": "hello you"}});
    let edited = room.service.call(Method::PATCH, &one, &[("if-match", "\"1\"")], Some(&edit)).await;
    assert_eq!(edited.headers["etag"], "\"2\"");
    assert_eq!(edited.ok(200)["version"], 2);
    let event = room.socket.event().await;
    assert_eq!((&event["type"], &event["message"]["body"]["text"]), (&json!("message.edited"), &json!("hello you")));
    let late = room.service.call(Method::PATCH, &one, &[("if-match", "\"1\"")], Some(&edit)).await;
    assert_eq!((late.code(412), &late.body["version"]), ("version_conflict", &json!(2)));

    let reaction = format!("{one}/reactions/%F0%9F%91%8D?user_id={}", room.alice);
    assert_eq!(room.service.put(&reaction, Value::Null).await.ok(200)["count"], 1);
    assert_eq!(room.socket.event().await["reaction"], "👍");
    let shown = room.service.get(&format!("{one}?viewer_id={}", room.alice)).await.ok(200);
    assert_eq!(shown["reactions"], json!([{"reaction": "👍", "count": 1, "own": true}]));
    assert_eq!(room.service.delete(&reaction).await.ok(200)["count"], 0);
    assert_eq!(room.socket.event().await["type"], "reaction.removed");

    let late = room.service.call(Method::DELETE, &one, &[("if-match", "\"1\"")], None).await;
    assert_eq!((late.code(412), &late.body["version"]), ("version_conflict", &json!(2)));
    for _ in 0..2 {
        // A repeat of what was done is no conflict with itself.
        let deleted = room.service.call(Method::DELETE, &one, &[("if-match", "\"2\"")], None).await;
        assert_eq!(deleted.ok(200)["version"], 3);
    }
    assert_eq!(room.socket.event().await["type"], "message.deleted");
    assert_eq!(room.service.get(&one).await.ok(200)["body"], Value::Null);
    let by_parameter = format!("{one}?user_id={}", room.alice);
    let refused = room.service.call(Method::PATCH, &by_parameter, &[], Some(&edit)).await;
    assert_eq!(refused.code(400), "invalid_field");
    let gone = room.service.call(Method::PATCH, &one, &[], Some(&edit)).await;
    assert_eq!(gone.code(410), "message_deleted");
    assert_eq!(room.service.get(&format!("{}/999", room.place)).await.code(404), "unknown_message");
}

#[tokio::test]
async fn a_repeat_with_the_same_key_is_stored_once() {
    let room = Room::new().await;
    let message = room.message("once");
    let mut ids = Vec::new();
    for status in [201, 200] {
        let headers = [("idempotency-key", "a key of ours")];
        let answer = room.service.call(Method::POST, &room.place, &headers, Some(&message)).await.ok(status);
        assert_eq!(answer["duplicate"], status == 200);
        ids.push(answer["message_id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(room.world.count("SELECT count(*) FROM messages").await, 1);
    let long = "k".repeat(129);
    let refused = room.service.call(Method::POST, &room.place, &[("idempotency-key", &long)], Some(&message)).await;
    assert_eq!(refused.code(400), "invalid_field");
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_one_refusal_does_not_stop_it() {
    let mut room = Room::new().await;
    let conversation = room.place.split('/').nth(2).unwrap().to_owned();
    let entry = |n: usize| {
        let stranger = if n == 50 { Uuid::new_v4() } else { room.alice };
        json!({"conversation_id": conversation, "sender_id": stranger, "body": {"text": n.to_string()}, "idempotency_key": format!("b{n}")})
    };
    let batch = json!({"messages": (0..200).map(entry).collect::<Vec<_>>()});
    let results = room.service.post("/messages", batch.clone()).await.ok(200);
    for (n, result) in results["results"].as_array().unwrap().iter().enumerate() {
        match n {
            50 => assert_eq!(result["problem"]["code"], "not_participant", "{result}"),
            _ => assert_eq!((&result["status"], &result["seq"]), (&json!("stored"), &json!(n + usize::from(n < 50)))),
        }
    }
    for n in (0..200).filter(|n| *n != 50) {
        assert_eq!(room.socket.message().await.0, n.to_string());
    }
    let repeat = async || {
        let again = room.service.post("/messages", batch.clone()).await.ok(200);
        again["results"].as_array().unwrap().iter().filter(|result| result["duplicate"] == true).count()
    };
    assert_eq!(repeat().await, 199);
    assert_eq!(room.service.post("/messages", json!({"messages": []})).await.code(400), "invalid_field");
    let mut damaged = json!({"messages": [entry(300), entry(301)]});
    damaged["messages"][1]["body"] = json!(7);
    let refused = room.service.post("/messages", damaged).await;
    assert_eq!(refused.code(400), "invalid_field");
    assert!(refused.body["detail"].as_str().unwrap().starts_with("messages[1]: "), "{}", refused.body);
    // What was stored is answered as it was, though its sender has left since.
    room.service.delete(&format!("/conversations/{conversation}/participants/{}", room.alice)).await.ok(204);
    assert_eq!(repeat().await, 199);
    let more = json!({"messages": [entry(400)]});
    let results = room.service.post("/messages", more).await.ok(200);
    assert_eq!(results["results"][0]["problem"]["code"], "not_participant", "{results}");
    assert_eq!(room.world.count("SELECT count(*) FROM messages").await, 199);
}

#[tokio::test]
async fn pages_go_either_way_and_threads_are_shown() {
    let room = Room::new().await;
    let first = room.send("1").await["message_id"].clone();
    for n in 2..=5 {
        let mut message = room.message(&n.to_string());
        if n > 3 {
            message["reply_to"] = first.clone();
        }
        room.service.post(&room.place, message).await.ok(201);
    }
    let texts = async |query: &str| {
        let page = room.service.get(&format!("{}{query}", room.place)).await.ok(200);
        assert_eq!(page["as_of_seq"], 5);
        let texts = page["messages"].as_array().unwrap().iter().map(|message| message["body"]["text"].clone());
        (Value::from_iter(texts), page["has_more"] == true)
    };
    assert_eq!(texts("").await, (json!(["5", "4", "3", "2", "1"]), false));
    assert_eq!(texts("?limit=2").await, (json!(["5", "4"]), true));
    assert_eq!(texts("?after_seq=2&limit=2").await, (json!(["3", "4"]), true));
    assert_eq!(texts("?before_seq=3").await, (json!(["2", "1"]), false));
    for limit in ["", "&limit=2"] {
        assert_eq!(texts(&format!("?after_seq=1&before_seq=4{limit}")).await, (json!(["2", "3"]), false));
    }
    assert_eq!(texts(&format!("?after_seq=0&thread={first}")).await, (json!(["1", "4", "5"]), false));
    for query in ["?limit=0", "?limit=x", "?colour=red"] {
        assert_eq!(room.service.get(&format!("{}{query}", room.place)).await.code(400), "invalid_field", "{query}");
    }
    let nowhere = format!("/conversations/{}/messages", Uuid::new_v4());
    assert_eq!(room.service.get(&nowhere).await.code(404), "unknown_conversation");
}

#[tokio::test]
async fn plugins_judge_what_services_send() {
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = 10000\n";
    let dir = directory(&["misbehaving"], config);
    let room = Room::with(&[dir.variable()]).await;
    let message = |deed: &str| json!({"sender_id": room.alice, "body": {"filter": deed, "text": "x"}});
    let post = async |deed: &str| room.service.post(&room.place, message(deed)).await;
    assert_eq!(post("append").await.ok(201)["body"]["text"], "x+");
    assert_eq!(post("discard").await.ok(200)["status"], "discarded");
    assert_eq!(post("panic").await.code(503), "plugin_failed");
    let held = post("hold").await.ok(202);
    let waiting = room.service.get("/held").await.ok(200);
    assert_eq!(waiting["held"][0]["id"], held["held_id"]);
    assert_eq!(waiting["held"][0]["body"]["text"], "x");
    let release = format!("/held/{}/release", held["held_id"]);
    assert_eq!(room.service.post(&release, Value::Null).await.ok(200)["seq"], 2);
    assert_eq!(room.service.post(&release, Value::Null).await.code(404), "nothing_held");
    let held = post("hold").await.ok(202);
    room.service.post(&format!("/held/{}/refuse", held["held_id"]), Value::Null).await.ok(200);
    let reviewer = room.world.count("SELECT count(*) FROM plugin_audit WHERE reviewer = 'a service'").await;
    assert_eq!(reviewer, 2);
}

#[tokio::test]
async fn what_nobody_would_heed_is_refused() {
    let room = Room::new().await;
    let one = format!("{}/{}", room.place, room.send("x").await["message_id"]);
    let (bare, page) = (room.message("x"), format!("{}?limit=1&after=7", room.place));
    let batch = json!({"messages": [{}]});
    let key = [("idempotency-key", "k")];
    let (gzip, utf16) = ([("content-encoding", "gzip")], [("content-type", "application/json; charset=utf-16")]);
    for (method, path, headers, body, status, told) in [
        (Method::POST, "/messages", &key[..], Some(&batch), 400, "heed the header idempotency-key (each message"),
        (Method::POST, "/conversations", &key, Some(&json!({})), 400, "heed the header idempotency-key"),
        (Method::GET, &one, &[("if-match", "\"1\"")], None, 400, "heed the header if-match"),
        (Method::POST, &room.place, &[key[0], ("idempotency-key", "l")], Some(&bare), 400, "more than once"),
        (Method::GET, &page, &[], None, 400, "\"after\"; this operation has after_seq, before_seq"),
        (Method::GET, "/users?subject=J%F6rg", &[], None, 400, "must be UTF-8"),
        (Method::POST, "/conversations?id=7", &[], Some(&json!({})), 400, "\"id\"; this operation has none"),
        (Method::POST, &room.place, &gzip, Some(&bare), 415, "Content-Encoding"),
        (Method::POST, &room.place, &utf16, None, 415, "UTF-8"),
    ] {
        let refused = room.service.call(method.clone(), path, headers, body).await;
        let code = if status == 400 { "invalid_field" } else { "unsupported_media_type" };
        assert_eq!(refused.code(status), code, "{method} {path}");
        assert!(refused.body["detail"].as_str().unwrap().contains(told), "{method} {path}: {}", refused.body);
    }
    for tags in ["\"1\", \"2\"", "W/\"1\"", "1", "\"x\""] {
        let refused = room.service.call(Method::PATCH, &one, &[("if-match", tags)], Some(&json!({"body": {}}))).await;
        assert_eq!(refused.code(412), "version_conflict", "{tags}");
    }
    let utf8 = [("content-encoding", "identity"), ("idempotency-key", "k"), ("x-request-id", "7")];
    room.service.call(Method::POST, &room.place, &utf8, Some(&bare)).await.ok(201);
    assert_eq!(room.world.count("SELECT count(*) FROM messages").await, 2);
    assert_eq!(room.world.count("SELECT count(*) FROM conversations").await, 1);
}

#[tokio::test]
async fn bad_input_is_told_what_to_do() {
    let room = Room::new().await;
    let post = async |text: &str| {
        let client = reqwest::Client::new();
        let url = format!("http://127.0.0.1:{}/v1{}", room.gateway.port, room.place);
        let request = client.post(url).bearer_auth(&room.service.key).header("content-type", "application/json");
        let answer: Value =
            serde_json::from_str(&request.body(text.to_owned()).send().await.unwrap().text().await.unwrap()).unwrap();
        (answer["code"].as_str().unwrap().to_owned(), answer["detail"].as_str().unwrap().to_owned())
    };
    let alice = room.alice;
    let sent = |rest: &str| format!(r#"{{"sender_id":"{alice}",{rest}}}"#);
    for (text, code, detail) in [
        ("{", "invalid_json", "EOF"),
        ("[]", "invalid_field", "expected an object"),
        (&sent(r#""bdy":{}"#), "invalid_field", "bdy"),
        (&sent(r#""body":7"#), "invalid_field", "object"),
        (&sent(r#""body":{"a":1,"a":2}"#), "duplicate_key", "\"a\""),
        (&sent(r#""body":{"a":"\u0000"}"#), "unstorable_text", "stored"),
        (&sent(&format!(r#""body":{{"a":"{}"}}"#, "x".repeat(70_000))), "body_too_large", "32768"),
        (&sent(r#""body":{},"reply_to":0"#), "invalid_field", "reply_to"),
        (&sent(r#""body":{},"reply_to":77"#), "unknown_message", "no such message"),
    ] {
        let (found, told) = post(text).await;
        assert!(found == code && told.contains(detail), "{}: {found}: {told}", &text[..text.len().min(80)]);
        assert!(!told.contains("deserialize"), "{told}");
    }
    for (path, detail) in [
        ("/conversations/x".to_owned(), "conversation_id in the path, \"x\": UUID parsing failed"),
        (format!("{}/x", room.place), "\"x\" in the path should be a number"),
        (format!("{}?limit=x", room.place), "the query: limit: invalid digit"),
        (format!("{}?lmit=1", room.place), "the query: there is no parameter \"lmit\"; this operation has after_seq"),
    ] {
        let refused = room.service.get(&path).await;
        assert_eq!(refused.code(400), "invalid_field");
        assert!(refused.body["detail"].as_str().unwrap().starts_with(detail), "{}", refused.body);
    }
    let disconnect = format!("/users/{alice}/disconnect");
    for body in [json!({"dry": true}), json!({"text": "x".repeat(70_000)}), json!([])] {
        let refused = room.service.post(&disconnect, body).await;
        assert_eq!(refused.code(400), "invalid_field");
        assert_eq!(refused.body["detail"], "this operation does not heed a body; leave it out");
    }
    assert_eq!(room.world.count("SELECT count(*) FROM user_cutoffs").await, 0);
    for body in [json!({}), Value::Null] {
        room.service.post(&disconnect, body).await.ok(200);
    }
    assert_eq!(room.service.get("/nothing").await.code(404), "not_found");
    assert_eq!(room.service.put("/conversations", json!({})).await.code(405), "method_not_allowed");
    let reads = Service::with_key(room.gateway.port, key(&room.world, &["--scope", "messages:read"]).await);
    assert_eq!(reads.post(&room.place, room.message("x")).await.code(403), "missing_scope");
}
