//! One WebSocket of a device, and what was asked on it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::device::{Asked, Broken};
use crate::history::At;
use crate::support::proxy;

/// A door that does not open in this time is left for another one.
const OPENED: Duration = Duration::from_secs(4);

pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    asked: HashMap<u64, (At, Asked)>,
    next: u64,
    /// The code that it was closed with.
    pub closed: Option<u16>,
}

impl Socket {
    /// Connected and authenticated, or none.
    pub async fn open(door: u16, user: Uuid) -> Option<Self> {
        let opening = async {
            let stream = proxy::narrow().connect((Ipv4Addr::LOCALHOST, door).into()).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let (stream, _) = client_async(format!("ws://127.0.0.1:{door}/ws"), stream).await.ok()?;
            let mut socket = Self { stream, asked: HashMap::new(), next: 0, closed: None };
            let auth = json!({"op": "auth", "token": user});
            socket.stream.send(Message::text(auth.to_string())).await.ok()?;
            let reply = socket.next().await?;
            (reply["success"] == true).then_some(socket)
        };
        timeout(OPENED, opening).await.ok().flatten()
    }

    /// The next frame; none at the end. Safe to cancel.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.stream.next().await?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(close) => {
                    self.closed = close.map(|close| close.code.into());
                    return None;
                }
                _ => {}
            }
        }
    }

    pub async fn ask(&mut self, now: At, what: Asked, mut request: Value) -> Result<(), Broken> {
        self.next += 1;
        request["ref"] = json!(self.next);
        self.asked.insert(self.next, (now, what));
        match timeout(OPENED, self.stream.send(Message::text(request.to_string()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Broken),
        }
    }

    /// What a reply is about.
    pub fn answered(&mut self, reference: u64) -> Option<(At, Asked)> {
        self.asked.remove(&reference)
    }

    /// Since when the longest of all answers is awaited.
    pub fn oldest(&self) -> Option<At> {
        self.asked.values().map(|(at, _)| *at).min()
    }

    /// How many messages and changes wait for their answer.
    pub fn sends(&self) -> usize {
        self.asked.values().filter(|(_, asked)| matches!(asked, Asked::Send(_) | Asked::Change(_))).count()
    }

    pub fn unanswered(self) -> Vec<(At, Asked)> {
        self.asked.into_values().collect()
    }
}
