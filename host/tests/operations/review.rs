//! Messages that a plugin held, decided on from the command line and on the admin listener.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::plugins::directory;

fn held(conversation: Uuid, text: &str, key: &str) -> Value {
    let body = json!({"filter": "hold", "text": text});
    json!({"op": "send", "conversation_id": conversation, "body": body, "idempotency_key": key})
}

/// `arcyou-gateway held …`, with what it said.
async fn command(world: &World, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let command = command.env_clear().env("DATABASE_URL", world.database_url()).arg("held").args(arguments);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

async fn post(gateway: &Running, path: &str, header: &str) -> String {
    crate::support::http_request(gateway.admin_port, "POST", path, header).await
}

async fn ids(world: &World) -> Vec<String> {
    let rows = world.sql.query("SELECT id::text FROM held_messages WHERE refused_at IS NULL ORDER BY id", &[]);
    rows.await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_released_message_takes_the_next_place_and_a_refused_one_is_never_shown() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    for (text, key) in [("first", "k1"), ("\u{1b}[2Jsecond", "k2"), ("third", "k3")] {
        assert_eq!(a.ok(held(conversation, text, key)).await["status"], "held");
    }
    a.say(conversation, "not held").await;
    assert_eq!(b.message().await, ("not held".to_owned(), 1));

    let (listed, table) = command(&world, &["list"]).await;
    assert!(listed && table.lines().count() == 4 && table.contains("misbehaving"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    let (_, page) = command(&world, &["list", "--json", "--limit", "1"]).await;
    assert!(page.contains("first") && !page.contains("third") && page.contains("there are more: --after"), "{page}");

    let waiting = ids(&world).await;
    let (released, said) = command(&world, &["release", &waiting[2], &waiting[0]]).await;
    assert!(released && said.lines().count() == 2, "{said}");
    // Together they come in the order in which they were sent.
    assert_eq!([b.message().await, b.message().await], [("first".to_owned(), 2), ("third".to_owned(), 3)]);
    let (refused, said) = command(&world, &["refuse", &waiting[1]]).await;
    assert!(refused && said.starts_with("refused"), "{said}");

    // Decided is decided, and a repeated send is told so.
    for (action, id) in [("release", &waiting[0]), ("release", &waiting[1]), ("refuse", &waiting[1])] {
        let (done, said) = command(&world, &[action, id]).await;
        assert!(!done && said.contains("no held message waits"), "{said}");
    }
    let again = a.ok(held(conversation, "first", "k1")).await;
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(2), &json!(true)));
    let again = a.ok(held(conversation, "second", "k2")).await;
    assert_eq!((&again["status"], &again["duplicate"]), (&json!("held"), &json!(true)));
    assert_eq!(ids(&world).await, Vec::<String>::new());
    a.say(conversation, "the end").await;
    assert_eq!(b.message().await, ("the end".to_owned(), 4));
}

#[tokio::test]
async fn the_admin_listener_decides_as_well_but_not_for_a_web_page() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    a.ok(held(conversation, "one", "k1")).await;
    a.ok(held(conversation, "two", "k2")).await;
    // Who sent it has left, which the reviewer sees; it stands all the same.
    world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&alice]).await.unwrap();
    let page = gateway.get(&format!("/held?conversation_id={conversation}&limit=5")).await;
    assert!(page.contains(r#""sender_participates":false"#) && page.contains("two"), "{page}");
    assert!(gateway.get("/held?colour=red").await.starts_with("HTTP/1.1 400"));

    let waiting = ids(&world).await;
    let release = format!("/held/{}/release", waiting[0]);
    let answer = post(&gateway, &release, "Origin: https://evil.example").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = post(&gateway, &release, "Accept: */*").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""seq":1"#), "{answer}");
    loop {
        let event = b.event().await;
        if event["type"] == "message.created" {
            assert_eq!((&event["message"]["body"]["text"], &event["message"]["seq"]), (&json!("one"), &json!(1)));
            break;
        }
    }
    assert!(post(&gateway, &release, "Accept: */*").await.starts_with("HTTP/1.1 404"));
    let refuse = format!("/held/{}/refuse", waiting[1]);
    assert!(post(&gateway, &refuse, "Accept: */*").await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
}

/// Reviewers and senders at the same time: every message is stored once, and no place is taken twice or left out.
#[tokio::test]
async fn releases_and_sends_at_once_leave_no_hole() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    for number in 0..40 {
        client.ok(held(conversation, "held", &format!("k{number}"))).await;
    }
    let waiting = ids(&world).await;
    let releasing = async {
        for id in &waiting {
            let release = format!("/held/{id}/release");
            let both = tokio::join!(post(&gateway, &release, "Accept: */*"), post(&gateway, &release, "Accept: */*"));
            let won = [both.0, both.1].iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
            assert_eq!(won, 1);
        }
    };
    let sending = async {
        for _ in 0..100 {
            client.say(conversation, "sent").await;
        }
    };
    tokio::join!(releasing, sending);
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 140);
    assert_eq!(world.count("SELECT max(seq) FROM messages").await, 140);
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, 140);
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 140);
}
