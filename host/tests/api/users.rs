//! Users whom a service shuts out.

use arcyou_protocol::CloseCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::Service;
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
