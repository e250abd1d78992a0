//! Every operation that writes, by a gateway with the rights of its role alone.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::Service;
use crate::support::World;

#[tokio::test]
async fn a_gateway_needs_no_more_than_its_roles_rights() {
    let world = World::partitioned().await;
    world.grant_rights().await;
    let login = world.login(Some("arcyou_gateway")).await;
    let gateway = world.gateway_with(&[("DATABASE_URL", login.url())]).await;
    let service = Service::new(&world, &gateway).await;
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let made = service.post("/conversations", json!({"participants": [{"user_id": alice}]})).await.ok(201);
    let place = format!("/conversations/{}", made["id"].as_str().unwrap());
    let bobs = format!("{place}/participants/{bob}");
    assert_eq!(service.put(&bobs, json!({})).await.ok(200)["added"], 1);
    let listed = json!({"participants": [{"user_id": bob, "role": "owner"}, {"user_id": alice}]});
    let added = service.post(&format!("{place}/participants"), listed).await.ok(200);
    assert_eq!((&added["added"], &added["changed"]), (&json!(0), &json!(1)));
    service.get(&format!("{place}/participants")).await.ok(200);
    let sent =
        service.post(&format!("{place}/messages"), json!({"sender_id": alice, "body": {"text": "one"}})).await.ok(201);
    let message = format!("{place}/messages/{}", sent["message_id"]);
    service.call(Method::PATCH, &message, &[], Some(&json!({"body": {"text": "two"}}))).await.ok(200);
    service.put(&format!("{message}/reactions/+1?user_id={bob}"), Value::Null).await.ok(200);
    service.delete(&format!("{message}/reactions/+1?user_id={bob}")).await.ok(200);
    service.delete(&message).await.ok(200);
    for change in
        [json!({"read_only": true, "keep_days": 9, "keep_messages": 9}), json!({"read_only": false, "keep_days": null})]
    {
        service.call(Method::PATCH, &place, &[], Some(&change)).await.ok(200);
    }
    let block = format!("/users/{bob}/blocks/{alice}");
    service.put(&block, Value::Null).await.ok(204);
    service.get(&format!("/users/{bob}/blocks")).await.ok(200);
    service.delete(&block).await.ok(204);
    service.post(&format!("/users/{bob}/disconnect"), Value::Null).await.ok(200);
    service.get(&format!("/users/{alice}/export")).await.ok(200);
    service.post(&format!("/users/{alice}/erase"), Value::Null).await.ok(200);
    service.delete(&bobs).await.ok(204);
    service.delete(&place).await.ok(204);
}

/// serde reads an array of a struct's fields as well.
#[tokio::test]
async fn what_is_an_object_is_no_array() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let service = Service::new(&world, &gateway).await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let place = format!("/conversations/{conversation}");
    let body = json!({"text": "x"});
    for (method, path, array) in [
        (Method::POST, format!("{place}/messages"), json!([alice, body, null])),
        (
            Method::POST,
            "/messages".to_owned(),
            json!([[{"conversation_id": conversation, "sender_id": alice, "body": body}]]),
        ),
        (Method::POST, "/messages".to_owned(), json!({"messages": [[conversation, alice, body, null, null]]})),
        (Method::PATCH, place.clone(), json!([true, null, null])),
        (Method::POST, "/conversations".to_owned(), json!({"participants": [[alice, "owner"]]})),
        (Method::POST, format!("{place}/participants"), json!({"participants": [[alice, "owner"]]})),
        (Method::PUT, format!("{place}/participants/{alice}"), json!(["owner"])),
    ] {
        let refused = service.call(method, &path, &[], Some(&array)).await;
        assert_eq!(refused.code(400), "invalid_field", "{path} {array}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM conversations WHERE read_only").await, 0);
}
