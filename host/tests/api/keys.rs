//! Who may ask, for what, and how often.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{Service, key};
use crate::support::World;

async fn command(world: &World, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let output = command.arg("key").args(arguments).env("DATABASE_URL", world.database_url()).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_revoked() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    service.get("/conversations").await.ok(200);
    let (listed, table) = command(&world, &["list"]).await;
    assert!(listed && table.contains("a service") && !table.contains(&service.key), "{table}");
    let (_, list) = command(&world, &["list", "--json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(list[0]["revoked_at"], Value::Null);
    let kept = world.sql.query_one("SELECT t::text FROM api_keys t", &[]).await.unwrap().get::<_, String>(0);
    assert!(!kept.contains(&service.key[20..]), "{kept}");
    assert_eq!(command(&world, &["revoke", id]).await, (true, format!("revoked {id}\n")));
    let refused = loop {
        let answer = service.get("/conversations").await;
        // So many requests may come too fast meanwhile.
        if answer.status == 401 {
            break answer;
        }
    };
    assert_eq!(refused.code(401), "invalid_api_key");
    let (again, text) = command(&world, &["revoke", id]).await;
    assert!(!again && text.contains("key list"), "{text}");
}

#[tokio::test]
async fn who_has_no_good_key_gets_nothing() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let good = key(&world, &[]).await;
    let other = key(&world, &[]).await;
    // The id of one with the secret of another.
    let mixed = format!("{}{}", &good[..28], &other[28..]);
    for text in ["", "x", "arcyou_", &good[..good.len() - 1], &mixed, &format!("{good}A"), "arcyou_%00"] {
        let answer = Service::with_key(gateway.port, text.to_owned()).get("/conversations").await;
        assert_eq!(answer.code(401), "invalid_api_key", "{text}");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    }
    Service::with_key(gateway.port, good).get("/conversations").await.ok(200);
}

#[tokio::test]
async fn a_key_does_what_it_is_for() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let place = format!("/conversations/{conversation}");
    let with = async |arguments: &[&str]| Service::with_key(gateway.port, key(&world, arguments).await);
    let reads = with(&["--scope", "messages:read"]).await;
    reads.get(&format!("{place}/messages")).await.ok(200);
    let refused = reads.get(&place).await;
    assert_eq!(refused.code(403), "missing_scope");
    assert!(refused.body["detail"].as_str().unwrap().contains("conversations:read"), "{}", refused.body);
    let message = json!({"sender_id": user, "body": {"text": "hello"}});
    assert_eq!(reads.post(&format!("{place}/messages"), message.clone()).await.code(403), "missing_scope");
    let bot = with(&["--scope", "messages:write", "--sender", &user.to_string()]).await;
    bot.post(&format!("{place}/messages"), json!({"body": {"text": "beep"}})).await.ok(201);
    bot.post(&format!("{place}/messages"), message.clone()).await.ok(201);
    let other = json!({"sender_id": Uuid::new_v4(), "body": {"text": "hello"}});
    assert_eq!(bot.post(&format!("{place}/messages"), other).await.code(403), "other_sender");
    let anybody = with(&["--scope", "messages:write"]).await;
    let nobody = json!({"body": {"text": "hello"}});
    assert_eq!(anybody.post(&format!("{place}/messages"), nobody).await.code(422), "sender_required");
    let (done, text) = command(&world, &["create", "x", "--scope", "everything"]).await;
    assert!(!done && text.contains("messages:write"), "{text}");
}

#[tokio::test]
async fn a_key_has_a_rate() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let slow = Service::with_key(gateway.port, key(&world, &["--rate", "1"]).await);
    let fast = Service::with_key(gateway.port, key(&world, &[]).await);
    let refused = loop {
        let answer = slow.get("/conversations").await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.code(429), "rate_limited");
    assert_eq!(refused.headers["retry-after"], "1");
    fast.get("/conversations").await.ok(200);
}
