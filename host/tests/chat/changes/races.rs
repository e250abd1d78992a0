//! Changes that meet: decided under the conversation's lock.

use serde_json::{Value, json};

use super::{Room, delete, edit, next, react, told};
use crate::support::World;

#[tokio::test]
async fn of_two_edits_of_one_version_one_is_made() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "one").await["message_id"].clone();
    let mut meant = edit(conversation, &id, "two");
    meant["if_version"] = json!(1);
    for request in [meant.clone(), meant] {
        room.alice.send_text(request.to_string()).await;
    }
    let mut replies = Vec::new();
    while replies.len() < 2 {
        let frame = room.alice.next().await;
        replies.extend(Some(frame).filter(|frame| frame["op"] == "edit"));
    }
    assert_eq!((&replies[0]["version"], &replies[1]["code"]), (&json!(2), &json!("version_conflict")));
    assert_eq!(replies[1]["version"], 2, "the one that stands");
    assert_eq!(room.world.count("SELECT last_seq FROM conversations").await, 2);
}

/// All that a socket asks for in one go is in one batch; so is what others ask for at the same time.
#[tokio::test]
async fn a_batch_keeps_the_order_of_each_sockets_requests() {
    for partitioned in [false, true] {
        let world = if partitioned { World::partitioned().await } else { World::new().await };
        let mut room = Room::of(world).await;
        let conversation = room.conversation;
        let id = room.alice.say(conversation, "start").await["message_id"].clone();
        next(&mut room.alice, 1).await;
        next(&mut room.bob, 1).await;
        let holder = room.world.connect().await;
        holder.batch_execute("BEGIN; SELECT FROM conversations FOR UPDATE").await.unwrap();
        let send = |text: &str| json!({"op": "send", "conversation_id": conversation, "body": {"text": text}});
        let requests = [
            send("a"),
            edit(conversation, &id, "v2"),
            send("b"),
            send("c"),
            react(conversation, &id, "+1"),
            edit(conversation, &id, "v3"),
            delete(conversation, &id),
            edit(conversation, &id, "v4"),
            send("d"),
        ];
        for request in &requests {
            room.alice.send_text(request.to_string()).await;
        }
        room.world.eventually("SELECT count(*) FROM pg_locks WHERE NOT granted", 1).await;
        holder.batch_execute("COMMIT").await.unwrap();
        let mut answers = Vec::new();
        while answers.len() < requests.len() {
            let frame = room.alice.next().await;
            if frame["op"] != "event" {
                answers.push(frame["seq"].as_i64());
            }
        }
        let expected = [Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(8), None, Some(9)];
        assert_eq!(answers, expected);
        // What was overtaken before it was relayed tells no text any more.
        let mut heard: Vec<Value> = Vec::new();
        while heard.len() < 8 {
            heard.push(told(&room.bob.event().await));
        }
        let seqs: Vec<i64> = heard.iter().map(|event| event[1].as_i64().unwrap()).collect();
        assert_eq!(seqs, (2..=9).collect::<Vec<_>>());
        assert_eq!(heard[6], json!(["message.deleted", 8, null, 4]));
    }
}
