//! `arcyou_import`: histories of other systems.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::state;
use crate::support::World;
use crate::support::client::Client;

/// How many were imported, how many were there, and the last `seq`.
async fn import(world: &World, conversation: Uuid, history: &Value) -> Result<(i64, i64, i64), tokio_postgres::Error> {
    let call = "SELECT imported, duplicates, last_seq FROM arcyou_import($1, $2::text::jsonb)";
    let row = world.sql.query_one(call, &[&conversation, &history.to_string()]).await?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

fn old(id: &str, minute: u32, sender: Uuid, text: &str) -> Value {
    json!({"id": id, "sender_id": sender, "body": {"text": text}, "created_at": format!("2020-01-02T03:{minute:02}:05Z")})
}

fn reply(mut message: Value, to: &str) -> Value {
    message["reply_to"] = json!(to);
    message
}

#[tokio::test]
async fn a_history_is_numbered_in_its_order_and_keeps_its_times() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, left] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice]).await;
    let history =
        json!([old("m7", 1, left, "one"), reply(old("m3", 1, alice, "two"), "m7"), old("m9", 2, left, "three")]);
    assert_eq!(import(&world, conversation, &history).await.unwrap(), (3, 0, 3));
    // The next part begins with the end of the one before, and replies to what that had.
    let next = json!([history[2], reply(old("12", 3, alice, "four"), "m3")]);
    assert_eq!(import(&world, conversation, &next).await.unwrap(), (1, 1, 4));
    assert_eq!(import(&world, conversation, &next).await.unwrap(), (0, 2, 4));
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0, "it does not ring");
    let mut client = Client::authenticated(gateway.port, alice).await;
    assert_eq!(client.say(conversation, "five").await["seq"], 5);
    let page = client.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 0})).await;
    let messages = page["messages"].as_array().unwrap();
    let texts: Vec<&str> = messages.iter().map(|message| message["body"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "two", "three", "four", "five"]);
    assert_eq!(messages[0]["created_at"], "2020-01-02T03:01:05.000Z");
    assert_eq!(messages[1]["reply_to"], messages[0]["id"]);
    assert_eq!(messages[3]["reply_to"], messages[1]["id"]);
    for (place, message) in messages.iter().enumerate() {
        let expected = json!([place + 1, place + 1, place + 1, 1]);
        assert_eq!(json!([message["seq"], message["n"], message["changed_seq"], message["version"]]), expected);
    }
    // What a client missed is told as if it had been sent.
    client.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    for text in texts {
        assert_eq!(client.message().await.0, text);
    }
    // Ids of the other system lead to the new ones, as long as the conversation is there.
    let known = "SELECT count(*) FROM imported_messages i JOIN messages m ON m.id = i.message_id WHERE m.body ->> 'text' = 'four' AND source_id = '12'";
    assert_eq!(world.count(known).await, 1);
    world.sql.execute("DELETE FROM conversations WHERE id = $1", &[&conversation]).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM imported_messages").await, 0);
}

#[tokio::test]
async fn what_cannot_be_imported_is_named_and_nothing_is_imported() {
    let world = World::new().await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    import(&world, conversation, &json!([old("there", 10, alice, "x")])).await.unwrap();
    let good = || old("good", 11, alice, "x");
    let with = |field: &str, value: Value| {
        let mut message = old("bad", 12, alice, "x");
        message[field] = value;
        json!([good(), message])
    };
    let many: Vec<Value> = (0..10_001).map(|number| old(&number.to_string(), 20, alice, "x")).collect();
    for (expected, part, history) in [
        ("YC010", "array", json!({})),
        ("YC010", "10,000", json!([])),
        ("YC010", "objects", json!([good(), 1])),
        ("YC010", "several calls", json!(many)),
        (
            "YC011",
            "message 1 of the array (id early) is older (2020-01-02T03:09:05.000Z)",
            json!([old("early", 9, alice, "x"), good()]),
        ),
        (
            "YC011",
            "than the one before it (2020-01-02T03:11:05.000Z)",
            with("created_at", json!("2020-01-02T03:11:04Z")),
        ),
        ("YC012", "message 2 of the array (id bad)", with("created_at", json!("2999-01-02T03:11:04Z"))),
        ("YC012", "no created_at", with("created_at", Value::Null)),
        ("YC012", "its created_at is infinite", with("created_at", json!("infinity"))),
        ("YC012", "no sender_id", with("sender_id", Value::Null)),
        ("YC012", "no id", with("id", Value::Null)),
        ("YC012", "no id", with("id", json!("x".repeat(129)))),
        ("YC012", "message 1 has the same id", with("id", json!("good"))),
        ("YC012", "must be a JSON object", with("body", json!("text"))),
        ("YC012", "replies to later", with("reply_to", json!("later"))),
        ("YC012", "replies to bad", with("reply_to", json!("bad"))),
    ] {
        let error = import(&world, conversation, &history).await.unwrap_err();
        assert_eq!(state(&error), expected, "{error:?}");
        let report = error.as_db_error().unwrap();
        let text = format!("{} {}", report.message(), report.hint().unwrap());
        assert!(text.contains(part), "{part:?} in {text}");
        assert!(include_str!("../../../docs/backend.md").contains(&format!("| `{expected}` |")), "{expected}");
    }
    let unknown = import(&world, Uuid::new_v4(), &json!([good()])).await.unwrap_err();
    assert_eq!(state(&unknown), "YC001");
    assert_eq!(world.count("SELECT last_seq + message_count FROM conversations").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM imported_messages").await, 1);
    // After a live message nothing older comes.
    let live = "SELECT message_id FROM arcyou_send($1, $2, '{}')";
    world.sql.query_one(live, &[&conversation, &alice]).await.unwrap();
    assert_eq!(state(&import(&world, conversation, &json!([good()])).await.unwrap_err()), "YC011");
}

/// At its largest, whatever the planner thinks of empty tables.
#[tokio::test]
async fn ten_thousand_messages_are_one_call() {
    let world = World::new().await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    for part in 0..2 {
        let messages = (0..10_000).map(|number| {
            let message = old(&format!("{part}/{number}"), 1, alice, "x");
            if number % 10 == 9 { reply(message, &format!("{part}/{}", number - 5)) } else { message }
        });
        let imported = import(&world, conversation, &messages.collect()).await.unwrap();
        assert_eq!(imported, (10_000, 0, 10_000 * (part + 1)));
    }
    let right = "SELECT count(*) FROM messages m JOIN imported_messages i ON i.message_id = m.id
        JOIN messages r ON r.id = m.reply_to
        WHERE r.seq = m.seq - 5 AND i.source_id = format('%s/%s', (m.seq - 1) / 10000, (m.seq - 1) % 10000)";
    assert_eq!(world.count(right).await, 2_000);
}
