//! WebSocket clients that cost little: frames are told apart by how they begin, not parsed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

use crate::stack::Conversation;

pub type Socket = WebSocketStream<TcpStream>;

/// How a reply to a send begins that was stored.
const STORED: &str = r#"{"op":"send","success":true,"status":"stored""#;
const EVENT: &str = r#"{"op":"event""#;

pub enum Heard {
    Stored,
    Event,
}

/// What a frame is; none if it is neither. A refusal ends the benchmark: it would make anything fast.
pub fn heard(message: &Message) -> Option<Heard> {
    let Message::Text(text) = message else { return None };
    if text.starts_with(STORED) {
        return Some(Heard::Stored);
    }
    assert!(text.starts_with(EVENT), "{text}");
    Some(Heard::Event)
}

/// A body of about 100 bytes, different each time, beside a `temp_id` that the reply repeats.
pub fn send_frame(conversation: Uuid, number: u64) -> Message {
    let text = format!("{number:<84}");
    Message::text(format!(
        r#"{{"op":"send","conversation_id":"{conversation}","body":{{"text":"{text}"}},"temp_id":{number}}}"#
    ))
}

pub async fn open(port: u16) -> Socket {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let config = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(16 << 10);
    client_async_with_config(format!("ws://127.0.0.1:{port}/"), stream, Some(config)).await.unwrap().0
}

/// A user's socket that has joined a conversation.
pub async fn member(port: u16, user: Uuid, conversation: Uuid) -> Socket {
    let mut socket = open(port).await;
    for frame in [json!({"op": "auth", "token": user}), json!({"op": "join", "conversation_id": conversation})] {
        socket.send(Message::text(frame.to_string())).await.unwrap();
        let reply = socket.next().await.unwrap().unwrap();
        assert!(reply.to_text().unwrap().contains("\"success\":true"), "{reply}");
    }
    socket
}

/// What all members together have seen.
#[derive(Default)]
pub struct Counts {
    pub stored: Cell<u64>,
    pub events: Cell<u64>,
    /// The number of the next send.
    next: Cell<u64>,
}

/// Members that keep so many sends each under way, until they are dropped. Needs a `LocalSet`.
pub struct ClosedLoop {
    pub counts: Rc<Counts>,
    tasks: Vec<JoinHandle<()>>,
}

impl ClosedLoop {
    pub async fn start(port: u16, conversations: &[Conversation], in_flight: usize) -> Self {
        let counts = Rc::new(Counts::default());
        let mut tasks = Vec::new();
        for Conversation { id, users } in conversations {
            for user in users {
                let socket = member(port, *user, *id).await;
                tasks.push(tokio::task::spawn_local(keep_sending(socket, *id, in_flight, counts.clone())));
            }
        }
        Self { counts, tasks }
    }

    /// Sends acknowledged in this time.
    pub async fn stored_within(&self, time: Duration) -> u64 {
        let before = self.counts.stored.get();
        tokio::time::sleep(time).await;
        self.counts.stored.get() - before
    }
}

impl Drop for ClosedLoop {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn keep_sending(mut socket: Socket, conversation: Uuid, in_flight: usize, counts: Rc<Counts>) {
    let mut free = in_flight;
    loop {
        for _ in 0..std::mem::take(&mut free) {
            let number = counts.next.replace(counts.next.get() + 1);
            socket.feed(send_frame(conversation, number)).await.unwrap();
        }
        socket.flush().await.unwrap();
        // All that is there already, so that many answers cost one write.
        let mut message = socket.next().await;
        loop {
            match heard(&message.expect("the gateway ended").unwrap()) {
                Some(Heard::Stored) => {
                    counts.stored.set(counts.stored.get() + 1);
                    free += 1;
                }
                Some(Heard::Event) => counts.events.set(counts.events.get() + 1),
                None => {}
            }
            match socket.next().now_or_never() {
                Some(next) => message = next,
                None => break,
            }
        }
    }
}
