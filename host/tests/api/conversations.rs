//! Conversations and participants that services make, and what sockets see of that.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::Service;
use crate::support::client::Client;
use crate::support::{LOCKED_OUT, World};

#[tokio::test]
async fn a_service_makes_a_conversation_and_its_members_talk() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let made = service.post("/conversations", json!({"participants": [{"user_id": alice, "role": "owner"}]})).await;
    let location = made.headers["location"].to_str().unwrap().to_owned();
    let conversation: Uuid = made.ok(201)["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(location, format!("/v1/conversations/{conversation}"));
    let place = format!("/conversations/{conversation}");
    let mut alices = Client::joined(gateway.port, alice, conversation).await;
    let participant = format!("{place}/participants/{bob}");
    assert_eq!(service.put(&participant, json!({})).await.ok(200)["added"], 1);
    // Her own beginning is told too, perhaps late.
    while alices.event().await["user_id"] != json!(bob) {}
    let mut bobs = Client::joined(gateway.port, bob, conversation).await;
    bobs.say(conversation, "hello").await;
    assert_eq!(alices.message().await.0, "hello");
    assert_eq!(service.put(&participant, json!({"role": "moderator"})).await.ok(200)["changed"], 1);
    assert_eq!(alices.event().await["role"], "moderator");
    assert_eq!(service.put(&participant, json!({"role": "moderator"})).await.ok(200)["unchanged"], 1);
    service.delete(&participant).await.ok(204);
    assert_eq!(alices.event().await["type"], "participant.removed");
    assert_eq!(service.delete(&participant).await.code(404), "unknown_participant");
    let read_only = async |read_only: bool| {
        let change = json!({"read_only": read_only});
        let changed = service.call(Method::PATCH, &place, &[], Some(&change)).await.ok(200);
        assert_eq!(changed["read_only"], read_only);
    };
    read_only(true).await;
    let message = json!({"sender_id": alice, "body": {}});
    let refused = service.post(&format!("{place}/messages"), message).await;
    assert_eq!(refused.code(403), "conversation_read_only");
    read_only(false).await;
    let shown = service.get(&place).await.ok(200);
    assert_eq!((&shown["last_seq"], &shown["message_count"]), (&json!(1), &json!(1)));
    service.delete(&place).await.ok(204);
    assert_eq!(alices.event().await["type"], "conversation.deleted");
    assert_eq!(service.get(&place).await.code(404), "unknown_conversation");
    assert_eq!(service.delete(&place).await.code(404), "unknown_conversation");
    assert_eq!(service.put(&participant, json!({})).await.code(404), "unknown_conversation");
}

#[tokio::test]
async fn nothing_is_stored_after_the_answer_of_a_removal() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (service, bob) = (Service::new(&world, &gateway).await, Uuid::new_v4());
    for _ in 0..10 {
        let conversation = world.conversation(&[bob]).await;
        let mut bobs = Client::authenticated(gateway.port, bob).await;
        bobs.say(conversation, "x").await;
        // On their way while the removal comes.
        let another = json!({"op": "send", "conversation_id": conversation, "body": {}});
        for _ in 0..30 {
            bobs.send_text(another.to_string()).await;
        }
        service.delete(&format!("/conversations/{conversation}/participants/{bob}")).await.ok(204);
        let last_seq = format!("SELECT last_seq FROM conversations WHERE id = '{conversation}'");
        let at_answer = world.count(&last_seq).await;
        let mut stored = 1;
        for _ in 0..30 {
            let reply = bobs.next().await;
            stored += i64::from(reply["success"] == true);
            assert!(reply["success"] == true || reply["code"] == "not_participant", "{reply}");
        }
        assert_eq!((world.count(&last_seq).await, stored), (at_answer, at_answer));
    }
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let new = json!({"id": Uuid::new_v4()});
    service.post("/conversations", new.clone()).await.ok(201);
    assert_eq!(service.post("/conversations", new).await.code(409), "conversation_exists");
}

#[tokio::test]
async fn ten_thousand_participants_come_in_one_request_and_are_paged() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let conversation = world.conversation(&[]).await;
    let place = format!("/conversations/{conversation}/participants");
    let users: Vec<Uuid> = (0..10_000).map(|_| Uuid::new_v4()).collect();
    let participants = |role: &str| {
        let participants: Vec<Value> = users.iter().map(|user| json!({"user_id": user, "role": role})).collect();
        json!({"participants": participants})
    };
    let put = async |role: &str| service.post(&place, participants(role)).await.ok(200);
    assert_eq!(put("member").await, json!({"added": 10_000, "changed": 0, "unchanged": 0}));
    assert_eq!(put("member").await, json!({"added": 0, "changed": 0, "unchanged": 10_000}));
    assert_eq!(put("guest").await, json!({"added": 0, "changed": 10_000, "unchanged": 0}));
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("{place}?limit=1000{after}")).await.ok(200);
        found.extend(page["participants"].as_array().unwrap().iter().map(|one| one["user_id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let mut users: Vec<Value> = users.iter().map(|user| json!(user)).collect();
    users.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    assert_eq!(found, users);
    let mut many = participants("member");
    many["participants"].as_array_mut().unwrap().push(json!({"user_id": Uuid::new_v4()}));
    assert_eq!(service.post(&place, many).await.code(400), "invalid_field");
    let twice = json!({"participants": [{"user_id": found[0]}, {"user_id": found[0], "role": "last"}]});
    assert_eq!(service.post(&place, twice).await.ok(200), json!({"added": 0, "changed": 1, "unchanged": 0}));
}

#[tokio::test]
async fn conversations_are_listed_all_and_of_a_user() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let user = Uuid::new_v4();
    let mut own = Vec::new();
    for n in 0..5 {
        let members: &[Uuid] = if n < 3 { &[user] } else { &[] };
        let conversation = world.conversation(members).await;
        if n < 3 {
            own.push(json!(conversation));
        }
    }
    own.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    let pages = async |path: &str, id: &str| {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = service.get(&format!("{path}?limit=2{after}")).await.ok(200);
            found.extend(page["conversations"].as_array().unwrap().iter().map(|one| one[id].clone()));
            let Some(next) = page["next"].as_str() else { break found };
            after = format!("&after={next}");
        }
    };
    assert_eq!(pages("/conversations", "id").await.len(), 5);
    assert_eq!(pages(&format!("/users/{user}/conversations"), "conversation_id").await, own);
    assert_eq!(pages(&format!("/users/{}/conversations", Uuid::new_v4()), "conversation_id").await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_service_says_how_long_messages_are_kept() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let made = service.post("/conversations", json!({"keep_days": 30})).await.ok(201);
    let place = format!("/conversations/{}", made["id"].as_str().unwrap());
    let kept = |shown: &Value| (shown["keep_days"].clone(), shown["keep_messages"].clone(), shown["purged_n"].clone());
    assert_eq!(kept(&made), (json!(30), Value::Null, json!(0)));
    let change = async |change: Value| service.call(Method::PATCH, &place, &[], Some(&change)).await;
    assert_eq!(kept(&change(json!({"keep_messages": 100})).await.ok(200)), (json!(30), json!(100), json!(0)));
    // What is left out stays, and null takes it back.
    let changed = change(json!({"keep_days": null, "read_only": true})).await.ok(200);
    assert_eq!((kept(&changed), &changed["read_only"]), ((Value::Null, json!(100), json!(0)), &json!(true)));
    for wrong in [
        json!({"keep_days": 0}),
        json!({"keep_days": 36_501}),
        json!({"keep_messages": 0}),
        json!({"keep_hours": 1}),
        json!({"read_only": null}),
    ] {
        assert_eq!(change(wrong.clone()).await.code(400), "invalid_field", "{wrong}");
    }
    assert_eq!(service.post("/conversations", json!({"keep_days": -1})).await.code(400), "invalid_field");
    let shown = service.get(&place).await.ok(200);
    assert_eq!((kept(&shown), &shown["read_only"]), ((Value::Null, json!(100), json!(0)), &json!(true)));
    // JSON does not distinguish 30 from 30.0.
    let made = service.post("/conversations", json!({"keep_days": 30.0, "keep_messages": 1e3})).await.ok(201);
    assert_eq!(kept(&made), (json!(30), json!(1000), json!(0)));
    assert_eq!(kept(&change(json!({"keep_days": 7.0})).await.ok(200)).0, json!(7));
    assert_eq!(change(json!({"keep_days": 7.5})).await.code(400), "invalid_field");
}

/// What was answered with 503 does not happen later, and does not stop others meanwhile.
#[tokio::test]
async fn a_change_that_finds_a_conversation_locked_is_given_up() {
    let world = World::new().await;
    let gateway = world.gateway_with(&[("DATABASE_POOL_SIZE", "4")]).await;
    let service = Service::new(&world, &gateway).await;
    let alice = Uuid::new_v4();
    let (held, other) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    let mut socket = Client::joined(gateway.port, alice, other).await;
    let holder = world.connect().await;
    let hold = format!("BEGIN; SELECT FROM arcyou_send('{held}', '{alice}', '{{}}')");
    holder.batch_execute(&hold).await.unwrap();
    let place = format!("/conversations/{held}");
    let refused = async |method: Method, path: &str, body: Option<Value>| {
        let answer = service.call(method, path, &[], body.as_ref()).await;
        assert_eq!(answer.code(503), "unavailable", "{path}");
    };
    let participant = format!("{place}/participants/{alice}");
    let changes = async {
        tokio::join!(
            refused(Method::DELETE, &place, None),
            refused(Method::DELETE, &participant, None),
            refused(Method::PATCH, &place, Some(json!({"read_only": true}))),
        )
    };
    // Nor do they stop sends, and changes of others.
    let talk = async {
        world.eventually(LOCKED_OUT, 1).await;
        for n in 1..=20 {
            socket.say(other, "x").await;
            let change = json!({"keep_messages": n});
            service.call(Method::PATCH, &format!("/conversations/{other}"), &[], Some(&change)).await.ok(200);
        }
        assert!(world.count(LOCKED_OUT).await <= 1, "the changes of one conversation wait one after the other");
    };
    tokio::join!(changes, talk);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let shown = service.get(&place).await.ok(200);
    assert_eq!(
        (&shown["read_only"], &shown["keep_days"], &shown["last_seq"]),
        (&json!(false), &Value::Null, &json!(0))
    );
    service.delete(&participant).await.ok(204);
    service.delete(&place).await.ok(204);
}
