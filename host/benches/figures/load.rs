//! WebSocket clients that cost little: frames are told apart by how they begin, not parsed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

use crate::stack::Conversation;

pub type Socket = WebSocketStream<TcpStream>;

/// How the reply to a request begins that was stored.
const STORED: [&str; 3] = [
    r#"{"op":"send","success":true,"status":"stored""#,
    r#"{"op":"edit","success":true,"status":"stored""#,
    r#"{"op":"react","success":true"#,
];
const EVENT: &str = r#"{"op":"event""#;
/// Who came into being with the conversations is told too, perhaps late.
const OF_PARTICIPANTS: &str = r#"{"op":"event","type":"participant."#;

pub enum Heard {
    Stored,
    Event,
}

/// What a frame is; none if it is neither. A refusal ends the benchmark: it would make anything fast.
pub fn heard(message: &Message) -> Option<Heard> {
    let Message::Text(text) = message else { return None };
    if STORED.iter().any(|stored| text.starts_with(stored)) {
        return Some(Heard::Stored);
    }
    assert!(text.starts_with(EVENT), "{text}");
    (!text.starts_with(OF_PARTICIPANTS)).then_some(Heard::Event)
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

/// A user's socket.
pub async fn authenticated(port: u16, user: Uuid) -> Socket {
    let mut socket = open(port).await;
    succeed(&mut socket, json!({"op": "auth", "token": user})).await;
    socket
}

/// A user's socket that has joined a conversation.
pub async fn member(port: u16, user: Uuid, conversation: Uuid) -> Socket {
    let mut socket = authenticated(port, user).await;
    succeed(&mut socket, json!({"op": "join", "conversation_id": conversation})).await;
    socket
}

async fn succeed(socket: &mut Socket, request: Value) {
    socket.send(Message::text(request.to_string())).await.unwrap();
    let reply = socket.next().await.unwrap().unwrap();
    assert!(reply.to_text().unwrap().contains("\"success\":true"), "{reply}");
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
        Self::asking(Ask::Send, port, conversations, in_flight).await
    }

    /// The same with other requests, each member's about messages of its own.
    pub async fn asking(ask: Ask, port: u16, conversations: &[Conversation], in_flight: usize) -> Self {
        let counts = Rc::new(Counts::default());
        let mut tasks = Vec::new();
        for Conversation { id, users } in conversations {
            for user in users {
                let mut socket = member(port, *user, *id).await;
                let own = if ask == Ask::Send { Vec::new() } else { store(&mut socket, *id, in_flight).await };
                let asking = Asking { conversation: *id, ask, own, asked: 0 };
                tasks.push(tokio::task::spawn_local(keep_asking(socket, asking, in_flight, counts.clone())));
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

/// What members ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Send,
    Edit,
    /// A reaction, and its removal, in turn.
    React,
}

/// What one member asks for.
struct Asking {
    conversation: Uuid,
    ask: Ask,
    /// The messages that it changes, in turn.
    own: Vec<i64>,
    asked: usize,
}

impl Asking {
    fn next(&mut self, number: u64) -> Message {
        let conversation = self.conversation;
        if self.ask == Ask::Send {
            return send_frame(conversation, number);
        }
        let (message, round) = (self.own[self.asked % self.own.len()], self.asked / self.own.len());
        self.asked += 1;
        Message::text(if self.ask == Ask::Edit {
            let text = format!("{number:<84}");
            format!(
                r#"{{"op":"edit","conversation_id":"{conversation}","message_id":{message},"body":{{"text":"{text}"}},"temp_id":{number}}}"#
            )
        } else {
            let remove = round % 2 == 1;
            format!(
                r#"{{"op":"react","conversation_id":"{conversation}","message_id":{message},"reaction":"+1","remove":{remove},"temp_id":{number}}}"#
            )
        })
    }
}

/// Stores so many messages, for their ids.
async fn store(socket: &mut Socket, conversation: Uuid, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for number in 0..count as u64 {
        socket.send(send_frame(conversation, number)).await.unwrap();
        ids.push(loop {
            let message = socket.next().await.unwrap().unwrap();
            if matches!(heard(&message), Some(Heard::Stored)) {
                let reply: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                break reply["message_id"].as_i64().unwrap();
            }
        });
    }
    ids
}

async fn keep_asking(mut socket: Socket, mut asking: Asking, in_flight: usize, counts: Rc<Counts>) {
    let mut free = in_flight;
    loop {
        for _ in 0..std::mem::take(&mut free) {
            let number = counts.next.replace(counts.next.get() + 1);
            socket.feed(asking.next(number)).await.unwrap();
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
