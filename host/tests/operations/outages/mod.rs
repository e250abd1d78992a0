//! PostgreSQL, PgBouncer and Redis going away and coming back under a running chat.

mod database;
mod failover;
mod redis;
mod talk;

use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::gateway::Running;

struct Chat {
    world: World,
    gateway: Running,
    worker: Running,
    conversation: Uuid,
    alice: Uuid,
    a: Client,
    b: Client,
}

async fn chat() -> Chat {
    chat_in(World::breakable().await).await
}

async fn chat_in(world: World) -> Chat {
    let (gateway, worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    a.say(conversation, "before").await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("before".to_owned(), 1));
    }
    Chat { world, gateway, worker, conversation, alice, a, b }
}
