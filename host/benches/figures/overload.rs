//! More load than the machine can take: what is acknowledged, what is delivered, and how late.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::Options;
use crate::load::{ClosedLoop, Socket, member, send_frame};
use crate::pace::{self, Latencies};
use crate::report::{Figure, Goal, Round};
use crate::stack::{Database, Servers, TWO_PLUGINS, plugins_dir};

const CONVERSATIONS: usize = 100;
/// Sends under way of each member, to find what the machine can take.
const IN_FLIGHT: usize = 2;
/// Offered load, in shares of that.
const LOADS: [f64; 5] = [0.5, 0.9, 1.3, 2.0, 4.0];
/// Not counted: the control begins with an estimate.
const WARM_UP: Duration = Duration::from_secs(4);

/// What has happened to numbered sends.
#[derive(Default)]
struct Seen {
    acknowledged: RefCell<Vec<Option<Instant>>>,
    /// Whether the warm-up is over. What follows counts from then on.
    counts: Cell<bool>,
    stored: Cell<u64>,
    refused: Cell<u64>,
    /// From a send to its acknowledgement.
    acks: RefCell<Latencies>,
    /// From an acknowledgement to the event at the other member.
    delivered: RefCell<Latencies>,
}

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let (mut rounds, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(2) {
        let capacity = LocalSet::new().block_on(&runtime, capacity(&servers, time));
        notes.push(format!(
            "{capacity:.0} sends a second, acknowledged and delivered, with {IN_FLIGHT} of each member under way"
        ));
        let (mut least, mut worst) = (f64::INFINITY, 0.0_f64);
        for load in LOADS {
            let rate = (capacity * load) as u32;
            let (line, p99) = LocalSet::new().block_on(&runtime, offered(&servers, rate, time));
            notes.push(format!("offered {load} x, {rate}/s: {line}"));
            (least, worst) = (least.min(p99), worst.max(p99));
        }
        rounds.push(Round { product: worst, ceiling: least });
    }
    Figure {
        name: "acknowledgement to event under overload, p99",
        unit: "ms",
        ceiling: "the same at the load where it is least",
        shares: "the load, PgBouncer, PostgreSQL, Redis, one worker; two plugins on",
        goal: Goal::Within(500.0),
        rounds,
        notes,
    }
}

/// What a closed loop gets through, with the relay keeping up.
async fn capacity(servers: &Servers, time: Duration) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let plugins = plugins_dir(TWO_PLUGINS);
    let gateway = database.gateway(&[("PLUGINS_DIR", plugins.path().display().to_string())]).await;
    let _worker = database.worker().await;
    let members = ClosedLoop::start(gateway.port, &conversations, IN_FLIGHT).await;
    tokio::time::sleep(WARM_UP).await;
    members.stored_within(time).await as f64 / time.as_secs_f64()
}

/// Sends at this rate, whatever comes back. What was seen, in words, and the p99 of deliveries.
async fn offered(servers: &Servers, rate: u32, time: Duration) -> (String, f64) {
    let database = servers.database().await;
    let plugins = plugins_dir(TWO_PLUGINS);
    let gateway = database.gateway(&[("PLUGINS_DIR", plugins.path().display().to_string())]).await;
    let _worker = database.worker().await;
    let warm_up = u64::from(rate) * WARM_UP.as_secs();
    let total = warm_up + (f64::from(rate) * time.as_secs_f64()) as u64;
    let seen = Rc::new(Seen::default());
    seen.acknowledged.borrow_mut().resize(total as usize, None);
    let numbers = writers(&database, gateway.port, &seen).await;
    let mut ticks = pace::ticks(rate, total);
    while let Some((number, _)) = ticks.recv().await {
        seen.counts.set(number >= warm_up);
        let _ = numbers[number as usize % numbers.len()].send(number);
    }
    let backlog = database.count("SELECT count(*) FROM outbox WHERE NOT processed").await;
    let seconds = time.as_secs_f64();
    let acknowledged = seen.stored.get() as f64 / seconds;
    let mut delivered = seen.delivered.take();
    let per_second = delivered.len() as f64 / seconds;
    let (p50, p99) = (delivered.at(0.5), delivered.at(0.99));
    let refused = seen.refused.get() as f64 / seconds;
    let ack_p99 = seen.acks.take().at(0.99);
    let line = format!(
        "acknowledged {acknowledged:.0}/s, refused {refused:.0}/s, delivered {per_second:.0}/s, p50 {p50:.0}, p99 {p99:.0} ms; \
         send to acknowledgement p99 {ack_p99:.0} ms; \
         {backlog} rows behind at the end"
    );
    (line, p99)
}

/// A writer for each conversation, and listeners on both its members.
async fn writers(database: &Database<'_>, port: u16, seen: &Rc<Seen>) -> Vec<tokio::sync::mpsc::UnboundedSender<u64>> {
    let mut numbers = Vec::new();
    for conversation in database.conversations(CONVERSATIONS, 2).await {
        let (sender, receiver) = unbounded_channel();
        numbers.push(sender);
        let first = member(port, conversation.users[0], conversation.id).await;
        tokio::task::spawn_local(write(first, conversation.id, receiver, seen.clone()));
        let second = member(port, conversation.users[1], conversation.id).await;
        tokio::task::spawn_local(hear(second, seen.clone()));
    }
    numbers
}

async fn write(socket: Socket, conversation: Uuid, mut numbers: UnboundedReceiver<u64>, seen: Rc<Seen>) {
    let (mut writer, mut reader) = socket.split();
    let sent = RefCell::new(HashMap::new());
    let listening = async {
        while let Some(Ok(message)) = reader.next().await {
            let text = message.to_text().unwrap();
            if text.starts_with(r#"{"op":"send","success":true"#) {
                let number = number(text, "\"temp_id\":").unwrap() as usize;
                seen.acknowledged.borrow_mut()[number] = Some(Instant::now());
                if seen.counts.get() {
                    seen.stored.set(seen.stored.get() + 1);
                    seen.acks.borrow_mut().note(sent.borrow()[&number]);
                }
                sent.borrow_mut().remove(&number);
            } else if text.starts_with(r#"{"op":"send""#) {
                assert!(text.contains(r#""code":"overloaded""#), "{text}");
                seen.refused.set(seen.refused.get() + u64::from(seen.counts.get()));
            }
        }
    };
    let writing = async {
        while let Some(number) = numbers.recv().await {
            sent.borrow_mut().insert(number as usize, Instant::now());
            writer.send(send_frame(conversation, number)).await.unwrap();
        }
    };
    futures_util::future::join(listening, writing).await;
}

async fn hear(socket: Socket, seen: Rc<Seen>) {
    let (_silent, mut reader) = socket.split();
    while let Some(Ok(Message::Text(text))) = reader.next().await {
        // Others may hear that somebody was added.
        let Some(number) = number(&text, "{\"text\": \"") else { continue };
        if seen.counts.get() {
            // An event may come before its acknowledgement is read.
            let since = seen.acknowledged.borrow()[number as usize].unwrap_or_else(Instant::now);
            seen.delivered.borrow_mut().note(since);
        }
    }
}

/// The number that follows a mark, if there is one.
fn number(text: &str, mark: &str) -> Option<u64> {
    let (_, rest) = text.split_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
