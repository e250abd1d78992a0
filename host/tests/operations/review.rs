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

/// `arcyou-gateway held …`, with what it said, and what it logged or complained of after that.
async fn command(world: &World, arguments: &[&str]) -> (bool, String) {
    let (done, said, logged) = command_as(world, Some("carol"), arguments).await;
    (done, said + &logged)
}

/// The same for this user of the machine.
async fn command_as(world: &World, user: Option<&str>, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let command = command.env_clear().envs(user.map(|user| ("USER", user)));
    let command = command.env("DATABASE_URL", world.database_url()).arg("held").args(arguments);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let [said, logged] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.success(), said, logged)
}

/// The decisions in the audit rows: verdict, reviewer, plugin, whether it names the message, and the held one.
async fn decisions(world: &World) -> Vec<(String, String, String, bool, String)> {
    let query = "SELECT verdict, reviewer, plugin, message_id IS NOT NULL, held_id::text FROM plugin_audit
        WHERE reviewer IS NOT NULL ORDER BY id";
    let rows = world.sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect()
}

async fn post(gateway: &Running, path: &str, header: &str) -> String {
    crate::support::http_request(gateway.admin_port, "POST", path, header).await
}

async fn ids(world: &World) -> Vec<String> {
    let rows = world.sql.query("SELECT id::text FROM held_messages WHERE refused_at IS NULL ORDER BY id", &[]);
    rows.await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Who decided, and which message a held one became, from the command line and on the admin listener.
async fn decisions_name_both_ids(world: &World, gateway: &Running, waiting: &[String]) {
    let (listed, said) = command(world, &["decisions", "--json"]).await;
    assert!(listed, "{said}");
    let decisions: Vec<Value> = serde_json::from_str(&said).unwrap();
    let of = |held: &String| {
        let held: i64 = held.parse().unwrap();
        decisions.iter().find(|decision| decision["held_id"] == held).unwrap()
    };
    assert_eq!((decisions.len(), &of(&waiting[1])["verdict"]), (3, &json!("refused")));
    assert_eq!(of(&waiting[1])["message_id"], Value::Null);
    let first = of(&waiting[0]);
    assert_eq!(
        (&first["verdict"], &first["reviewer"], &first["held_by"]),
        (&json!("released"), &json!("carol"), &json!("misbehaving"))
    );
    let text = format!("SELECT count(*) FROM messages WHERE id = {} AND body->>'text' = 'first'", first["message_id"]);
    assert_eq!(world.count(&text).await, 1);
    let (_, table) = command(world, &["decisions", "--held", &waiting[0]]).await;
    assert!(table.lines().count() == 2 && table.contains("carol"), "{table}");
    let path = format!("/held/decisions?held_id={}", waiting[0]);
    let answer = crate::support::http_request(gateway.admin_port, "GET", &path, "Accept: */*").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({"decisions": [first]}));
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
    let mut told = Vec::new();
    for (text, key) in [("first", "k1"), ("\u{1b}[2Jsecond", "k2"), ("third", "k3")] {
        let reply = a.ok(held(conversation, text, key)).await;
        assert_eq!(reply["status"], "held");
        let again = a.ok(held(conversation, text, key)).await;
        assert_eq!((&again["held_id"], &again["duplicate"]), (&reply["held_id"], &json!(true)), "{again}");
        told.push(reply["held_id"].to_string());
    }
    a.say(conversation, "not held").await;
    assert_eq!(b.message().await, ("not held".to_owned(), 1));

    let (listed, table) = command(&world, &["list"]).await;
    assert!(listed && table.lines().count() == 4 && table.contains("misbehaving"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    let (_, page) = command(&world, &["list", "--json", "--limit", "1"]).await;
    assert!(page.contains("first") && !page.contains("third") && page.contains("there are more: --after"), "{page}");

    let waiting = ids(&world).await;
    assert_eq!(waiting, told, "senders know them by these ids");
    let (released, said) = command(&world, &["release", &waiting[2], &waiting[0]]).await;
    assert!(released && said.lines().filter(|line| line.starts_with("released")).count() == 2, "{said}");
    // Together they come in the order in which they were sent.
    assert_eq!([b.message().await, b.message().await], [("first".to_owned(), 2), ("third".to_owned(), 3)]);
    let (refused, said) = command(&world, &["refuse", &waiting[1]]).await;
    assert!(refused && said.starts_with("refused"), "{said}");
    decisions_name_both_ids(&world, &gateway, &waiting).await;

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

#[tokio::test]
async fn who_decided_is_in_the_log_and_in_the_audit_rows() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    // What plugins do is not noted here; what people do is.
    let gateway = world.gateway_with(&[dir.variable(), ("PLUGIN_AUDIT", "off")]).await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    for number in 0..6 {
        client.ok(held(conversation, "held", &format!("k{number}"))).await;
    }
    let waiting = ids(&world).await;

    let (done, said, logged) = command_as(&world, None, &["release", &waiting[0]]).await;
    assert!(!done && said.is_empty() && logged.contains("--as NAME"), "{logged}");
    let (done, _, logged) = command_as(&world, Some("dave"), &["refuse", &waiting[0], "--as", "a\u{1b}[2J"]).await;
    assert!(!done && logged.contains("control character") && !logged.contains('\u{1b}'), "{logged}");
    assert_eq!(decisions(&world).await, []);

    let (_, said, logged) = command_as(&world, Some("dave"), &["release", &waiting[0]]).await;
    assert!(said.starts_with("released") && logged.contains("reviewer=dave"), "{said}{logged}");
    let (_, said, logged) = command_as(&world, Some("dave"), &["refuse", "--as", "Erin O.", &waiting[1]]).await;
    assert!(said.starts_with("refused") && logged.contains("reviewer=Erin O."), "{said}{logged}");
    let path = |index: usize, action: &str| format!("/held/{}/{action}", waiting[index]);
    assert!(post(&gateway, &path(2, "release"), "X-Operator: frank").await.starts_with("HTTP/1.1 200"));
    assert!(post(&gateway, &path(3, "release"), "Accept: */*").await.starts_with("HTTP/1.1 200"));
    assert!(post(&gateway, &path(4, "refuse"), "X-Operator: Ég").await.starts_with("HTTP/1.1 200"));
    for bad in ["X-Operator: ", &format!("X-Operator: {}", "x".repeat(101))] {
        let answer = post(&gateway, &path(5, "refuse"), bad).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("X-Operator"), "{answer}");
    }
    // Who comes too late decides nothing.
    assert!(post(&gateway, &path(2, "refuse"), "X-Operator: gina").await.starts_with("HTTP/1.1 404"));

    let expected = [
        ("released", "dave", true, 0),
        ("refused", "Erin O.", false, 1),
        ("released", "frank", true, 2),
        ("released", "127.0.0.1", true, 3),
        ("refused", "Ég", false, 4),
    ];
    let expected = expected.map(|(verdict, reviewer, stored, index)| {
        (verdict.to_owned(), reviewer.to_owned(), "misbehaving".to_owned(), stored, waiting[index].clone())
    });
    assert_eq!(decisions(&world).await, expected);
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit").await, 5);
}

#[tokio::test]
async fn what_was_refused_long_ago_is_removed_and_what_waits_is_not() {
    let world = World::new().await;
    let conversation = world.conversation(&[]).await;
    let insert = "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason, created_at, refused_at)
        SELECT $1, gen_random_uuid(), '{}', 'x', 'y', now() - interval '90 days', now() - age
        FROM unnest('{1 day, 3 days, 40 days, null, null}'::interval[]) AS t(age)";
    world.sql.execute(insert, &[&conversation]).await.unwrap();
    let remaining = "SELECT count(*) FROM held_messages";
    let keeping = world.gateway_with(&[("AUDIT_RETENTION_DAYS", "0")]).await;
    assert_eq!(world.count(remaining).await, 5);
    keeping.stop().await;
    let gateway = world.gateway_with(&[("AUDIT_RETENTION_DAYS", "2")]).await;
    world.eventually(remaining, 3).await;
    assert_eq!(world.count("SELECT count(*) FROM held_messages WHERE refused_at IS NULL").await, 2);
    gateway.stop().await;
}

/// What has to wait for a conversation that somebody holds keeps no other one waiting, and undoes nothing.
#[tokio::test]
async fn of_several_each_is_decided_by_itself() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let alice = Uuid::new_v4();
    let rooms = [world.conversation(&[alice]).await, world.conversation(&[alice]).await];
    let mut client = Client::authenticated(gateway.port, alice).await;
    for room in rooms {
        client.ok(held(room, "held", "k")).await;
    }
    let waiting = ids(&world).await;
    let holder = world.connect().await;
    holder
        .batch_execute(&format!("BEGIN; SELECT FROM conversations WHERE id = '{}' FOR UPDATE", rooms[1]))
        .await
        .unwrap();
    let (done, said) = command(&world, &["release", &waiting[0], &waiting[1]]).await;
    assert!(!done && said.starts_with(&format!("released {} as message", waiting[0])), "{said}");
    assert!(said.contains(&format!("while releasing {}", waiting[1])), "{said}");
    assert_eq!(ids(&world).await, waiting[1..]);
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let (refused, said) = command(&world, &["refuse", &waiting[1], &waiting[0], &waiting[1]]).await;
    assert!(!refused && said.starts_with(&format!("refused {}\n", waiting[1])), "{said}");
    assert!(said.contains(&format!("waits for a decision under {}\n", waiting[0])), "{said}");
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

/// While an edit is held the old text stands; it is made, refused by a newer one, or gone with its message.
#[tokio::test]
async fn a_held_edit_is_made_when_it_is_released() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    let id = a.say(conversation, "one").await["message_id"].clone();
    let edit = |text: &str, key: &str, hold: bool| {
        let mut request = held(conversation, text, key);
        request["op"] = json!("edit");
        request["message_id"] = id.clone();
        if !hold {
            request["body"] = json!({"text": text});
        }
        request
    };
    let reply = a.ok(edit("two", "k1", true)).await;
    assert_eq!((&reply["status"], &reply["seq"], &reply["message_id"]), (&json!("held"), &Value::Null, &id), "{reply}");
    let again = a.ok(edit("two", "k1", true)).await;
    assert_eq!((&again["held_id"], &again["duplicate"]), (&reply["held_id"], &json!(true)), "{again}");
    let (_, listed) = command(&world, &["list", "--json"]).await;
    let listed = &serde_json::from_str::<Value>(&listed).unwrap()[0];
    assert_eq!((&listed["edits"], &listed["body"]["text"]), (&id, &json!("two")));
    let standing = "SELECT count(*) FROM messages WHERE body->>'text' = 'one' AND version = 1";
    assert_eq!(world.count(standing).await, 1);
    let (released, said) = command(&world, &["release", &reply["held_id"].to_string()]).await;
    assert!(released && said.contains(&format!("as message {id}, seq 2")), "{said}");
    assert_eq!(b.message().await, ("one".to_owned(), 1));
    let event = b.event().await;
    assert_eq!(
        (&event["type"], &event["seq"], &event["message"]["body"]["text"], &event["message"]["version"]),
        (&json!("message.edited"), &json!(2), &json!("two"), &json!(2))
    );
    // A repeat of what was released is one of what is stored.
    let again = a.ok(edit("two", "k1", true)).await;
    assert_eq!((&again["status"], &again["seq"], &again["duplicate"]), (&json!("stored"), &json!(2), &json!(true)));
    // A newer edit refuses what waits, also one that waits itself; and a deletion leaves nothing of it.
    a.ok(edit("two and a half", "k2a", true)).await;
    let newer = a.ok(edit("three", "k2", true)).await["held_id"].to_string();
    assert_eq!(ids(&world).await, [newer]);
    assert_eq!(a.ok(edit("two and a half", "k2a", true)).await["duplicate"], json!(true));
    a.ok(edit("four", "k3", false)).await;
    assert_eq!(ids(&world).await, Vec::<String>::new());
    a.ok(edit("five", "k4", true)).await;
    a.ok(json!({"op": "delete", "conversation_id": conversation, "message_id": id})).await;
    assert_eq!(world.count("SELECT count(*) FROM held_messages").await, 0);
    assert_eq!(a.code(edit("six", "k5", true)).await, "message_deleted");
    // A message that was held itself leaves no reason either.
    let reply = a.ok(held(conversation, "seven", "k6")).await;
    command(&world, &["release", &reply["held_id"].to_string()]).await;
    let id = world.count("SELECT max(id) FROM messages").await;
    a.ok(json!({"op": "delete", "conversation_id": conversation, "message_id": id})).await;
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit WHERE reason IS NOT NULL").await, 0);
}
