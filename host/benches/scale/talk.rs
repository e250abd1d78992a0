//! People who talk: at a steady rate, or as fast as they are answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _, future, stream};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::load::{Heard, Socket, heard, open, send_frame};
use crate::pace::{self, Latencies};

/// Connections made at the same time.
const AT_ONCE: usize = 32;
/// Joins that a socket has under way.
const JOINS: usize = 100;

/// A user's place: the gateway's port, and what to join there.
pub struct Seat {
    pub port: u16,
    pub user: Uuid,
    pub conversations: Vec<Uuid>,
}

/// Sockets that have joined. Needs a `LocalSet`.
pub async fn take(seats: Vec<Seat>) -> Vec<Socket> {
    stream::iter(seats).map(sit).buffered(AT_ONCE).collect().await
}

async fn sit(seat: Seat) -> Socket {
    let mut socket = open(seat.port).await;
    ask(&mut socket, &[json!({"op": "auth", "token": seat.user})]).await;
    for conversations in seat.conversations.chunks(JOINS) {
        let joins: Vec<_> = conversations.iter().map(|id| json!({"op": "join", "conversation_id": id})).collect();
        ask(&mut socket, &joins).await;
    }
    socket
}

async fn ask(socket: &mut Socket, requests: &[serde_json::Value]) {
    for request in requests {
        socket.feed(Message::text(request.to_string())).await.unwrap();
    }
    socket.flush().await.unwrap();
    for _ in requests {
        let reply = socket.next().await.unwrap().unwrap();
        assert!(reply.to_text().unwrap().contains("\"success\":true"), "{reply}");
    }
}

/// What all sockets together have heard.
#[derive(Default)]
struct Ears {
    stored: Cell<u64>,
    events: Cell<u64>,
    /// When each message was meant to be sent, by its number.
    intended: RefCell<Vec<Instant>>,
    /// Messages below this number are not measured.
    warm: Cell<u64>,
    acks: RefCell<Latencies>,
    deliveries: RefCell<Latencies>,
    changed: Notify,
}

/// Sockets that listen, and for each conversation one that speaks.
pub struct Talk {
    ears: Rc<Ears>,
    mouths: Vec<SplitSink<Socket, Message>>,
    /// Each conversation, and who speaks there.
    conversations: Vec<(Uuid, usize)>,
    /// How many sockets hear each message.
    audience: u64,
    tasks: Vec<JoinHandle<()>>,
    sent: u64,
}

/// What a steady rate showed, in milliseconds.
pub struct Steady {
    pub acks: Latencies,
    pub deliveries: Latencies,
}

impl Talk {
    pub fn new(sockets: Vec<Socket>, conversations: Vec<(Uuid, usize)>, audience: usize) -> Self {
        let ears = Rc::new(Ears::default());
        let (mut mouths, mut tasks) = (Vec::new(), Vec::new());
        for socket in sockets {
            let (mouth, ear) = socket.split();
            mouths.push(mouth);
            tasks.push(tokio::task::spawn_local(listen(ear, ears.clone())));
        }
        Self { ears, mouths, conversations, audience: audience as u64, tasks, sent: 0 }
    }

    async fn say(&mut self, intended: Instant) {
        let (conversation, speaker) = self.conversations[self.sent as usize % self.conversations.len()];
        self.ears.intended.borrow_mut().push(intended);
        self.mouths[speaker].send(send_frame(conversation, self.sent)).await.unwrap();
        self.sent += 1;
    }

    /// So many messages a second; `begin` is called when the first of them that counts is due. Ends when all were
    /// heard.
    pub async fn at_rate(&mut self, rate: u32, warm_up: u32, seconds: u32, mut begin: impl FnMut()) -> Steady {
        let first = self.sent + u64::from(warm_up * rate);
        self.ears.warm.set(first);
        let mut ticks = pace::ticks(rate, u64::from((warm_up + seconds) * rate));
        while let Some((_, intended)) = ticks.recv().await {
            if self.sent == first {
                begin();
            }
            self.say(intended).await;
        }
        self.until_heard().await;
        Steady { acks: self.ears.acks.take(), deliveries: self.ears.deliveries.take() }
    }

    /// Keeps so many messages under way. `sample` is called at the beginning and the end of what counts; answers how
    /// many were acknowledged between the two, and how long that was.
    pub async fn at_full(
        &mut self,
        under_way: u64,
        warm_up: Duration,
        time: Duration,
        mut sample: impl FnMut(),
    ) -> (f64, f64) {
        self.ears.warm.set(u64::MAX);
        let (mut before, start) = (None, Instant::now());
        loop {
            while self.sent < self.ears.stored.get() + under_way {
                self.say(Instant::now()).await;
            }
            self.ears.changed.notified().await;
            match before {
                None if start.elapsed() >= warm_up => {
                    sample();
                    before = Some((self.ears.stored.get(), Instant::now()));
                }
                Some((stored, since)) if since.elapsed() >= time => {
                    let measured = ((self.ears.stored.get() - stored) as f64, since.elapsed().as_secs_f64());
                    sample();
                    self.until_heard().await;
                    return measured;
                }
                _ => {}
            }
        }
    }

    async fn until_heard(&self) {
        while self.ears.stored.get() < self.sent || self.ears.events.get() < self.sent * self.audience {
            // A listener may have moved on between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(20), self.ears.changed.notified()).await;
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(mut ear: SplitStream<Socket>, ears: Rc<Ears>) {
    let each = |message: Message| {
        let (count, mark, latencies) = match heard(&message) {
            Some(Heard::Stored) => (&ears.stored, "\"temp_id\":", &ears.acks),
            Some(Heard::Event) => (&ears.events, "{\"text\": \"", &ears.deliveries),
            None => return,
        };
        count.set(count.get() + 1);
        let number = number(&message, mark);
        if number >= ears.warm.get() {
            latencies.borrow_mut().note(ears.intended.borrow()[number as usize]);
        }
        ears.changed.notify_one();
    };
    while let Some(Ok(message)) = ear.next().await {
        each(message);
    }
}

/// The number that follows a mark.
fn number(message: &Message, mark: &str) -> u64 {
    let text = message.to_text().unwrap();
    let rest = text.split_once(mark).unwrap_or_else(|| panic!("{text}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Sockets that say nothing and read what comes, until dropped.
pub struct Silent(Vec<JoinHandle<()>>);

impl Silent {
    pub fn new(sockets: Vec<Socket>) -> Self {
        let read = |socket: Socket| tokio::task::spawn_local(socket.for_each(|_| future::ready(())));
        Self(sockets.into_iter().map(read).collect())
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
