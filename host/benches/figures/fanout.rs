//! One conversation with a thousand sockets, against a bare broadcast of the same frame.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::Options;
use crate::load::{Socket, member, open, send_frame};
use crate::peers::{Peer, Running};
use crate::report::{Figure, Goal, Round};
use crate::stack::{Servers, cpu};

const SOCKETS: usize = 1000;
/// Messages that have not reached every socket yet: enough that neither side waits for the load.
const UNDER_WAY: u64 = 128;
const WARM_UP: Duration = Duration::from_secs(2);

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let (mut rounds, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (product, note) = LocalSet::new().block_on(&runtime, product(&servers, time));
        let ceiling = LocalSet::new().block_on(&runtime, ceiling(time));
        rounds.push(Round { product, ceiling });
        notes.push(note);
    }
    Figure {
        name: "fan-out to 1,000 sockets",
        unit: "events per second",
        ceiling: "a bare broadcast of the same frame over the same WebSocket layer",
        shares: "the load (1,000 reading sockets), and the whole way of the messages: PgBouncer, PostgreSQL, worker, Redis",
        goal: Goal::AtLeast(0.8),
        rounds,
        notes,
    }
}

async fn product(servers: &Servers, time: Duration) -> (f64, String) {
    let database = servers.database().await;
    let conversation = database.conversations(1, SOCKETS + 1).await.remove(0);
    let mut gateway = database.gateway(&[]).await;
    let mut worker = database.worker().await;
    let mut sockets = Vec::with_capacity(SOCKETS);
    for user in &conversation.users[1..] {
        sockets.push(member(gateway.port, *user, conversation.id).await);
    }
    // It has not joined, so that it hears its acknowledgements alone.
    let mut sender = open(gateway.port).await;
    let auth = format!(r#"{{"op":"auth","token":"{}"}}"#, conversation.users[0]);
    sender.send(Message::text(auth)).await.unwrap();
    sender.next().await.unwrap().unwrap();
    let pids = [gateway.pid(), worker.pid(), std::process::id()];
    let (before, started) = (pids.map(cpu), Instant::now());
    let number = Cell::new(0);
    let next = || send_frame(conversation.id, number.replace(number.get() + 1));
    let rate = broadcast(sockets, sender, time, next).await;
    let seconds = started.elapsed().as_secs_f64();
    let [gateway, worker, load] = std::array::from_fn(|index| (cpu(pids[index]) - before[index]) / seconds);
    (rate, format!("cores: gateway {gateway:.2}, worker {worker:.2}, load {load:.2}"))
}

async fn ceiling(time: Duration) -> f64 {
    let peer = Running::start(Peer::Broadcast);
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(open(peer.port).await);
    }
    let sender = open(peer.port).await;
    // What the gateway makes of the frames above.
    let (id, text) = (Uuid::new_v4(), format!("{:<84}", 1));
    let event = format!(
        r#"{{"op":"event","type":"message.created","source":"live","message":{{"id": 1000, "seq": 1000, "body": {{"text": "{text}"}}, "sender_id": "{id}", "created_at": "2026-01-02T03:04:05.678Z", "conversation_id": "{id}"}},"conversation_id":"{id}","conversationId":"{id}"}}"#
    );
    broadcast(sockets, sender, time, || Message::text(event.clone())).await
}

/// Keeps so many messages under way to all sockets; frames that arrived per second.
async fn broadcast(sockets: Vec<Socket>, sender: Socket, time: Duration, next: impl Fn() -> Message) -> f64 {
    let count = sockets.len() as u64;
    let arrived = Rc::new((Cell::new(0_u64), Notify::new()));
    for mut socket in sockets {
        let arrived = arrived.clone();
        tokio::task::spawn_local(async move {
            while let Some(Ok(message)) = socket.next().await {
                if matches!(message, Message::Text(_)) {
                    arrived.0.set(arrived.0.get() + 1);
                    if arrived.0.get().is_multiple_of(count) {
                        arrived.1.notify_one();
                    }
                }
            }
        });
    }
    let (mut writer, mut replies) = sender.split();
    tokio::task::spawn_local(async move { while let Some(Ok(_)) = replies.next().await {} });
    let sent = Cell::new(0_u64);
    let drive = async {
        loop {
            while sent.get() < arrived.0.get() / count + UNDER_WAY {
                writer.feed(next()).await.unwrap();
                sent.set(sent.get() + 1);
            }
            writer.flush().await.unwrap();
            arrived.1.notified().await;
        }
    };
    let measure = async {
        tokio::time::sleep(WARM_UP).await;
        let (before, started) = (arrived.0.get(), Instant::now());
        tokio::time::sleep(time).await;
        (arrived.0.get() - before) as f64 / started.elapsed().as_secs_f64()
    };
    tokio::select! {
        () = drive => unreachable!("it goes on"),
        rate = measure => rate,
    }
}
