//! Conversations in which nothing new is said, and users who are erased.

use arcyou_protocol::CloseCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::send::{Order, send, service};
use crate::state;
use crate::support::World;
use crate::support::client::Client;

fn say(conversation: Uuid) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}})
}

fn about(op: &str, conversation: Uuid, id: &Value) -> Value {
    json!({"op": op, "conversation_id": conversation, "message_id": id, "body": {"text": "y"}, "reaction": "+1"})
}

#[tokio::test]
async fn a_read_only_conversation_takes_nothing_new_and_lets_go_of_what_is_there() {
    let world = World::new().await;
    let (gateway, _worker, service) = (world.gateway().await, world.worker().await, service(&world).await);
    let alice = Uuid::new_v4();
    let (conversation, other) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    let mut keyed = say(conversation);
    keyed["idempotency_key"] = json!("k");
    let id = client.ok(keyed.clone()).await["message_id"].clone();
    client.ok(about("react", conversation, &id)).await;
    let set = |value: bool| format!("UPDATE public.conversations SET read_only = {value} WHERE id = '{conversation}'");
    service.batch_execute(&set(true)).await.unwrap();
    let mut another = about("react", conversation, &id);
    another["reaction"] = json!("-1");
    for request in [say(conversation), about("edit", conversation, &id), another.clone()] {
        assert_eq!(client.code(request).await, "conversation_read_only");
    }
    let refused = send(&service, &Order::of(conversation, alice, "{}")).await.unwrap_err();
    assert_eq!(state(&refused), "YC007");
    // What was stored before is answered as before; reading, marks and other conversations go on.
    assert_eq!(client.ok(keyed).await["duplicate"], true);
    client.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": id})).await;
    assert_eq!(client.ok(json!({"op": "history", "conversation_id": conversation})).await["messages"][0]["id"], id);
    client.ok(say(other)).await;
    // A stranger learns nothing of it.
    let mut stranger = Client::authenticated(gateway.port, Uuid::new_v4()).await;
    assert_eq!(stranger.code(say(conversation)).await, "not_participant");
    let mut back = about("react", conversation, &id);
    back["remove"] = json!(true);
    client.ok(back).await;
    client.ok(about("delete", conversation, &id)).await;
    service.batch_execute(&set(false)).await.unwrap();
    assert_eq!(client.ok(say(conversation)).await["seq"], 5);
}

#[tokio::test]
async fn an_erased_user_leaves_places_and_no_text() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(world.conversation(&[alice, bob]).await);
    }
    let mut bobs = Client::authenticated(gateway.port, bob).await;
    let mut alices = Client::authenticated(gateway.port, alice).await;
    for room in &rooms {
        for number in 0..5 {
            let id = bobs.say(*room, "secret").await["message_id"].clone();
            let mut edit = about("edit", *room, &id);
            edit["body"]["text"] = json!("secret edit");
            bobs.ok(edit).await;
            let mut reply = say(*room);
            reply["reply_to"] = id;
            reply["body"]["text"] = json!(format!("kept {number}"));
            let kept = alices.ok(reply).await["message_id"].clone();
            bobs.ok(about("react", *room, &kept)).await;
        }
    }
    let hold = "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason) VALUES ($1, $2, '{\"text\": \"secret\"}', 'x', 'y')";
    world.sql.execute(hold, &[&rooms[0], &bob]).await.unwrap();
    let noted = "INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, sha256, reason) VALUES ($1, $2, 'rejected', 'x', 'y', 'secret')";
    world.sql.execute(noted, &[&rooms[0], &bob]).await.unwrap();
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    let mut listener = Client::joined(gateway.port, alice, rooms[0]).await;

    let (mut place, mut deleted): ((Option<Uuid>, Option<i64>), i64) = ((None, None), 0);
    loop {
        let call = "SELECT after_conversation, after_seq, deleted FROM arcyou_erase_user($1, $2, $3, 7)";
        let row = world.sql.query_one(call, &[&bob, &place.0, &place.1]).await.unwrap();
        place = (row.get(0), row.get(1));
        deleted += row.get::<_, i64>(2);
        if place.0.is_none() {
            break;
        }
    }
    assert_eq!(deleted, 15);
    for most in ["0", "-5", "NULL"] {
        let call = format!("SELECT arcyou_erase_user('{bob}', '{}', 1, {most})", rooms[0]);
        let error = world.sql.batch_execute(&call).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "YC005", "{error:?}");
    }
    let anywhere = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'
        AND query_to_xml(format('SELECT * FROM %I', tablename), false, false, '')::text LIKE '%secret%'";
    assert_eq!(world.count(anywhere).await, 0);
    let standing = "SELECT count(*) FROM messages WHERE body ->> 'text' LIKE 'kept %' AND reactions IS NULL";
    assert_eq!(world.count(standing).await, 15);
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE deleted_at IS NOT NULL").await, 15);
    assert_eq!(world.count("SELECT count(*) FROM participants").await, 3);
    assert_eq!(world.count("SELECT min(last_seq) FROM conversations").await, 30);
    // Everybody is told, in order.
    let mut seq = 20;
    let mut told = Vec::new();
    while seq < 30 {
        let event = listener.event().await;
        if let Some(next) = event["seq"].as_i64() {
            seq += 1;
            assert_eq!(next, seq, "{event}");
        }
        told.push(event["type"].as_str().unwrap().to_owned());
    }
    for (kind, count) in [("participant.removed", 1), ("message.deleted", 5), ("reaction.removed", 5)] {
        assert_eq!(told.iter().filter(|told| *told == kind).count(), count, "{told:?}");
    }
    assert_eq!(bobs.closed().await, Some(CloseCode::Disconnected.value()));
}
