//! Users whom a service shuts out.

use arcyou_protocol::CloseCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{Service, key};
use crate::support::World;
use crate::support::client::Client;

#[tokio::test]
async fn a_disconnected_user_is_shut_out_of_every_gateway() {
    let world = World::new().await;
    let (one, other) = (world.gateway().await, world.gateway().await);
    let service = Service::new(&world, &one).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut sockets = Vec::new();
    for gateway in [&one, &other] {
        sockets.push(Client::joined(gateway.port, alice, conversation).await);
    }
    let mut bobs = Client::joined(other.port, bob, conversation).await;
    let answer = service.post(&format!("/users/{alice}/disconnect"), Value::Null).await.ok(200);
    assert_eq!(answer["user_id"], json!(alice));
    for mut socket in sockets {
        let code = loop {
            if let Err(code) = socket.next_or_close().await {
                break code;
            }
        };
        assert_eq!(code, Some(CloseCode::Disconnected.value()));
    }
    bobs.say(conversation, "still here").await;
}

#[tokio::test]
async fn a_service_blocks_users_for_others() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let place = format!("/users/{alice}/blocks");
    let by_bob = json!({"sender_id": bob, "body": {}});
    let messages = format!("/conversations/{conversation}/messages");
    let id = service.post(&messages, by_bob.clone()).await.ok(201)["message_id"].clone();
    for _ in 0..2 {
        service.put(&format!("{place}/{bob}"), Value::Null).await.ok(204);
    }
    assert_eq!(service.post(&messages, by_bob.clone()).await.code(403), "blocked");
    let reaction = format!("{messages}/{id}/reactions/ok?user_id={bob}");
    assert_eq!(service.put(&reaction, Value::Null).await.code(403), "blocked");
    for _ in 0..2 {
        service.put(&format!("{place}/{}", Uuid::new_v4()), Value::Null).await.ok(204);
    }
    assert_eq!(service.put(&format!("{place}/{alice}"), Value::Null).await.code(422), "own_block");
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("{place}?limit=2{after}")).await.ok(200);
        found.extend(page["blocks"].as_array().unwrap().iter().map(|one| one["user_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert!(found.len() == 3 && found.is_sorted() && found.contains(&bob.to_string()), "{found:?}");
    for _ in 0..2 {
        service.delete(&format!("{place}/{bob}")).await.ok(204);
    }
    service.post(&messages, by_bob).await.ok(201);
    let reader = Service::with_key(gateway.port, key(&world, &["--scope", "conversations:read"]).await);
    reader.get(&place).await.ok(200);
    assert_eq!(reader.put(&format!("{place}/{bob}"), Value::Null).await.code(403), "missing_scope");
}
