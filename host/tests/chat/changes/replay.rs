//! What was missed, however it is caught up.

use serde_json::{Value, json};

use super::{Room, edit};
use crate::support::client::Client;

#[tokio::test]
async fn ten_thousand_changes_are_caught_up_like_messages() {
    const EACH: i64 = 200;
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "one").await["message_id"].clone();
    // What these statements make is what single requests make.
    let fill = "SELECT count(*) FROM store_changes(
        array_fill('message.edited'::text, ARRAY[50]) || array_fill('message.created'::text, ARRAY[50]),
        array_fill($1::uuid, ARRAY[100]), array_fill($2::uuid, ARRAY[100]), array_fill('{\"text\": \"x\"}'::text, ARRAY[100]),
        array_fill(NULL::bigint, ARRAY[100]), array_fill(NULL::text, ARRAY[100]), array_fill(NULL::text, ARRAY[100]),
        array_fill(NULL::text, ARRAY[100]), array_fill(NULL::text, ARRAY[100]), true, NULL, NULL, NULL,
        array_fill($3::bigint, ARRAY[100]), array_fill(NULL::integer, ARRAY[100]), array_fill(NULL::text, ARRAY[100]),
        '{}', NULL, 50) AS stored";
    let message = id.as_i64().unwrap();
    for _ in 0..EACH {
        room.world.sql.query(fill, &[&conversation, &room.users[0], &message]).await.unwrap();
    }
    let last = room.world.count("SELECT last_seq FROM conversations").await;
    assert_eq!(last, 1 + EACH * 100);
    // More than a client is caught up with at once: it pages history, and joins after that.
    let mut late = Client::authenticated(room.gateway.port, room.users[1]).await;
    let joined = late.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": last - 10_000})).await;
    assert_eq!(joined["resumed"], true);
    for seq in last - 9_999..=last {
        let event = late.event().await;
        assert_eq!(event["seq"], seq, "{event}");
        let newest = event["seq"] == json!(last - 50) || event["type"] == "message.created";
        assert_eq!(event["overtaken"].is_null(), newest, "{event}");
    }
}

#[tokio::test]
async fn history_shows_what_stands_around_a_place_and_of_a_thread() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let mut ids = Vec::new();
    for number in 1..=9 {
        ids.push(room.alice.say(conversation, &format!("m{number}")).await["message_id"].clone());
    }
    for (text, reply_to) in [("r1", &ids[2]), ("r2", &ids[2]), ("other", &ids[4]), ("r3", &ids[2])] {
        let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": text}, "reply_to": reply_to});
        room.bob.ok(send).await;
    }
    room.alice.ok(edit(conversation, &ids[2], "root")).await;
    let mut ask = async |more: Value| {
        let mut request = json!({"op": "history", "conversation_id": conversation});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = room.bob.ok(request).await;
        let texts: Vec<String> =
            reply["messages"].as_array().unwrap().iter().map(|m| m["body"]["text"].as_str().unwrap().into()).collect();
        assert_eq!(reply["as_of_seq"], 14);
        (texts, reply["has_more_before"].as_bool(), reply["has_more"].as_bool())
    };
    let texts = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(ask(json!({"around_seq": 5, "limit": 4})).await, (texts("root m4 m5 m6"), yes, yes));
    assert_eq!(ask(json!({"around_seq": 1, "limit": 3})).await, (texts("m1 m2"), no, yes));
    assert_eq!(ask(json!({"around_seq": 13, "limit": 4})).await, (texts("r2 other r3"), yes, no));
    let thread = ids[2].clone();
    assert_eq!(ask(json!({"thread": thread, "after_seq": 0})).await, (texts("root r1 r2 r3"), None, no));
    assert_eq!(ask(json!({"thread": thread, "limit": 2})).await, (texts("r3 r2"), None, yes));
    assert_eq!(ask(json!({"thread": thread, "before_seq": 11})).await, (texts("r1 root"), None, no));
    let mut request = json!({"op": "history", "conversation_id": conversation, "before_seq": 2, "around_seq": 2});
    assert_eq!(room.bob.code(request.take()).await, "invalid_field");
}
