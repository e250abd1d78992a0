//! Those who ask for more than they read, and those who ask for it again and again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use serde_json::json;
use tokio::time::{sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::scene::{Scene, Socket, frame};
use crate::stack::Conversation;

/// Slow readers.
pub const SLOW: usize = 300;
/// Sockets that catch up again and again.
pub const EAGER: usize = 10;
/// Size of the room.
pub const MEGABYTES: i32 = 30;
const MESSAGES: i64 = 1000;
/// Sockets that are opened at the same time: fewer than an address may have without a token.
const AT_ONCE: usize = 32;
/// A megabyte.
const MB: f64 = 1e6;

/// A conversation with so many messages.
async fn large_room(scene: &Scene<'_>, members: usize) -> Conversation {
    let room = scene.database.conversations(1, members).await.remove(0);
    let insert = "WITH counted AS (UPDATE conversations SET last_seq = $2 WHERE id = $1)
        INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
        SELECT $1, seq, seq, seq, gen_random_uuid(), jsonb_build_object('text', repeat('x', $3))
        FROM generate_series(1, $2::bigint) seq";
    let each = MEGABYTES * 1_000_000 / MESSAGES as i32;
    scene.database.sql.execute(insert, &[&room.id, &MESSAGES, &each]).await.unwrap();
    room
}

fn join(conversation: Uuid) -> Message {
    frame(&json!({"op": "join", "conversation_id": conversation, "after_seq": 0}))
}

/// Asks for all of the room, and reads no more than what comes before it.
async fn asks(scene: &Scene<'_>, user: Uuid, room: Uuid) -> Option<Socket> {
    let mut socket = scene.open_narrowly().await.ok()?;
    socket.send(frame(&json!({"op": "auth", "token": user}))).await.ok()?;
    socket.next().await?.ok()?;
    socket.send(join(room)).await.ok()?;
    Some(socket)
}

pub async fn read_nothing(scene: &Scene<'_>) -> String {
    let room = large_room(scene, SLOW).await;
    let end = scene.end();
    let readers = stream::iter(room.users.iter().map(|user| asks(scene, *user, room.id))).buffer_unordered(AT_ONCE);
    let held: Vec<Socket> = readers.filter_map(std::future::ready).collect().await;
    sleep_until(end).await;
    let closed = scene.gateway.metric("arcyou_closed_total{code=\"4000\"}").await;
    let read = scene.gateway.metric("arcyou_stored_bytes_read_total").await / MB;
    format!("{} let in, {read:.0} MB read for them, {closed:.0} closed (4000)", held.len())
}

/// They read all that they get.
pub async fn rejoin(scene: &Scene<'_>) -> String {
    let room = large_room(scene, 1).await;
    let (end, bytes) = (scene.end(), AtomicUsize::new(0));
    let again = async || {
        let forever = async {
            loop {
                let Some(mut socket) = asks(scene, room.users[0], room.id).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let mut received = 0;
                while let Some(Ok(message)) = socket.next().await {
                    bytes.fetch_add(message.len(), Ordering::Relaxed);
                    received += message.len();
                    // A page of it has come: from the beginning.
                    if received > 1 << 18 {
                        received = 0;
                        if socket.send(join(room.id)).await.is_err() {
                            break;
                        }
                    }
                }
            }
        };
        let _: Result<(), _> = timeout_at(end, forever).await;
    };
    join_all((0..EAGER).map(|_| again())).await;
    let rate = bytes.load(Ordering::Relaxed) as f64 / MB / scene.lasts.as_secs_f64();
    format!("{rate:.1} MB/s read (the room's size each time is {MEGABYTES} MB)")
}
