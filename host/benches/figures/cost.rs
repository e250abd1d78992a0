//! The gateway's processor time for a send, from frame to acknowledgement, against an echo of the same frames.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::Options;
use crate::load::{Socket, authenticated, open, send_frame};
use crate::pace;
use crate::peers::{Peer, Running};
use crate::report::{Figure, Goal, Round};
use crate::stack::{Servers, cpu};

const CONVERSATIONS: usize = 50;
/// Below what either can do, so that both do the same work in the same time.
const RATE: u32 = 4000;
const WARM_UP: u64 = 2;

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let ceiling = LocalSet::new().block_on(&runtime, echo(options.seconds));
        let product = LocalSet::new().block_on(&runtime, sends(&servers, options.seconds));
        rounds.push(Round { product, ceiling });
    }
    Figure {
        name: "the gateway's time, frame to ack",
        unit: "CPU s per 1,000 sends",
        ceiling: "an echo of the same frames at the same rate over the same WebSocket layer",
        shares: "the load (4,000 sends a second, 100 sockets), PgBouncer, PostgreSQL, Redis; plugins off, no worker, nobody has joined",
        goal: Goal::AtMost(3.0),
        rounds,
        notes: Vec::new(),
    }
}

async fn sends(servers: &Servers, seconds: u32) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let mut gateway = database.gateway(&[]).await;
    let mut sockets = Vec::new();
    for conversation in &conversations {
        for user in &conversation.users {
            // One that has joined would be told of what is sent.
            sockets.push((conversation.id, authenticated(gateway.port, *user).await));
        }
    }
    let pid = gateway.pid();
    measure(sockets, seconds, || cpu(pid)).await
}

async fn echo(seconds: u32) -> f64 {
    let peer = Running::start(Peer::Echo);
    let mut sockets = Vec::new();
    for _ in 0..CONVERSATIONS * 2 {
        sockets.push((Uuid::new_v4(), open(peer.port).await));
    }
    let pid = peer.pid();
    measure(sockets, seconds, || cpu(pid)).await
}

/// Sends round robin at the rate; processor seconds for a thousand answers.
async fn measure(sockets: Vec<(Uuid, Socket)>, seconds: u32, cpu: impl Fn() -> f64) -> f64 {
    let answered = Rc::new((Cell::new(0_u64), Notify::new()));
    let mut writers = Vec::new();
    for (conversation, socket) in sockets {
        let (writer, mut reader) = socket.split();
        writers.push((conversation, writer));
        let answered = answered.clone();
        tokio::task::spawn_local(async move {
            while let Some(Ok(Message::Text(text))) = reader.next().await {
                assert!(text.starts_with("{\"op\":\"send\",") && !text.contains("\"success\":false"), "{text}");
                answered.0.set(answered.0.get() + 1);
                answered.1.notify_waiters();
            }
        });
    }
    let (warm, total) = (WARM_UP * u64::from(RATE), (WARM_UP + u64::from(seconds)) * u64::from(RATE));
    let mut ticks = pace::ticks(RATE, total);
    let (mut before, mut started) = (0.0, Instant::now());
    while let Some((number, _)) = ticks.recv().await {
        if number == warm {
            (before, started) = (cpu(), Instant::now());
        }
        let place = number as usize % writers.len();
        let (conversation, writer) = &mut writers[place];
        writer.send(send_frame(*conversation, number)).await.unwrap();
    }
    while answered.0.get() < total {
        answered.1.notified().await;
    }
    let used = cpu() - before;
    let late = started.elapsed().saturating_sub(Duration::from_secs(seconds.into()));
    assert!(late < Duration::from_secs(2), "the rate was not kept: {late:?} late");
    used / (total - warm) as f64 * 1000.0
}
