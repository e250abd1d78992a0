//! Who may change what, and for how long.

use serde_json::json;
use uuid::Uuid;

use super::{Room, delete, edit, react};
use crate::support::World;
use crate::support::client::Client;

#[tokio::test]
async fn authors_change_their_own_and_moderators_delete() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "one").await["message_id"].clone();
    assert_eq!(room.bob.code(edit(conversation, &id, "x")).await, "not_author");
    assert_eq!(room.bob.code(delete(conversation, &id)).await, "not_author");
    let promote = "UPDATE participants SET role = 'moderator' WHERE user_id = $1";
    room.world.sql.execute(promote, &[&room.users[1]]).await.unwrap();
    assert_eq!(room.bob.code(edit(conversation, &id, "x")).await, "not_author");
    room.bob.ok(delete(conversation, &id)).await;
    // A stranger learns nothing, and one who was removed changes nothing.
    let mut stranger = Client::authenticated(room.gateway.port, Uuid::new_v4()).await;
    let id = room.alice.say(conversation, "two").await["message_id"].clone();
    for request in [edit(conversation, &id, "x"), delete(conversation, &id), react(conversation, &id, "+1")] {
        assert_eq!(stranger.code(request).await, "not_participant");
    }
    let elsewhere = room.world.conversation(&[room.users[0]]).await;
    for (conversation, id) in [(elsewhere, id.clone()), (conversation, json!(9_999)), (conversation, json!(0))] {
        for request in [edit(conversation, &id, "x"), delete(conversation, &id), react(conversation, &id, "+1")] {
            assert_eq!(room.alice.code(request).await, "unknown_message");
        }
        let reply = json!({"op": "send", "conversation_id": conversation, "body": {}, "reply_to": id});
        assert_eq!(room.alice.code(reply).await, "unknown_message");
    }
    room.world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&room.users[0]]).await.unwrap();
    let code = room.alice.code(edit(conversation, &id, "x")).await;
    assert_eq!(code, "not_participant");
}

#[tokio::test]
async fn the_rules_are_the_operators() {
    let world = World::new().await;
    let settings = [("DELETE_ROLES", "chair"), ("EDIT_WINDOW_SECONDS", "3600")];
    let gateway = world.gateway_with(&settings).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut alices = Client::joined(gateway.port, alice, conversation).await;
    let mut bobs = Client::joined(gateway.port, bob, conversation).await;
    let id = alices.say(conversation, "one").await["message_id"].clone();
    alices.ok(edit(conversation, &id, "two")).await;
    world.sql.batch_execute("UPDATE messages SET created_at = now() - interval '2 hours'").await.unwrap();
    assert_eq!(alices.code(edit(conversation, &id, "three")).await, "edit_too_late");
    for (role, code) in [("moderator", "not_author"), ("chair", "ok")] {
        world.sql.execute("UPDATE participants SET role = $2 WHERE user_id = $1", &[&bob, &role]).await.unwrap();
        let reply = bobs.request(delete(conversation, &id)).await;
        assert_eq!(reply["code"].as_str().unwrap_or("ok"), code, "{reply}");
    }
}

#[tokio::test]
async fn a_message_has_so_many_different_reactions() {
    let mut room = Room::new().await;
    let conversation = room.conversation;
    let id = room.alice.say(conversation, "one").await["message_id"].clone();
    for number in 0..50 {
        room.alice.ok(react(conversation, &id, &format!("r{number}"))).await;
    }
    assert_eq!(room.alice.code(react(conversation, &id, "one-more")).await, "too_many_reactions");
    assert_eq!(room.bob.ok(react(conversation, &id, "r7")).await["count"], 2);
}
