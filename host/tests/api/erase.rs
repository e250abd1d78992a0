//! Users who are erased over HTTP, a part with each request.

use arcyou_protocol::CloseCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{Service, key};
use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::{LOCKED_OUT, World};

/// Repeats the request until all is done; answers how many requests that took, and how many messages were deleted.
async fn erase(service: &Service, user: Uuid) -> (usize, i64) {
    let (mut requests, mut deleted, mut after) = (0, 0, String::new());
    loop {
        let answer = service.post(&format!("/users/{user}/erase{after}"), Value::Null).await;
        // What a test holds may be held for longer than it meant.
        if answer.status == 503 {
            continue;
        }
        let answer = answer.ok(200);
        assert_eq!(answer["user_id"], json!(user));
        requests += 1;
        deleted += answer["deleted"].as_i64().unwrap();
        let Some(next) = answer["next"].as_str() else { return (requests, deleted) };
        after = format!("?after={next}");
    }
}

#[tokio::test]
async fn an_erased_user_is_disconnected_and_leaves_places_without_text() {
    let world = World::new().await;
    world.grant_rights().await;
    let login = world.login(Some("arcyou_gateway")).await;
    // With the rights that a gateway has, and no other.
    let gateway = world.gateway_with(&[("DATABASE_URL", login.url())]).await;
    let _worker = world.worker().await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(world.conversation(&[alice, bob]).await);
    }
    let mut bobs = Client::joined(gateway.port, bob, rooms[0]).await;
    let mut alices = Client::joined(gateway.port, alice, rooms[0]).await;
    for room in &rooms {
        bobs.say(*room, "secret").await;
        let kept = alices.say(*room, "kept").await["message_id"].clone();
        let react = json!({"op": "react", "conversation_id": room, "message_id": kept, "reaction": "+1"});
        bobs.ok(react).await;
    }
    assert_eq!(erase(&service, bob).await, (1, 3));
    let code = loop {
        if let Err(code) = bobs.next_or_close().await {
            break code;
        }
    };
    assert_eq!(code, Some(CloseCode::Disconnected.value()));
    // Everybody is told, in order.
    let mut told = Vec::new();
    while !told.iter().any(|kind| kind == "reaction.removed") {
        told.push(alices.event().await["type"].as_str().unwrap().to_owned());
    }
    assert!(told.iter().any(|kind| kind == "message.deleted"), "{told:?}");
    for query in [
        "SELECT count(*) FROM messages WHERE body::text LIKE '%secret%'",
        "SELECT count(*) FROM message_reactions",
        "SELECT count(*) FROM participants WHERE user_id NOT IN (SELECT sender_id FROM messages WHERE body IS NOT NULL)",
    ] {
        assert_eq!(world.count(query).await, 0, "{query}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE deleted_at IS NOT NULL").await, 3);
    // Once more changes nothing.
    assert_eq!(erase(&service, bob).await, (1, 0));
    alices.say(rooms[0], "still here").await;
}

#[tokio::test]
async fn a_request_walks_a_part_and_the_next_one_goes_on_after_it() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    fill(&world, conversation, alice, 12_000).await;
    let first = world.sql.execute("UPDATE messages SET sender_id = $1 WHERE seq IN (1, 11999)", &[&bob]).await.unwrap();
    assert_eq!(first, 2);
    // One request walks 10,000 messages at most.
    let (requests, deleted) = erase(&service, bob).await;
    assert_eq!(deleted, 2);
    assert!(requests >= 2, "{requests}");
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE body IS NULL").await, 2);
    // In SQL, a place without a number is the beginning of its conversation.
    world.sql.execute("UPDATE messages SET sender_id = $1 WHERE seq = 3", &[&bob]).await.unwrap();
    let of_it = format!("SELECT deleted FROM arcyou_erase_user('{bob}', '{conversation}')");
    assert_eq!(world.count(&of_it).await, 1);
    for wrong in ["x", "1:2", &format!("{conversation}"), &format!("{conversation}:-1")] {
        let refused = service.post(&format!("/users/{bob}/erase?after={wrong}"), Value::Null).await;
        assert_eq!(refused.code(400), "invalid_field", "{wrong}");
    }
    let reads = Service::with_key(gateway.port, key(&world, &["--scope", "users:read"]).await);
    assert_eq!(reads.post(&format!("/users/{alice}/erase"), Value::Null).await.code(403), "missing_scope");
}

/// Stores messages as if they had always been there.
pub async fn fill(world: &World, conversation: Uuid, sender: Uuid, messages: i64) {
    let fill = "INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
        SELECT $1, n, n, n, $2, jsonb_build_object('text', repeat('x', 1000)) FROM generate_series(1, $3::int8) n";
    world.sql.execute(fill, &[&conversation, &sender, &messages]).await.unwrap();
    let count = "UPDATE conversations SET last_seq = $2, message_count = $2,
        last_message_id = (SELECT max(id) FROM messages WHERE conversation_id = $1) WHERE id = $1";
    world.sql.execute(count, &[&conversation, &messages]).await.unwrap();
}

/// Whoever waits for one conversation keeps nobody else waiting, and what is done meanwhile is told.
#[tokio::test]
async fn an_erasure_meets_what_is_held_with_empty_hands() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let alice = Uuid::new_v4();
    let mut alices = Client::authenticated(gateway.port, alice).await;
    let holder = world.connect().await;
    for held in ["conversations WHERE id", "participants WHERE conversation_id"] {
        let bob = Uuid::new_v4();
        let mut rooms = Vec::new();
        for _ in 0..3 {
            rooms.push(world.conversation(&[alice, bob]).await);
        }
        rooms.sort();
        holder.batch_execute(&format!("BEGIN; SELECT FROM {held} = '{}' FOR UPDATE", rooms[2])).await.unwrap();
        let path = format!("/users/{bob}/erase");
        let begun = service.post(&path, Value::Null).await.ok(200);
        let next = format!("{path}?after={}", begun["next"].as_str().unwrap());
        let (participates, cut_off) = (
            format!("SELECT count(*) FROM participants WHERE user_id = '{bob}'"),
            format!("SELECT count(*) FROM user_cutoffs WHERE user_id = '{bob}'"),
        );
        assert_eq!((world.count(&participates).await, world.count(&cut_off).await), (1, 1), "{held}");
        let waits = async {
            let refused = service.post(&next, Value::Null).await;
            assert_eq!(refused.code(503), "unavailable");
        };
        let talk = async {
            world.eventually(LOCKED_OUT, 1).await;
            for room in [rooms[0], rooms[1]] {
                alices.say(room, "x").await;
            }
        };
        tokio::join!(waits, talk);
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(service.post(&next, Value::Null).await.ok(200)["next"], Value::Null);
        assert_eq!(world.count(&participates).await, 0);
    }
}

#[tokio::test]
async fn an_erasure_holds_one_conversation_alone_while_it_waits_for_a_participant() {
    let world = World::new().await;
    let bob = Uuid::new_v4();
    for _ in 0..2 {
        world.conversation(&[bob]).await;
    }
    let (holder, eraser) = (world.connect().await, world.connect().await);
    holder.batch_execute("BEGIN; SELECT FROM participants FOR UPDATE").await.unwrap();
    let part = format!("SELECT arcyou_erase_user('{bob}', '{}', 0)", Uuid::nil());
    let erasing = tokio::spawn(async move { eraser.batch_execute(&part).await });
    world.eventually(LOCKED_OUT, 1).await;
    let free = "SELECT count(*) FROM (SELECT FROM conversations FOR NO KEY UPDATE SKIP LOCKED) AS free";
    assert_eq!(world.count(free).await, 1);
    holder.batch_execute("ROLLBACK").await.unwrap();
    erasing.await.unwrap().unwrap();
    assert_eq!(world.count("SELECT count(*) FROM participants").await, 1);
}

/// What is done before something is in the way is no failure.
#[tokio::test]
async fn an_erasure_that_is_stopped_says_how_far_it_came() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let bob = Uuid::new_v4();
    let mut rooms = [world.conversation(&[]).await, world.conversation(&[]).await];
    rooms.sort();
    for room in rooms {
        fill(&world, room, bob, 80).await;
    }
    let holder = world.connect().await;
    holder
        .batch_execute(&format!("BEGIN; SELECT FROM conversations WHERE id = '{}' FOR UPDATE", rooms[1]))
        .await
        .unwrap();
    let path = format!("/users/{bob}/erase");
    let stopped = service.post(&path, Value::Null).await.ok(200);
    assert!(stopped["deleted"].as_i64().unwrap() > 0 && stopped["next"].is_string(), "{stopped}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let next = format!("{path}?after={}", stopped["next"].as_str().unwrap());
    let rest = service.post(&next, Value::Null).await.ok(200);
    assert_eq!(stopped["deleted"].as_i64().unwrap() + rest["deleted"].as_i64().unwrap(), 160);
}

/// A service that disconnects a user goes on in its transaction, whatever waits for it.
#[tokio::test]
async fn an_erasure_and_a_services_disconnection_do_not_wait_for_one_another() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let backend = world.connect().await;
    backend.batch_execute(&format!("BEGIN; SELECT disconnect_user('{bob}')")).await.unwrap();
    let erasing = tokio::spawn(async move { erase(&service, bob).await });
    world.eventually(LOCKED_OUT, 1).await;
    let send = "SELECT arcyou_send($1, $2, '{}')";
    backend.query(send, &[&conversation, &alice]).await.unwrap();
    backend.batch_execute("COMMIT").await.unwrap();
    erasing.await.unwrap();
}

/// Reasons are noted after their messages were refused, and may quote them.
#[tokio::test]
async fn no_reason_is_noted_of_who_was_just_erased() {
    let world = World::new().await;
    let dir = directory(&["body-shape"], "[[plugin]]\nname = \"body-shape\"\n");
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let send = move |n: usize| {
        let body = json!({"text": "x", format!("secret-{n}"): 1});
        json!({"op": "send", "conversation_id": conversation, "body": body})
    };
    let mut bobs = Client::authenticated(gateway.port, bob).await;
    let talking = tokio::spawn(async move {
        let mut refused = 0;
        loop {
            bobs.try_send(send(refused).to_string()).await;
            match bobs.next_or_close().await {
                Ok(reply) if reply["code"] == "rejected" => refused += 1,
                Ok(_) => {}
                Err(_) => return refused,
            }
        }
    });
    world.eventually("SELECT (count(reason) >= 20)::int::int8 FROM plugin_audit", 1).await;
    erase(&service, bob).await;
    let refused = talking.await.unwrap();
    world.eventually(&format!("SELECT count(*) FROM plugin_audit WHERE sender_id = '{bob}'"), refused as i64).await;
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit WHERE reason IS NOT NULL").await, 0);
    // Of others they are noted as before.
    let mut alices = Client::authenticated(gateway.port, alice).await;
    assert_eq!(alices.code(send(0)).await, "rejected");
    world.eventually("SELECT count(*) FROM plugin_audit WHERE reason LIKE '%secret-0%'", 1).await;
}

/// Who notes reasons may have looked for disconnections before there was one.
#[tokio::test]
async fn an_erasure_waits_for_reasons_that_are_being_noted() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let bob = Uuid::new_v4();
    let conversation = world.conversation(&[bob]).await;
    let writer = world.connect().await;
    writer.batch_execute("BEGIN").await.unwrap();
    let note = "SELECT note_kept(ARRAY[$1::uuid], ARRAY[$2::uuid], '{rejected}', '{p}', '{NULL}', '{d}', '{c}', '{secret}', '{0}')";
    writer.query(note, &[&conversation, &bob]).await.unwrap();
    let erasing = tokio::spawn(async move { erase(&service, bob).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    world.eventually(waits, 1).await;
    writer.batch_execute("COMMIT").await.unwrap();
    erasing.await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit WHERE reason IS NULL").await, 1);
}

/// What is being said when the erasure begins is waited for, and erased too.
#[tokio::test]
async fn nothing_is_left_of_what_a_user_was_just_sending() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let bob = Uuid::new_v4();
    let conversation = world.conversation(&[bob, Uuid::new_v4()]).await;
    let backend = world.connect().await;
    backend.batch_execute("BEGIN").await.unwrap();
    let send = "SELECT arcyou_send($1, $2, '{\"text\": \"secret\"}')";
    backend.query(send, &[&conversation, &bob]).await.unwrap();
    let erasing = tokio::spawn(async move { erase(&service, bob).await });
    world.eventually(LOCKED_OUT, 1).await;
    backend.batch_execute("COMMIT").await.unwrap();
    assert_eq!(erasing.await.unwrap().1, 1);
    let anywhere = "SELECT array_agg(tablename::text) FROM pg_tables WHERE schemaname = 'public'
        AND query_to_xml(format('SELECT * FROM %I', tablename), false, false, '')::text LIKE '%\"secret\"%'";
    assert_eq!(world.sql.query_one(anywhere, &[]).await.unwrap().get::<_, Option<Vec<String>>>(0), None);
}
