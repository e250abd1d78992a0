//! The chat path as clients see it: the walk-through, joining and resuming, repeats, reading, removal.

use arcyou_platform::contract::PubSubMode;
use serde_json::json;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

fn users() -> [Uuid; 2] {
    [Uuid::new_v4(), Uuid::new_v4()]
}

#[tokio::test]
async fn two_users_chat_through_two_gateways_and_three_workers() {
    let world = World::new().await;
    let (one, two) = (world.gateway().await, world.gateway().await);
    let workers = [world.worker().await, world.worker().await, world.worker().await];
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(one.port, alice, conversation).await;
    let mut b = Client::joined(two.port, bob, conversation).await;
    // Both talk at once, and all that they say is under way at once.
    let send = |text: &str| json!({"op": "send", "conversation_id": conversation, "body": {"text": text}}).to_string();
    for _ in 0..50 {
        tokio::join!(a.send_text(send("from a")), b.send_text(send("from b")));
    }
    let mut seen = Vec::new();
    for client in [&mut a, &mut b] {
        let (mut events, mut replies) = (Vec::new(), 0);
        while events.len() < 100 || replies < 50 {
            let frame = client.next().await;
            if frame["op"] == "send" {
                assert_eq!(frame["status"], "stored");
                replies += 1;
            } else {
                events.push((frame["message"]["seq"].as_i64().unwrap(), frame["message"]["body"]["text"].clone()));
            }
        }
        assert!(events.iter().zip(1..).all(|((seq, _), expected)| *seq == expected), "{events:?}");
        seen.push(events);
    }
    assert_eq!(seen[0], seen[1], "both see the same order");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 100);
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    for part in [one, two].into_iter().chain(workers) {
        part.stop().await;
    }
}

#[tokio::test]
async fn frames_have_the_documented_shapes() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut client = Client::connect(gateway.port).await;
    assert_eq!(
        client.request(json!({"op": "auth", "token": alice})).await,
        json!({"op": "auth", "success": true, "userId": alice, "ref": 1,
            "limits": {"frames_per_second": 0, "frames_burst": 0, "max_frame_bytes": 65_536, "max_body_bytes": 32_768,
                "max_joined": 1000, "max_join_list": 500, "joins_per_frame": 20}})
    );
    let mut nobody = Client::connect(gateway.port).await;
    assert_eq!(nobody.request(json!({"op": "ping"})).await, json!({"op": "ping", "success": true, "ref": 1}));
    let upper = conversation.to_string().to_uppercase();
    assert_eq!(
        client.request(json!({"op": "join", "conversationId": upper})).await,
        json!({"op": "join", "success": true, "conversation_id": conversation, "conversationId": conversation,
            "last_seq": 0, "last_read_id": 0, "role": "member", "ref": 2})
    );
    let body = json!({"text": "Hello!", "nested": {"list": [1, 2.5, null]}});
    let send = json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": "temp-123"});
    let reply = client.request(send).await;
    let (id, created_at) = (reply["message_id"].as_i64().unwrap(), reply["created_at"].as_str().unwrap());
    assert_eq!(
        reply,
        json!({"op": "send", "success": true, "status": "stored", "message_id": id, "seq": 1, "created_at": created_at,
            "temp_id": "temp-123", "ref": 3})
    );
    let message = json!({"id": id, "n": 1, "seq": 1, "changed_seq": 1, "version": 1, "conversation_id": conversation,
        "sender_id": alice, "body": body, "created_at": created_at});
    assert_eq!(
        client.event().await,
        json!({"op": "event", "type": "message.created", "source": "live", "seq": 1, "message": message,
            "conversation_id": conversation, "conversationId": conversation, "temp_id": "temp-123"})
    );
    assert_eq!(
        client.request(json!({"op": "history", "conversation_id": conversation})).await,
        json!({"op": "history", "success": true, "conversation_id": conversation, "conversationId": conversation,
            "messages": [message], "as_of_seq": 1, "has_more": false, "ref": 4})
    );
    assert_eq!(
        client.request(json!({"op": "ack", "conversation_id": conversation, "last_read_id": id})).await,
        json!({"op": "ack", "success": true, "conversation_id": conversation, "conversationId": conversation,
            "last_read_id": id, "ref": 5})
    );
    let read = client.event().await;
    assert_eq!(
        (&read["type"], &read["user_id"], &read["last_read_id"]),
        (&json!("message.read"), &json!(alice), &json!(id))
    );
    assert!(read["event_id"].is_i64());
    assert_eq!(
        client.request(json!({"op": "leave", "conversation_id": conversation})).await,
        json!({"op": "leave", "success": true, "conversation_id": conversation, "conversationId": conversation, "ref": 6})
    );
}

#[tokio::test]
async fn a_client_may_send_everything_before_the_first_answer() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, _] = users();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::connect(gateway.port).await;
    client.send_text(json!({"op": "auth", "token": alice}).to_string()).await;
    client.send_text(json!({"op": "join", "conversation_id": conversation}).to_string()).await;
    for number in 0..100 {
        let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}, "temp_id": number});
        client.send_text(send.to_string()).await;
    }
    client.send_text(r#"{"op":"fly","temp_id":100}"#).await;
    let mut frames = Vec::new();
    while frames.len() < 203 {
        frames.push(client.next().await);
    }
    let replies: Vec<_> = frames.iter().filter(|frame| frame["op"] == "send").collect();
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!((&reply["temp_id"], &reply["seq"]), (&json!(number), &json!(number + 1)));
    }
    // Even a refusal waits for its turn.
    let answered = |frame: &serde_json::Value| frame["temp_id"].as_i64().filter(|_| frame["op"] != "event");
    assert_eq!(frames.iter().filter_map(answered).collect::<Vec<_>>(), (0..=100).collect::<Vec<_>>());
    let events: Vec<_> = frames.iter().filter(|frame| frame["op"] == "event").collect();
    let seqs: Vec<_> = events.iter().map(|event| event["message"]["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_repeated_key_is_stored_once() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    let mut b = Client::authenticated(gateway.port, bob).await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "once"}, "idempotency_key": "k"});
    let first = a.ok(send.clone()).await;
    let again = a.ok(send.clone()).await;
    assert_eq!(first.get("duplicate"), None);
    assert_eq!(again["duplicate"], true);
    assert_eq!((&again["message_id"], &again["created_at"]), (&first["message_id"], &first["created_at"]));
    // The key belongs to its sender.
    assert_eq!(b.ok(send.clone()).await["seq"], 2);
    // Two in one batch, from sockets of one user: one of them is the first.
    let mut racing = send;
    racing["idempotency_key"] = json!("race");
    let mut other = Client::authenticated(gateway.port, alice).await;
    let (one, two) = tokio::join!(a.ok(racing.clone()), other.ok(racing));
    assert_eq!((&one["message_id"], &one["seq"]), (&two["message_id"], &json!(3)));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 3);
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, 3);
}

#[tokio::test]
async fn a_resuming_client_misses_nothing_and_sees_nothing_twice() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut ids = Vec::new();
    for _ in 0..250 {
        ids.push(a.say(conversation, "x").await["message_id"].as_i64().unwrap());
    }
    let mut b = Client::authenticated(gateway.port, bob).await;
    let join = json!({"op": "join", "conversation_id": conversation, "after_seq": 20});
    let (joined, ()) = tokio::join!(b.ok(join), async {
        for _ in 0..50 {
            a.say(conversation, "x").await;
        }
    });
    assert_eq!(joined["resumed"], true);
    for seq in 21..=300 {
        assert_eq!(b.message().await.1, seq);
    }
    let mut c = Client::authenticated(gateway.port, bob).await;
    c.ok(json!({"op": "join", "conversation_id": conversation, "after_id": ids[248]})).await;
    let event = c.event().await;
    assert_eq!((&event["source"], &event["message"]["seq"]), (&json!("backfill"), &json!(250)));
    let unknown = json!({"op": "join", "conversation_id": conversation, "after_seq": 1000});
    assert_eq!(c.code(unknown).await, "unknown_message");
    let unknown = json!({"op": "join", "conversation_id": conversation, "after_id": 1_000_000});
    assert_eq!(c.code(unknown).await, "unknown_message");
}

#[tokio::test]
async fn a_second_join_leaves_the_first_alone() {
    let world = World::new().await;
    let (gateway, _worker) =
        (world.gateway_with(&[("PUBSUB_MODE", "perconv")]).await, world.worker_in(PubSubMode::PerConversation).await);
    let [alice, _] = users();
    let (one, two) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    let mut client = Client::joined(gateway.port, alice, one).await;
    client.ok(json!({"op": "join", "conversation_id": two})).await;
    client.say(one, "one").await;
    assert_eq!(client.message().await.0, "one");
    client.say(two, "two").await;
    assert_eq!(client.message().await.0, "two");
    // Joined again, nothing is lost or repeated.
    client.say(one, "again").await;
    client.ok(json!({"op": "join", "conversation_id": one})).await;
    client.say(one, "and again").await;
    assert_eq!([client.message().await.0, client.message().await.0], ["again", "and again"]);
}

#[tokio::test]
async fn what_comes_while_one_joins_again_is_not_repeated() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    let mut neighbour = Client::joined(gateway.port, bob, conversation).await;
    client.say(conversation, "one").await;
    // The second join waits for the database, and what comes is for the first one.
    let holder = world.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE participants IN ACCESS EXCLUSIVE MODE").await.unwrap();
    client.send_text(json!({"op": "join", "conversation_id": conversation}).to_string()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE '%p.last_read_id, c.last_seq%'";
    world.eventually(waiting, 1).await;
    let _worker = world.worker().await;
    assert_eq!(neighbour.message().await.0, "one");
    holder.batch_execute("COMMIT").await.unwrap();
    let mut frames = [client.next().await, client.next().await];
    frames.sort_by_key(|frame| frame["op"] == "event");
    let [joined, one] = frames;
    assert_eq!((&joined["op"], &joined["success"]), (&json!("join"), &json!(true)), "{joined}");
    assert_eq!(one["message"]["body"]["text"], "one", "{one}");
    client.say(conversation, "two").await;
    assert_eq!(client.message().await.0, "two");
}

#[tokio::test]
async fn history_pages_both_ways() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, stranger] = users();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    for _ in 0..10 {
        client.say(conversation, "x").await;
    }
    let mut page = async |extra: serde_json::Value| {
        let mut request = json!({"op": "history", "conversation_id": conversation, "limit": 4});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = client.ok(request).await;
        let seqs: Vec<i64> =
            reply["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect();
        (seqs, reply["has_more"].as_bool().unwrap())
    };
    assert_eq!(page(json!({})).await, (vec![10, 9, 8, 7], true));
    assert_eq!(page(json!({"before_seq": 4})).await, (vec![3, 2, 1], false));
    assert_eq!(page(json!({"after_seq": 0})).await, (vec![1, 2, 3, 4], true));
    assert_eq!(page(json!({"after_seq": 6})).await, (vec![7, 8, 9, 10], false));
    assert_eq!(page(json!({"after_seq": 10})).await, (vec![], false));
    let mut other = Client::authenticated(gateway.port, stranger).await;
    assert_eq!(other.code(json!({"op": "history", "conversation_id": conversation})).await, "not_participant");
}

#[tokio::test]
async fn a_mark_moves_forward_only_and_never_beyond_what_exists() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let elsewhere = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let first = client.say(conversation, "1").await["message_id"].as_i64().unwrap();
    assert_eq!(
        client.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": 0})).await["last_read_id"],
        0
    );
    let second = client.say(conversation, "2").await["message_id"].as_i64().unwrap();
    let foreign = client.say(elsewhere, "3").await["message_id"].as_i64().unwrap();
    let ack = |id: i64| json!({"op": "ack", "conversation_id": conversation, "last_read_id": id});
    assert_eq!(client.ok(ack(second)).await["last_read_id"], second);
    assert_eq!(client.ok(ack(first)).await["last_read_id"], second);
    assert_eq!(client.ok(ack(0)).await["last_read_id"], second, "nothing was read, and no mark moves");
    let by_a_stranger = json!({"op": "ack", "conversation_id": world.conversation(&[bob]).await, "last_read_id": 0});
    assert_eq!(client.code(by_a_stranger).await, "not_participant");
    assert_eq!(client.code(ack(foreign)).await, "unknown_message");
    assert_eq!(client.code(ack(i64::MAX)).await, "unknown_message");
    assert_eq!(world.count("SELECT count(*) FROM outbox WHERE type = 'message.read'").await, 1);
    let joined = client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    assert_eq!(joined["last_read_id"], second);
}

/// A mark that moves often costs the others little, and they hear of the last one.
#[tokio::test]
async fn a_mark_that_moves_often_is_told_now_and_then() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut writer = Client::authenticated(gateway.port, alice).await;
    let mut reader = Client::authenticated(gateway.port, bob).await;
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(writer.say(conversation, &number.to_string()).await["message_id"].as_i64().unwrap());
    }
    let mut observer = Client::joined(gateway.port, alice, conversation).await;
    let started = std::time::Instant::now();
    for id in &ids {
        reader.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": id})).await;
    }
    let mut told = Vec::new();
    while told.last() != ids.last() {
        let event = observer.event().await;
        assert_eq!((&event["type"], &event["user_id"]), (&json!("message.read"), &json!(bob)));
        told.push(event["last_read_id"].as_i64().unwrap());
    }
    assert_eq!(told[0], ids[0], "the first at once");
    // At least a second lies between one and the next, however slow this machine is.
    assert!(told.is_sorted() && told.len() as u64 <= started.elapsed().as_secs() + 2, "{told:?}");
    // What waits when the gateway stops is told as well.
    let last = writer.say(conversation, "last").await["message_id"].as_i64().unwrap();
    reader.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": last})).await;
    gateway.stop().await;
    let newest =
        "SELECT (payload->>'last_read_id')::bigint FROM outbox WHERE type = 'message.read' ORDER BY id DESC LIMIT 1";
    assert_eq!(world.count(newest).await, last);
}

#[tokio::test]
async fn a_removed_participant_loses_the_conversation_whoever_ran_the_sql() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&bob]).await.unwrap();
    for client in [&mut a, &mut b] {
        let event = client.event().await;
        assert_eq!((&event["type"], &event["user_id"]), (&json!("participant.removed"), &json!(bob)));
    }
    let lost = b.next().await;
    assert_eq!((&lost["op"], &lost["code"]), (&json!("join"), &json!("not_participant")), "{lost}");
    assert_eq!(lost["conversation_id"], json!(conversation));
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "still here?"}});
    assert_eq!(b.code(send).await, "not_participant");
    a.say(conversation, "alone").await;
    a.message().await;
    // Bob's next frame is the reply, not Alice's message.
    b.ok(json!({"op": "auth", "token": bob})).await;
    // Once told so, the gateway lets him back in with everything that he may see.
    world.join_sql(conversation, bob).await;
    let added = a.event().await;
    assert_eq!(
        (&added["type"], &added["user_id"], &added["role"]),
        (&json!("participant.added"), &json!(bob), &json!("member"))
    );
    b.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    assert_eq!(b.message().await, ("alone".to_owned(), 1));
    world.sql.execute("DELETE FROM conversations WHERE id = $1", &[&conversation]).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 0);
    assert_eq!(a.code(json!({"op": "history", "conversation_id": conversation})).await, "not_participant");
}

/// Events of the old one may still be on their way.
#[tokio::test]
async fn a_conversation_made_again_with_the_same_id_hears_nothing_of_the_old_one() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice]).await;
    let mut a = Client::authenticated(gateway.port, alice).await;
    for text in ["old 1", "old 2"] {
        a.say(conversation, text).await;
    }
    world.sql.execute("DELETE FROM conversations WHERE id = $1", &[&conversation]).await.unwrap();
    world.sql.execute("INSERT INTO conversations (id) VALUES ($1)", &[&conversation]).await.unwrap();
    world.join_sql(conversation, bob).await;
    let mut b = Client::authenticated(gateway.port, bob).await;
    let joined = b.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    assert_eq!(joined["last_seq"], 2, "its numbers go on");
    let _worker = world.worker().await;
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    b.say(conversation, "new").await;
    let message = loop {
        let event = b.event().await;
        // What happened to the old one may be told; it takes nothing away.
        if event["type"] == "message.created" {
            break event;
        }
    };
    assert_eq!(
        (&message["message"]["seq"], &message["message"]["body"]["text"]),
        (&json!(3), &json!("new")),
        "{message}"
    );
}

/// Its right is looked up now and then only, and yet ends at once: the transaction asks for itself.
#[tokio::test]
async fn one_who_has_not_joined_may_send_until_removed() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [alice, bob] = users();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, bob).await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "a notice"}});
    assert_eq!(client.code(send.clone()).await, "not_participant");
    world.join_sql(conversation, bob).await;
    for _ in 0..3 {
        client.ok(send.clone()).await;
    }
    world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&bob]).await.unwrap();
    assert_eq!(client.code(send).await, "not_participant");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 3);
}

#[tokio::test]
async fn any_service_may_send_an_event() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let [alice, _] = users();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    let payloads = [r#"{"name": "Lunch", "room": 7}"#, r#"{"name": "Forged", "op": "send", "seq": 9}"#, "[1, 2]"];
    for (kind, payload) in ["room.renamed", "forged", "poke"].into_iter().zip(payloads) {
        let insert = "INSERT INTO outbox (type, conversation_id, payload) VALUES ($1, $2, $3::text::jsonb)";
        world.sql.execute(insert, &[&kind, &conversation, &payload]).await.unwrap();
    }
    let renamed = client.event().await;
    assert_eq!((&renamed["type"], &renamed["name"]), (&json!("room.renamed"), &json!("Lunch")));
    assert_eq!(renamed["conversation_id"], json!(conversation));
    let forged = client.event().await;
    assert_eq!(
        (&forged["op"], forged.get("seq"), &forged["payload"]["name"]),
        (&json!("event"), None, &json!("Forged"))
    );
    assert_eq!(client.event().await["payload"], json!([1, 2]));
}
