//! Edits, deletions, reactions and replies: one sequence carries them all.

mod erasure;
mod limits;
mod races;
mod replay;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

/// What an event tells, in short: its type, its place, and the text, version or reaction that it brings.
fn told(event: &Value) -> Value {
    let kind = &event["type"];
    assert_eq!(event["op"], "event", "{event}");
    if event["overtaken"] == true {
        return json!([kind, event["seq"], "overtaken"]);
    }
    match event["message"].as_object() {
        Some(message) => json!([kind, event["seq"], message["body"]["text"], message["version"]]),
        None => json!([kind, event["seq"], event["reaction"], event["count"]]),
    }
}

/// The same for the next events of a client.
async fn next(client: &mut Client, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(told(&client.event().await));
    }
    events
}

fn edit(conversation: Uuid, message: &Value, text: &str) -> Value {
    json!({"op": "edit", "conversation_id": conversation, "message_id": message, "body": {"text": text}})
}

fn delete(conversation: Uuid, message: &Value) -> Value {
    json!({"op": "delete", "conversation_id": conversation, "message_id": message})
}

fn react(conversation: Uuid, message: &Value, reaction: &str) -> Value {
    json!({"op": "react", "conversation_id": conversation, "message_id": message, "reaction": reaction})
}

fn unreact(conversation: Uuid, message: &Value, reaction: &str) -> Value {
    let mut request = react(conversation, message, reaction);
    request["remove"] = json!(true);
    request
}

/// A gateway, a worker, and a conversation that Alice and Bob have joined.
struct Room {
    world: World,
    gateway: crate::support::gateway::Running,
    _worker: crate::support::gateway::Running,
    conversation: Uuid,
    users: [Uuid; 2],
    alice: Client,
    bob: Client,
}

impl Room {
    async fn new() -> Self {
        Self::of(World::new().await).await
    }

    async fn of(world: World) -> Self {
        let (gateway, worker) = (world.gateway().await, world.worker().await);
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let conversation = world.conversation(&users).await;
        let alice = Client::joined(gateway.port, users[0], conversation).await;
        let bob = Client::joined(gateway.port, users[1], conversation).await;
        Self { world, gateway, _worker: worker, conversation, users, alice, bob }
    }

    /// Bob on a socket that has seen nothing.
    async fn late_bob(&self) -> Client {
        let mut late = Client::authenticated(self.gateway.port, self.users[1]).await;
        late.ok(json!({"op": "join", "conversation_id": self.conversation, "after_seq": 0})).await;
        late
    }
}

#[tokio::test]
async fn two_people_change_what_they_said() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let (alice, bob) = (&mut room.alice, &mut room.bob);
    let first = alice.say(conversation, "helo").await["message_id"].clone();
    let mut reply = json!({"op": "send", "conversation_id": conversation, "body": {"text": "hi"}, "reply_to": first});
    let second = bob.ok(reply.clone()).await["message_id"].clone();
    let edited = alice.ok(edit(conversation, &first, "hello")).await;
    assert_eq!(
        (&edited["status"], &edited["seq"], &edited["version"], &edited["message_id"]),
        (&json!("stored"), &json!(3), &json!(2), &first),
        "{edited}"
    );
    let reacted = bob.ok(react(conversation, &first, "+1")).await;
    assert_eq!((&reacted["seq"], &reacted["count"]), (&json!(4), &json!(1)), "{reacted}");
    assert_eq!(alice.ok(react(conversation, &first, "+1")).await["count"], 2);
    assert_eq!(bob.ok(unreact(conversation, &first, "+1")).await["count"], 1);
    let deleted = bob.ok(delete(conversation, &second)).await;
    assert_eq!((&deleted["seq"], &deleted["version"]), (&json!(7), &json!(2)), "{deleted}");
    let expected = json!([
        ["message.created", 1, "helo", 1],
        ["message.created", 2, "hi", 1],
        ["message.edited", 3, "hello", 2],
        ["reaction.added", 4, "+1", 1],
        ["reaction.added", 5, "+1", 2],
        ["reaction.removed", 6, "+1", 1],
        ["message.deleted", 7, null, 2],
    ]);
    for client in [alice, bob] {
        assert_eq!(json!(next(client, 7).await), expected);
    }
    // Whoever was away gets the same places, and no text that does not stand.
    let expected = json!([
        ["message.created", 1, "hello", 2],
        ["message.created", 2, null, 2],
        ["message.edited", 3, "hello", 2],
        ["reaction.added", 4, "+1", 1],
        ["reaction.added", 5, "+1", 2],
        ["reaction.removed", 6, "+1", 1],
        ["message.deleted", 7, null, 2],
    ]);
    assert_eq!(json!(next(&mut room.late_bob().await, 7).await), expected);
    // History has what stands, as of a place that a join goes on from.
    let history = room.bob.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 0})).await;
    assert_eq!((&history["as_of_seq"], &history["has_more"]), (&json!(7), &json!(false)));
    let [hello, gone] = history["messages"].as_array().unwrap().as_slice() else { panic!("{history}") };
    assert_eq!(
        (&hello["body"]["text"], &hello["n"], &hello["seq"], &hello["changed_seq"], &hello["version"]),
        (&json!("hello"), &json!(1), &json!(1), &json!(6), &json!(2))
    );
    assert_eq!(hello["reactions"], json!([{"reaction": "+1", "count": 1, "own": false}]));
    assert!(hello["edited_at"].is_string() && hello.get("deleted_at").is_none(), "{hello}");
    assert_eq!((&gone["body"], &gone["n"], &gone["reply_to"]), (&Value::Null, &json!(2), &first));
    assert!(gone["deleted_at"].is_string(), "{gone}");
    // A reply to what is deleted is refused, and so is whatever else would change it.
    reply["reply_to"] = second.clone();
    for request in [reply, edit(conversation, &second, "x"), react(conversation, &second, "x")] {
        assert_eq!(room.bob.code(request).await, "message_deleted");
    }
    assert_eq!(room.world.count("SELECT last_seq FROM conversations").await, 7);
    assert_eq!(room.world.count("SELECT message_count FROM conversations").await, 2);
}

#[tokio::test]
async fn a_change_answers_its_repeats_with_what_it_made() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let (alice, bob) = (&mut room.alice, &mut room.bob);
    let id = alice.say(conversation, "one").await["message_id"].clone();
    let mut keyed = edit(conversation, &id, "two");
    keyed["idempotency_key"] = json!("k");
    let first = alice.ok(keyed.clone()).await;
    alice.ok(edit(conversation, &id, "three")).await;
    let again = alice.ok(keyed.clone()).await;
    assert_eq!(
        (&again["seq"], &again["version"], &again["edited_at"], &again["duplicate"]),
        (&first["seq"], &first["version"], &first["edited_at"], &json!(true))
    );
    // With the text that stands, since it is another one than this request has.
    assert_eq!((first.get("body"), &again["body"]), (None, &json!({"text": "three"})));
    // Nor is it one for another message.
    let other = alice.say(conversation, "other").await["message_id"].clone();
    keyed["message_id"] = other.clone();
    assert_eq!(alice.code(keyed.clone()).await, "key_reused");
    alice.ok(delete(conversation, &other)).await;
    keyed["message_id"] = id.clone();
    // The key is the sender's: Bob may not edit it, whatever key he names. And a send's keys are others.
    assert_eq!(bob.code(keyed).await, "not_author");
    let sent = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}, "idempotency_key": "k"});
    assert_eq!(alice.ok(sent).await["duplicate"], Value::Null);
    let added = bob.ok(react(conversation, &id, "+1")).await;
    let again = bob.ok(react(conversation, &id, "+1")).await;
    assert_eq!((&again["seq"], &again["count"], &again["duplicate"]), (&added["seq"], &json!(1), &json!(true)));
    let nothing = bob.ok(unreact(conversation, &id, "-1")).await;
    assert_eq!((&nothing["seq"], &nothing["count"]), (&Value::Null, &json!(0)));
    assert_eq!(nothing["duplicate"], true);
    let gone = alice.ok(delete(conversation, &id)).await;
    let again = alice.ok(delete(conversation, &id)).await;
    assert_eq!((&again["seq"], &again["version"]), (&gone["seq"], &gone["version"]));
    assert_eq!(again["duplicate"], true);
    assert_eq!(room.world.count("SELECT last_seq FROM conversations").await, 8);
}

#[tokio::test]
async fn a_socket_gets_its_own_change_after_the_reply_with_its_temp_id() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "one").await["message_id"].clone();
    room.alice.event().await;
    for (number, mut request) in
        [edit(conversation, &id, "two"), react(conversation, &id, "+1"), delete(conversation, &id)]
            .into_iter()
            .enumerate()
    {
        request["temp_id"] = json!(format!("t{number}"));
        room.alice.send_text(request.to_string()).await;
        let (reply, event) = (room.alice.next().await, room.alice.next().await);
        assert_eq!((&reply["op"], &event["op"]), (&request["op"], &json!("event")), "{reply} {event}");
        assert_eq!((&event["temp_id"], &event["seq"]), (&request["temp_id"], &reply["seq"]));
    }
    for _ in 0..4 {
        assert_eq!(room.bob.event().await.get("temp_id"), None);
    }
}
