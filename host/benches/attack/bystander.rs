//! Those who mean well: two people who chat, newcomers, and a load balancer. They have a thread of their own, so that
//! what they notice is the gateway's and not the attackers'.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::load::{Socket, member, send_frame};
use crate::pace::Latencies;
use crate::stack::{Conversation, get};

/// Twenty messages a second.
const GAP: Duration = Duration::from_millis(50);
/// How long is waited for what was sent last, and for a newcomer's socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// People, newcomers and a load balancer, until they are stopped.
pub struct Bystander {
    thread: JoinHandle<Noticed>,
    over: CancellationToken,
}

/// What they noticed.
#[derive(Default)]
pub struct Noticed {
    pub acks: Latencies,
    pub said: usize,
    /// Answered with a failure.
    pub refused: usize,
    /// Never answered, or not heard by both.
    pub lost: usize,
    pub newcomers: usize,
    /// Newcomers who got no socket, or could not authenticate.
    pub turned_away: usize,
    /// The longest that `/health` took.
    pub health: Duration,
}

impl Bystander {
    pub fn start(port: u16, conversation: &Conversation) -> Self {
        let over = CancellationToken::new();
        let (conversation, until) = (conversation.clone(), over.clone());
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let sockets = [
                    member(port, conversation.users[0], conversation.id).await,
                    member(port, conversation.users[1], conversation.id).await,
                ];
                ready.send(()).unwrap();
                let (chat, (newcomers, turned_away), health) =
                    tokio::join!(chat(sockets, conversation.id, &until), newcomers(port, &until), health(port, &until));
                let Chat { intended, answers, heard, refused, acks } = chat;
                let said = intended.len();
                let arrived = heard.iter().zip(&answers).filter(|(heard, stored)| **stored && **heard >= 2).count();
                let lost = said.saturating_sub(refused + arrived);
                Noticed { acks, said, refused, lost, newcomers, turned_away, health }
            })
        });
        wait.recv().unwrap();
        Self { thread, over }
    }

    pub fn stop(self) -> Noticed {
        self.over.cancel();
        self.thread.join().unwrap()
    }
}

/// Each message by its number: when it was to be sent, whether it was stored, and how many heard it.
#[derive(Default)]
struct Chat {
    intended: Vec<Instant>,
    answers: Vec<bool>,
    heard: Vec<u32>,
    refused: usize,
    acks: Latencies,
}

impl Chat {
    fn settled(&self) -> bool {
        let stored = self.answers.iter().filter(|stored| **stored).count();
        stored + self.refused == self.intended.len() && self.heard.iter().filter(|heard| **heard >= 2).count() == stored
    }

    fn note(&mut self, frame: &Value) {
        if frame["op"] == "send" {
            let number = frame["temp_id"].as_u64().unwrap_or_default() as usize;
            if frame["success"] == true {
                self.answers[number] = true;
                self.acks.note(self.intended[number].into());
            } else {
                self.refused += 1;
            }
        } else if let Some(number) = frame["message"]["body"]["text"].as_str().and_then(|text| text.trim().parse().ok())
        {
            let number: usize = number;
            self.heard[number] += 1;
        }
    }
}

/// Two people, in turn. A socket that the gateway closes stays closed: what is said there is lost.
async fn chat(sockets: [Socket; 2], conversation: Uuid, over: &CancellationToken) -> Chat {
    let record = Rc::<RefCell<Chat>>::default();
    let mut mouths = Vec::new();
    for socket in sockets {
        let (mouth, ear) = socket.split();
        mouths.push(mouth);
        spawn_local(listen(ear, Rc::clone(&record)));
    }
    let begin = Instant::now();
    for number in 0.. {
        let due = begin + GAP * number;
        if over.run_until_cancelled(sleep_until(due)).await.is_none() {
            break;
        }
        {
            let mut record = record.borrow_mut();
            record.intended.push(due);
            record.answers.push(false);
            record.heard.push(0);
        }
        let frame = send_frame(conversation, number.into());
        // Who is not read any more says it all the same.
        let _ = timeout(PATIENCE, mouths[number as usize % 2].send(frame)).await;
    }
    let patience = Instant::now() + PATIENCE;
    while !record.borrow().settled() && Instant::now() < patience {
        sleep(Duration::from_millis(10)).await;
    }
    record.take()
}

async fn listen(mut ear: SplitStream<Socket>, record: Rc<RefCell<Chat>>) {
    while let Some(Ok(message)) = ear.next().await {
        if let Message::Text(text) = message {
            record.borrow_mut().note(&serde_json::from_str(&text).unwrap());
        }
    }
}

/// One a second; answers how many there were, and how many got no place.
async fn newcomers(port: u16, over: &CancellationToken) -> (usize, usize) {
    let (mut newcomers, mut turned_away) = (0, 0);
    while over.run_until_cancelled(sleep(Duration::from_secs(1))).await.is_some() {
        newcomers += 1;
        if timeout(PATIENCE, arrive(port)).await.ok().flatten().is_none() {
            turned_away += 1;
        }
    }
    (newcomers, turned_away)
}

/// A user's first socket, which ends at once.
async fn arrive(port: u16) -> Option<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (mut socket, _) = client_async("ws://127.0.0.1/ws", stream).await.ok()?;
    let auth = json!({"op": "auth", "token": Uuid::new_v4()});
    socket.send(Message::text(auth.to_string())).await.ok()?;
    let reply = socket.next().await?.ok()?;
    let is_in = reply.to_text().ok()?.contains("\"success\":true");
    let _ = socket.close(None).await;
    is_in.then_some(())
}

/// Asks again and again, at once if a question is cut; one that is open at the end counts with the time until then.
async fn health(port: u16, over: &CancellationToken) -> Duration {
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let answered = async {
            while !get(port, "/health").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let goes_on = over.run_until_cancelled(answered).await.is_some();
        longest = longest.max(asked.elapsed());
        if !goes_on || over.run_until_cancelled(sleep(Duration::from_millis(250))).await.is_none() {
            return longest;
        }
    }
}
