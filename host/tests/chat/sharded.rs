//! Chat over a Redis Cluster of three nodes, in `sharded` mode.

use std::collections::HashMap;
use std::sync::Arc;

use arcyou_local_services::RedisCluster;
use arcyou_platform::contract::PubSubMode;
use serde_json::json;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::{World, blocking};

/// Enough for each node to have several.
const CONVERSATIONS: usize = 9;

/// Two gateways and a worker on a cluster, and a user at each gateway in every conversation.
struct Chat {
    world: World,
    cluster: Arc<RedisCluster>,
    gateways: [Running; 2],
    _worker: Running,
    clients: [Client; 2],
    conversations: Vec<Uuid>,
    /// Messages of each conversation.
    said: i64,
}

impl Chat {
    async fn start() -> Self {
        let world = World::new().await;
        let cluster = Arc::new(blocking(|| RedisCluster::start(3)).await.unwrap());
        let url = cluster.url();
        let variables = [("PUBSUB_MODE", "sharded"), ("REDIS_URL", url.as_str())];
        let gateways = [world.gateway_with(&variables).await, world.gateway_with(&variables).await];
        let worker = world.worker_at(&url, PubSubMode::Sharded).await;
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let mut conversations = Vec::new();
        for _ in 0..CONVERSATIONS {
            conversations.push(world.conversation(&users).await);
        }
        let mut clients = [
            Client::authenticated(gateways[0].port, users[0]).await,
            Client::authenticated(gateways[1].port, users[1]).await,
        ];
        for client in &mut clients {
            for conversation in &conversations {
                client.ok(json!({"op": "join", "conversation_id": conversation})).await;
            }
        }
        Self { world, cluster, gateways, _worker: worker, clients, conversations, said: 0 }
    }

    /// A message by each user in each conversation, which both hear, each message once and in order.
    async fn talk(&mut self) {
        for client in &mut self.clients {
            for conversation in &self.conversations {
                client.say(*conversation, "hello").await;
            }
        }
        for client in &mut self.clients {
            let mut heard: HashMap<Uuid, i64> =
                self.conversations.iter().map(|conversation| (*conversation, self.said)).collect();
            for _ in 0..2 * CONVERSATIONS {
                let event = client.event().await;
                let last = heard.get_mut(&event["conversation_id"].as_str().unwrap().parse().unwrap()).unwrap();
                *last += 1;
                assert_eq!(event["message"]["seq"], *last, "{event}");
            }
            assert!(heard.values().all(|last| *last == self.said + 2), "{heard:?}");
        }
        self.said += 2;
    }

    async fn until_events(&self, state: &str) {
        for gateway in &self.gateways {
            gateway.until("events", state).await;
        }
    }

    /// The node of a conversation's channel.
    fn owner(&self, conversation: Uuid) -> usize {
        self.cluster.owner(self.slot(conversation)).unwrap()
    }

    fn slot(&self, conversation: Uuid) -> u16 {
        self.cluster.slot(&PubSubMode::Sharded.channel(conversation)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_go_and_slots_move_and_nothing_is_lost_repeated_or_out_of_order() {
    let mut chat = Chat::start().await;
    chat.talk().await;
    chat.talk().await;
    // Each conversation's channel moves on to the next node.
    for conversation in chat.conversations.clone() {
        chat.cluster.move_slot(chat.slot(conversation), (chat.owner(conversation) + 1) % 3).unwrap();
        chat.talk().await;
    }
    // A node of some conversations is away; theirs come from the database, the others' as ever.
    let node = chat.owner(chat.conversations[0]);
    let cluster = Arc::clone(&chat.cluster);
    blocking(move || cluster.node(node).kill()).await;
    chat.until_events("down").await;
    chat.talk().await;
    chat.talk().await;
    let away: Vec<String> = chat
        .conversations
        .iter()
        .filter(|conversation| chat.cluster.owner(chat.slot(**conversation)).is_err())
        .map(|conversation| format!("'{conversation}'"))
        .collect();
    assert!(!away.is_empty() && away.len() < CONVERSATIONS, "{away:?}");
    let others =
        format!("SELECT count(*) FROM outbox WHERE NOT processed AND conversation_id NOT IN ({})", away.join(", "));
    chat.world.eventually(&others, 0).await;
    let cluster = Arc::clone(&chat.cluster);
    blocking(move || cluster.node(node).restart()).await.unwrap();
    chat.talk().await;
    chat.until_events("up").await;
    chat.talk().await;
    // No row was blamed, and all were published in the end.
    chat.world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(chat.world.count("SELECT count(*) FROM outbox WHERE retry_count > 0").await, 0);
}
