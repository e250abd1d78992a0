//! Servers over the gateway's WebSocket layer that do next to nothing: what is left of a gateway without its work. Each
//! is a process of its own, as a gateway is, that prints its port.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use arcyou_gateway::bounds::connections::ConnectionBounds;
use arcyou_gateway::config::{Config, Mode};
use arcyou_gateway::server::handshake;
use arcyou_gateway::session::shared::SessionLimits;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use clap::ValueEnum;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Sends each frame back.
    Echo,
    /// Sends each frame to everybody else.
    Broadcast,
}

/// Frames that wait for one socket of a broadcast.
const QUEUE: usize = 1024;

pub struct Running {
    child: Child,
    pub port: u16,
}

impl Running {
    pub fn start(peer: Peer) -> Self {
        let name = peer.to_possible_value().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--peer", name.get_name()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Room {
    limits: SessionLimits,
    others: Mutex<Vec<mpsc::Sender<Utf8Bytes>>>,
}

/// With as many threads as a gateway has.
#[tokio::main]
pub async fn run(peer: Peer) {
    let minimal = HashMap::from([
        ("DATABASE_URL", "postgres://nobody@localhost/none"),
        ("REDIS_URL", "redis://localhost"),
        ("JWT_PUBLIC_KEY", "dev-placeholder"),
        ("BIND_ADDR", "127.0.0.1"),
    ]);
    let Config { limits, accept, .. } = Config::from_source(&minimal, Mode::Serve).unwrap();
    let bounds = Arc::new(ConnectionBounds::new(accept.connections));
    let room = Arc::new(Room { limits, others: Mutex::default() });
    let upgrade = match peer {
        Peer::Echo => {
            get(
                |State(room): State<Arc<Room>>, upgrade: WebSocketUpgrade| async move { upgraded(upgrade, &room, echo) },
            )
        }
        Peer::Broadcast => get(|State(room): State<Arc<Room>>, upgrade: WebSocketUpgrade| async move {
            let others = room.clone();
            upgraded(upgrade, &room, move |socket| broadcast(socket, others))
        }),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let app = Router::new().route("/", upgrade).with_state(room);
    handshake::serve(listener, app, bounds, CancellationToken::new()).await;
}

fn upgraded<F: Future<Output = ()> + Send + 'static>(
    upgrade: WebSocketUpgrade,
    room: &Room,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response {
    handshake::bounded(upgrade, &room.limits).on_upgrade(serve)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.next().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn broadcast(mut socket: WebSocket, room: Arc<Room>) {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    room.others.lock().unwrap().push(sender);
    loop {
        tokio::select! {
            frame = queue.recv() => {
                let Some(frame) = frame else { return };
                if write_all(&mut socket, frame, &mut queue).await.is_err() {
                    return;
                }
            }
            heard = socket.next() => {
                let Some(Ok(message)) = heard else { return };
                let Message::Text(frame) = message else { continue };
                for other in room.others.lock().unwrap().iter() {
                    other.try_send(frame.clone()).unwrap();
                }
            }
        }
    }
}

/// All that is queued, flushed once.
async fn write_all(
    socket: &mut WebSocket,
    first: Utf8Bytes,
    queue: &mut mpsc::Receiver<Utf8Bytes>,
) -> Result<(), axum::Error> {
    let mut next = Some(first);
    while let Some(frame) = next {
        socket.feed(Message::Text(frame)).await?;
        next = queue.recv().now_or_never().flatten();
    }
    socket.flush().await
}
