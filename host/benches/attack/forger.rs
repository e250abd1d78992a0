//! Somebody who may publish to Redis forges events; what a socket saw of them, and of the real messages after them.

use std::time::Duration;

use arcyou_platform::contract::{CONVERSATION_DELETED, EventKey, GLOBAL_CHANNEL, MESSAGE_CREATED, envelope_text};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::load::{Socket, member};
use crate::scene::{Scene, frame};
use crate::stack::Conversation;

/// For what comes after a forged event. A gap is repaired well within it.
const PATIENCE: Duration = Duration::from_secs(5);
/// No outbox row has come so far.
const FORGED_ID: i64 = 1 << 40;

struct Forger {
    redis: redis::aio::MultiplexedConnection,
    conversation: Uuid,
    published: i64,
}

impl Forger {
    async fn publish(&mut self, kind: &str, payload: &Value) {
        self.published += 1;
        // The key is in the database, where who forges cannot look.
        let key = EventKey::new(b"a guess");
        let event = envelope_text(&key, FORGED_ID + self.published, kind, self.conversation, &payload.to_string());
        redis::cmd("PUBLISH").arg(GLOBAL_CHANNEL).arg(event).exec_async(&mut self.redis).await.unwrap();
    }

    /// A message that nobody stored.
    async fn message(&mut self, seq: i64, text: &str) {
        let (id, sender) = (FORGED_ID + seq, Uuid::new_v4());
        let message = json!({
            "id": id, "seq": seq, "conversation_id": self.conversation, "sender_id": sender, "body": {"text": text},
            "created_at": "2026-01-02T03:04:05.678Z",
        });
        self.publish(MESSAGE_CREATED, &json!({"seq": message["seq"], "message": message})).await;
    }
}

/// A listener, and one who writes.
struct Victims {
    listener: Socket,
    writer: Socket,
    conversation: Uuid,
}

impl Victims {
    /// Stores a message, for its `seq`.
    async fn write(&mut self, text: &str) -> i64 {
        let send = json!({"op": "send", "conversation_id": self.conversation, "body": {"text": text}});
        self.writer.send(frame(&send)).await.unwrap();
        loop {
            let reply: Value =
                serde_json::from_str(self.writer.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
            if reply["op"] == "send" {
                return reply["seq"].as_i64().unwrap();
            }
        }
    }

    /// What the listener hears until this text has come, or nothing comes any more.
    async fn hear(&mut self, until: &str) -> Heard {
        let (mut heard, end) = (Heard::default(), Instant::now() + PATIENCE);
        while let Ok(Some(Ok(message))) = timeout_at(end, self.listener.next()).await {
            let Ok(frame) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default()) else { continue };
            match frame["message"]["body"]["text"].as_str() {
                Some(text) if text == until => {
                    heard.real = true;
                    break;
                }
                Some(_) => heard.forged = true,
                None => heard.others.extend(frame["code"].as_str().or(frame["type"].as_str()).map(str::to_owned)),
            }
        }
        heard
    }
}

#[derive(Default)]
struct Heard {
    forged: bool,
    real: bool,
    others: Vec<String>,
}

impl Heard {
    fn tell(&self) -> String {
        let forged = if self.forged { "shown" } else { "not shown" };
        let real = if self.real { "the real message came" } else { "the real message did not come" };
        let others = if self.others.is_empty() { String::new() } else { format!(" (told {})", self.others.join(", ")) };
        format!("{forged}{others}, {real}")
    }
}

/// One forgery after the other, each with sockets of its own.
pub async fn forge(scene: &Scene<'_>) -> String {
    let client = redis::Client::open(scene.database.servers.redis.url()).unwrap();
    let redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut told = Vec::new();
    for forgery in ["a `seq` of the future", "a text for the next `seq`", "`conversation.deleted`"] {
        let Conversation { id: conversation, users } = scene.database.conversations(1, 2).await.remove(0);
        let port = scene.gateway.port;
        let mut victims = Victims {
            listener: member(port, users[0], conversation).await,
            writer: member(port, users[1], conversation).await,
            conversation,
        };
        let mut forger = Forger { redis: redis.clone(), conversation, published: 0 };
        let seq = victims.write("first").await;
        victims.hear("first").await;
        match forgery {
            "a `seq` of the future" => forger.message(seq + 1000, "forged").await,
            "a text for the next `seq`" => forger.message(seq + 1, "forged").await,
            _ => forger.publish(CONVERSATION_DELETED, &json!({})).await,
        }
        // The forged event is there before the real one is written.
        tokio::time::sleep(Duration::from_millis(500)).await;
        victims.write("second").await;
        told.push(format!("{forgery}: {}", victims.hear("second").await.tell()));
    }
    told.join("; ")
}
