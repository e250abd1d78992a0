//! Everything of a user, as lines.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use uuid::Uuid;

use crate::erase::fill;
use crate::service::{Service, key};
use crate::support::World;
use crate::support::client::{Client, narrow};

/// The lines of an export that is whole, by their types.
fn lines(text: &str) -> Vec<Value> {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["type"], "end", "{text}");
    lines
}

async fn export(service: &Service, user: Uuid) -> Vec<Value> {
    let answer = service.get(&format!("/users/{user}/export")).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let text = answer.ok(200);
    // A single line would be read as JSON.
    lines(text.as_str().unwrap())
}

#[tokio::test]
async fn an_export_has_everything_of_a_user_and_nothing_of_others() {
    let world = World::partitioned().await;
    world.grant_rights().await;
    let login = world.login(Some("arcyou_gateway")).await;
    let gateway = world.gateway_with(&[("DATABASE_URL", login.url())]).await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let (stayed, left) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice, bob]).await);
    let mut alices = Client::authenticated(gateway.port, alice).await;
    let mut bobs = Client::authenticated(gateway.port, bob).await;
    let mut expected = Vec::new();
    for room in [stayed, left] {
        for number in 0..3 {
            expected.push(json!(format!("bob {number} {room}")));
            bobs.say(room, &format!("bob {number} {room}")).await;
            let of_alice = alices.say(room, "hers").await["message_id"].clone();
            bobs.ok(json!({"op": "react", "conversation_id": room, "message_id": of_alice, "reaction": "+1"})).await;
            alices.ok(json!({"op": "react", "conversation_id": room, "message_id": of_alice, "reaction": "-1"})).await;
        }
    }
    let gone = bobs.say(stayed, "gone").await["message_id"].clone();
    bobs.ok(json!({"op": "delete", "conversation_id": stayed, "message_id": gone})).await;
    service.delete(&format!("/conversations/{left}/participants/{bob}")).await.ok(204);
    let hold = "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason)
        SELECT $1, sender, '{\"text\": \"held\"}', 'x', 'y' FROM unnest($2::uuid[]) sender";
    world.sql.execute(hold, &[&stayed, &vec![alice, bob]]).await.unwrap();
    let noted = "INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, sha256)
        SELECT $1, sender, 'rejected', 'x', 'y' FROM unnest($2::uuid[]) sender, generate_series(1, 150)";
    world.sql.execute(noted, &[&stayed, &vec![alice, bob]]).await.unwrap();
    service.post(&format!("/users/{bob}/disconnect"), Value::Null).await.ok(200);
    let blocked = Uuid::new_v4();
    for (user, of) in [(bob, blocked), (alice, bob)] {
        world
            .sql
            .execute("INSERT INTO user_blocks (user_id, blocked_id) VALUES ($1, $2)", &[&user, &of])
            .await
            .unwrap();
    }

    let lines = export(&service, bob).await;
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(lines[0]["type"], "user");
    assert_eq!(lines[0]["user_id"], json!(bob));
    assert!(lines[0]["disconnected_at"].is_string(), "{}", lines[0]);
    let [participation] = of("participation")[..] else { panic!("{lines:?}") };
    assert_eq!((&participation["conversation_id"], &participation["role"]), (&json!(stayed), &json!("member")));
    let [block] = of("block")[..] else { panic!("{lines:?}") };
    assert_eq!(block["blocked_id"], json!(blocked));
    let messages = of("message");
    assert!(messages.iter().all(|line| line["message"]["sender_id"] == json!(bob)));
    let (tombstones, standing): (Vec<&Value>, Vec<&Value>) =
        messages.into_iter().partition(|line| line["message"]["body"].is_null());
    assert_eq!((tombstones.len(), &tombstones[0]["message"]["id"]), (1, &gone));
    let mut texts: Vec<Value> = standing.iter().map(|line| line["message"]["body"]["text"].clone()).collect();
    texts.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(texts, expected);
    assert!(of("reaction").iter().all(|line| line["reaction"] == "+1" && line["given_at"].is_string()));
    assert_eq!(of("held_message")[0]["body"], json!({"text": "held"}));
    let end = json!({
        "type": "end", "participations": 1, "blocks": 1, "messages": 7, "reactions": 6, "held_messages": 1, "audit": 150
    });
    assert_eq!(lines.last(), Some(&end));
    assert_eq!(of("audit").len(), 150);
    // Nobody who was never here.
    let nobody = export(&service, Uuid::new_v4()).await;
    assert_eq!((nobody.len(), &nobody[1]["messages"]), (2, &json!(0)));
    let writes = Service::with_key(gateway.port, key(&world, &["--scope", "users:write"]).await);
    assert_eq!(writes.get(&format!("/users/{bob}/export")).await.code(403), "missing_scope");
}

#[tokio::test]
async fn a_reader_that_stalls_is_ended_and_meanwhile_holds_one_export_and_no_connection_to_the_database() {
    let world = World::new().await;
    let gateway = world.program(&[("MAX_EXPORTS", "1"), ("DATABASE_POOL_SIZE", "2")]).await;
    let (user, key) = (Uuid::new_v4(), key(&world, &[]).await);
    let conversation = world.conversation(&[user]).await;
    fill(&world, conversation, user, 20_000).await;
    let service = Service::with_key(gateway.port, key.clone());
    let before = gateway.resident();
    let mut stalled = narrow(gateway.port).await;
    let request = format!("GET /v1/users/{user}/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 15];
    stalled.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200 OK");
    let refused = service.get(&format!("/users/{user}/export")).await;
    assert_eq!(refused.code(503), "overloaded");
    assert!(refused.headers.contains_key("retry-after"));
    // All connections of the pool are there for others.
    service.get("/conversations").await.ok(200);
    gateway.until_metric("arcyou_exports ", 1.0).await;
    let ended = async {
        while gateway.metric("arcyou_exports ").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(120), ended).await.expect("it is never ended");
    let grown = gateway.resident().saturating_sub(before);
    println!("a stalled export of 20 MB cost {} KiB", grown / 1024);
    assert!(grown < 16 << 20, "{grown} bytes");
    // What was cut is told from what is whole.
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("\"type\":\"end\""));
    let text = service.get(&format!("/users/{user}/export")).await.ok(200);
    assert_eq!(lines(text.as_str().unwrap()).last().unwrap()["messages"], 20_000);
}
