//! A WebSocket client that awaits what it expects.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

/// Long enough for a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection for which the kernel keeps little on this side.
pub async fn narrow(port: u16) -> TcpStream {
    try_narrow_from(Ipv4Addr::LOCALHOST, port).await.unwrap()
}

/// The same from this address, to a gateway that may refuse it.
pub async fn try_narrow_from(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    connect(socket, address, port).await
}

/// A connection that comes from this address, as another machine's does.
pub async fn connection_from(address: Ipv4Addr, port: u16) -> TcpStream {
    try_connection_from(address, port).await.unwrap()
}

/// The same to a gateway that may refuse it.
pub async fn try_connection_from(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    connect(TcpSocket::new_v4()?, address, port).await
}

async fn connect(socket: TcpSocket, address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    socket.bind((address, 0).into())?;
    socket.connect(([127, 0, 0, 1], port).into()).await
}

/// So many sockets of a crowd, or fewer where a process may not have so many files.
pub fn as_files_allow(count: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: usize = files.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX);
    count.min(files.saturating_sub(400) / 100 * 100)
}

pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Events that came while a reply was awaited.
    events: VecDeque<Value>,
    next_ref: u64,
}

impl Client {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// What this client does not read soon waits in the gateway.
    pub async fn connect_narrowly(port: u16) -> Self {
        Self::over(narrow(port).await).await
    }

    /// A client on another machine.
    pub async fn connect_from(address: Ipv4Addr, port: u16) -> Self {
        Self::over(connection_from(address, port).await).await
    }

    async fn over(stream: TcpStream) -> Self {
        let (socket, _) = client_async("ws://127.0.0.1/ws", stream).await.unwrap();
        Self { socket, events: VecDeque::new(), next_ref: 0 }
    }

    /// The same; none if there is no handshake.
    pub async fn try_over(stream: TcpStream) -> Option<Self> {
        let (socket, _) = client_async("ws://127.0.0.1/ws", stream).await.ok()?;
        Some(Self { socket, events: VecDeque::new(), next_ref: 0 })
    }

    /// Connected, authenticated, and in `conversation`.
    pub async fn joined(port: u16, user: Uuid, conversation: Uuid) -> Self {
        let mut client = Self::authenticated(port, user).await;
        client.ok(json!({"op": "join", "conversation_id": conversation})).await;
        client
    }

    pub async fn authenticated(port: u16, user: Uuid) -> Self {
        let mut client = Self::connect(port).await;
        client.ok(json!({"op": "auth", "token": user})).await;
        client
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Says something to a gateway that may have closed the socket.
    pub async fn try_send(&mut self, text: String) -> bool {
        self.socket.send(Message::text(text)).await.is_ok()
    }

    /// The next frame that is not a ping.
    async fn frame(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("nothing came in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next frame, whatever it is about.
    pub async fn next(&mut self) -> Value {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Value {
        match self.frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a text frame, not {other:?}"),
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        let event = self.next().await;
        assert_eq!(event["op"], "event", "{event}");
        event
    }

    /// The next `message.created` for its text and `seq`.
    pub async fn message(&mut self) -> (String, i64) {
        let event = self.event().await;
        assert_eq!(event["type"], "message.created", "{event}");
        (event["message"]["body"]["text"].as_str().unwrap().to_owned(), event["message"]["seq"].as_i64().unwrap())
    }

    /// Sends a request and returns its reply; events that come before it are kept.
    pub async fn request(&mut self, mut request: Value) -> Value {
        self.next_ref += 1;
        let reference = json!(self.next_ref);
        request["ref"] = reference.clone();
        self.send_text(request.to_string()).await;
        loop {
            let frame = self.receive().await;
            if frame["ref"] == reference {
                return frame;
            }
            self.events.push_back(frame);
        }
    }

    /// A request that must succeed.
    pub async fn ok(&mut self, request: Value) -> Value {
        let reply = self.request(request).await;
        assert_eq!(reply["success"], true, "{reply}");
        reply
    }

    /// A request that must fail, for its code.
    pub async fn code(&mut self, request: Value) -> String {
        let reply = self.request(request).await;
        assert_eq!(reply["success"], false, "{reply}");
        assert!(reply["error"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
        reply["code"].as_str().unwrap().to_owned()
    }

    pub async fn say(&mut self, conversation: Uuid, text: &str) -> Value {
        self.ok(json!({"op": "send", "conversation_id": conversation, "body": {"text": text}})).await
    }

    /// The next frame, or the code of the end.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<u16>> {
        match self.frame().await {
            Some(Message::Text(text)) => Ok(serde_json::from_str(&text).unwrap()),
            Some(Message::Close(frame)) => Err(frame.map(|CloseFrame { code, .. }| code.into())),
            Some(other) => panic!("expected a text frame, not {other:?}"),
            None => Err(None),
        }
    }

    /// Waits for the end, for its code; what comes before it is dropped.
    pub async fn closed(&mut self) -> Option<u16> {
        while let Some(message) = self.frame().await {
            if let Message::Close(frame) = message {
                return frame.map(|CloseFrame { code, .. }| code.into());
            }
        }
        None
    }
}
