//! One user who sends too much.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::crowd::tally;
use crate::scene::{Scene, Socket, frame};
use crate::stack::Conversation;

/// Sockets that send as fast as they can.
pub const SOCKETS: usize = 20;
/// Frames on each socket, ten below what may come at once.
pub const FRAMES: usize = 190;
/// Sockets that send the worst bodies.
pub const WITH_DIGITS: usize = 16;
/// Those of a body.
pub const DIGITS: usize = 31_000;
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(20);

async fn authenticated(scene: &Scene<'_>, user: Uuid) -> Option<Socket> {
    let mut socket = scene.open().await.ok()?;
    socket.send(frame(&json!({"op": "auth", "token": user}))).await.ok()?;
    let reply = socket.next().await?.ok()?;
    reply.to_text().ok()?.contains("\"success\":true").then_some(socket)
}

/// The user and the conversation of an attacker.
pub async fn attacker(scene: &Scene<'_>) -> (Uuid, Uuid) {
    let Conversation { id, users } = scene.database.conversations(1, 1).await.remove(0);
    (users[0], id)
}

fn send_frame(conversation: Uuid, text: &str) -> Message {
    frame(&json!({"op": "send", "conversation_id": conversation, "body": {"text": text}}))
}

/// The code of a socket's end.
fn close_code(message: &Message) -> Option<String> {
    let Message::Close(Some(close)) = message else { return None };
    Some(format!("closed ({})", u16::from(close.code)))
}

/// All sockets send without waiting for answers, and come again when they are closed.
pub async fn send(scene: &Scene<'_>) -> String {
    let ((user, conversation), end) = (attacker(scene).await, scene.end());
    let message = send_frame(conversation, "flood");
    let sender = async || {
        let mut ends = Vec::new();
        let forever = async {
            loop {
                let Some(socket) = authenticated(scene, user).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                let (mut mouth, mut ear) = socket.split();
                let speak = async { while mouth.send(message.clone()).await.is_ok() {} };
                let listen = async {
                    while let Some(Ok(heard)) = ear.next().await {
                        ends.extend(close_code(&heard));
                    }
                };
                tokio::join!(speak, listen);
            }
        };
        let _: Result<(), _> = timeout_at(end, forever).await;
        ends
    };
    let ends = join_all((0..SOCKETS).map(|_| sender())).await;
    join(stored(scene, conversation).await, tally(ends.into_iter().flatten()))
}

/// One socket after the other.
pub async fn reconnect(scene: &Scene<'_>) -> String {
    let ((user, conversation), end) = (attacker(scene).await, scene.end());
    let message = send_frame(conversation, "flood");
    let mut sockets = 0;
    let forever = async {
        loop {
            let Some(mut socket) = authenticated(scene, user).await else {
                sleep(PAUSE).await;
                continue;
            };
            sockets += 1;
            for _ in 0..FRAMES {
                let _ = socket.feed(message.clone()).await;
            }
            let _ = socket.flush().await;
            for _ in 0..FRAMES {
                if !matches!(socket.next().await, Some(Ok(Message::Text(_)))) {
                    break;
                }
            }
        }
    };
    let _: Result<(), _> = timeout_at(end, forever).await;
    format!("{} over {sockets} sockets", stored(scene, conversation).await)
}

/// Each socket sends again as soon as it has an answer.
pub async fn send_digits(scene: &Scene<'_>) -> String {
    let ((user, conversation), end) = (attacker(scene).await, scene.end());
    let message = send_frame(conversation, &"0101234567".repeat(DIGITS / 10));
    let sender = async || {
        let mut codes = Vec::new();
        let forever = async {
            loop {
                let Some(mut socket) = authenticated(scene, user).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                while socket.send(message.clone()).await.is_ok() {
                    let Some(Ok(heard)) = socket.next().await else { break };
                    codes.extend(close_code(&heard));
                    codes.extend(code(&heard));
                }
            }
        };
        let _: Result<(), _> = timeout_at(end, forever).await;
        codes
    };
    let codes = join_all((0..WITH_DIGITS).map(|_| sender())).await;
    join(stored(scene, conversation).await, tally(codes.into_iter().flatten()))
}

/// What was stored, of what the limits allow: 50 a second, and 200 at once.
async fn stored(scene: &Scene<'_>, conversation: Uuid) -> String {
    let count = format!("SELECT count(*) FROM messages WHERE conversation_id = '{conversation}'");
    let stored = scene.database.count(&count).await;
    format!("{stored} stored, of {} allowed in {} s", 200 + 50 * scene.lasts.as_secs(), scene.lasts.as_secs())
}

/// The code of a refusal.
pub fn code(message: &Message) -> Option<String> {
    let Message::Text(text) = message else { return None };
    let reply: Value = serde_json::from_str(text).unwrap();
    reply["code"].as_str().map(str::to_owned)
}

fn join(first: String, rest: String) -> String {
    if rest.is_empty() { first } else { format!("{first}; {rest}") }
}
