//! The socket: the only code that reads and writes one.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::CloseCode;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;

use super::read_budget::ReadBudget;
use crate::fanout::outbound::Outbound;

/// A client that takes longer than this for what is to be written is given up.
const WRITE_STALL: Duration = Duration::from_secs(20);
/// How long a closed socket may take to say goodbye …
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// … and one whose buffers are full, which it has to read first.
const SLOW_FAREWELL: Duration = Duration::from_secs(5);
/// How long a socket is kept whose stream cannot be read to its end.
const LINGER: Duration = Duration::from_millis(400);

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Say this code and go.
    Close(CloseCode),
    /// The peer is gone, or has said goodbye.
    Gone,
}

/// What a client says.
#[derive(Debug)]
pub(super) enum Incoming {
    Text(Utf8Bytes),
    /// A binary frame, which is not a request.
    Binary,
    /// A ping, which the library answers, or a pong.
    Control,
    Farewell,
    /// Something that cannot be read; the socket is to be closed with this code.
    Broken(CloseCode),
    /// The peer is gone.
    Gone,
}

/// A socket, and the queue of what is to be written to it.
pub(super) struct Wire {
    socket: WebSocket,
    outbound: Arc<Outbound>,
    budget: ReadBudget,
    max_frame_bytes: usize,
    /// Whether the library has an answer to a ping that may not be written yet.
    has_pong: bool,
}

impl Wire {
    pub(super) fn new(socket: WebSocket, outbound: Arc<Outbound>, budget: ReadBudget, max_frame_bytes: usize) -> Self {
        budget.renew(max_frame_bytes);
        Self { socket, outbound, budget, max_frame_bytes, has_pong: false }
    }

    /// What the client says next. Safe to cancel.
    pub(super) async fn next(&mut self) -> Incoming {
        // The queue does not count them: what a client does not read of them keeps it from sending more.
        if self.has_pong {
            if self.socket.flush().await.is_err() {
                return Incoming::Gone;
            }
            self.has_pong = false;
        }
        let frame = self.socket.next().await;
        if matches!(frame, Some(Ok(_))) {
            self.budget.renew(self.max_frame_bytes);
        }
        match frame {
            None => Incoming::Gone,
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Ping(_))) => {
                self.has_pong = true;
                Incoming::Control
            }
            Some(Ok(Message::Pong(_))) => Incoming::Control,
            Some(Ok(Message::Close(_))) => Incoming::Farewell,
            Some(Err(error)) => close_code(&error, &self.budget).map_or(Incoming::Gone, Incoming::Broken),
        }
    }

    /// Asks the client for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.write(Message::Ping(Vec::new().into())).await
    }

    /// Closes the socket with this code.
    pub(super) async fn close(&mut self, code: CloseCode) {
        farewell(&mut self.socket, code).await;
    }

    /// Answers the client's goodbye.
    pub(super) async fn answer_farewell(&mut self) {
        answer_farewell(&mut self.socket).await;
    }

    /// Writes everything that is queued, in as few writes to the kernel as there can be.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        loop {
            let frames = self.outbound.drain().map_err(|_| End::Close(CloseCode::SlowConsumer))?;
            if frames.is_empty() {
                return Ok(());
            }
            let outbound = self.outbound.clone();
            let write = async {
                for frame in frames {
                    let bytes = frame.len();
                    self.socket.feed(Message::Text(frame)).await?;
                    outbound.written(bytes);
                }
                self.socket.flush().await
            };
            tokio::select! {
                // First, since most writes need not wait for anything.
                biased;
                written = timeout(WRITE_STALL, write) => match written {
                    Ok(result) => result.map_err(|_| End::Gone)?,
                    Err(_) => return Err(End::Close(CloseCode::SlowConsumer)),
                },
                () = outbound.overflowed() => return Err(End::Close(CloseCode::SlowConsumer)),
            }
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_STALL, self.socket.send(message)).await {
            Ok(result) => result.map_err(|_| End::Gone),
            Err(_) => Err(End::Close(CloseCode::SlowConsumer)),
        }
    }
}

/// How to close a socket after a frame that could not be read; none: the peer is gone. `budget` is the connection's.
pub fn close_code(error: &axum::Error, budget: &ReadBudget) -> Option<CloseCode> {
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error.source().and_then(|source| source.downcast_ref::<Error>()) {
        Some(Error::Capacity(_)) => Some(CloseCode::FrameTooLarge),
        Some(Error::Utf8(_)) => Some(CloseCode::InvalidUtf8),
        // A client that hangs up without a word has ended, and done nothing wrong.
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => None,
        Some(Error::Protocol(_)) => Some(CloseCode::ProtocolError),
        _ if budget.is_spent() => Some(CloseCode::Flooding),
        _ => None,
    }
}

/// Says goodbye, and waits for the answer; not for long.
pub async fn farewell(socket: &mut WebSocket, code: CloseCode) {
    let reason = Utf8Bytes::from_static(code.meaning().trim_start());
    let goodbye = Message::Close(Some(CloseFrame { code: code.value(), reason }));
    let farewell = async {
        socket.send(goodbye).await?;
        // Until the client has answered; what it still sends is not read any more.
        while let Some(Ok(_)) = socket.next().await {}
        use CloseCode::{Flooding, FrameTooLarge, InvalidUtf8, ProtocolError};
        if matches!(code, Flooding | FrameTooLarge | InvalidUtf8 | ProtocolError) {
            // What could not be read is in the kernel, unread. To let go of it at once would reset the connection,
            // and the client might never see why.
            tokio::time::sleep(LINGER).await;
        }
        Ok::<(), axum::Error>(())
    };
    let patience = if code == CloseCode::SlowConsumer { SLOW_FAREWELL } else { FAREWELL };
    let _ = timeout(patience, farewell).await;
}

/// Answers the peer's goodbye: the answer is queued by the library, and written here.
pub async fn answer_farewell(socket: &mut WebSocket) {
    let _ = timeout(FAREWELL, socket.flush()).await;
}
