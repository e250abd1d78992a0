//! The shell around a session: the only code that reads and writes a socket.

use std::collections::VecDeque;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use metrics::{counter, gauge};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::operations::{Sending, Session};
use super::outbound::Outbound;
use super::state::Alarm;
use crate::gateway::Gateway;
use crate::protocol::{self, CloseCode, Echo, ErrorCode, Failure, Reply};

/// A client that takes longer than this for what is to be written is given up.
const WRITE_STALL: Duration = Duration::from_secs(20);
/// How long a closed socket may take to say goodbye …
const FAREWELL: Duration = Duration::from_millis(500);
/// … and one whose buffers are full, which it has to read first.
const SLOW_FAREWELL: Duration = Duration::from_secs(5);
/// How long a socket is kept whose stream cannot be read to its end.
const LINGER: Duration = Duration::from_millis(400);
/// Sends of one socket that are under way; after that its frames wait in the kernel.
const MAX_IN_FLIGHT: usize = 64;
/// Frames that may be refused for coming too fast before the socket is closed: so many times the burst, or this many.
const FLOOD_BURSTS: u32 = 10;
const FLOOD_FRAMES: u32 = 1000;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Say this code and go.
    Close(CloseCode),
    /// The peer is gone, or has said goodbye.
    Gone,
}

/// The writing side: what is queued goes to the socket.
pub(super) struct Wire {
    socket: WebSocket,
    outbound: Arc<Outbound>,
    drain: CancellationToken,
}

/// Sends that are under way, in the order of their frames: so are their answers, and only the first is waited for.
#[derive(Default)]
struct InFlight(VecDeque<Sending>);

impl InFlight {
    /// The next answer; pending while nothing is under way.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(Echo, Result<Reply, Failure>)> {
        let Some(Sending { accepted, .. }) = self.0.front_mut() else { return Poll::Pending };
        let Poll::Ready(result) = accepted.poll(context) else { return Poll::Pending };
        let echo = self.0.pop_front().map(|sending| sending.echo).unwrap_or_default();
        Poll::Ready((echo, result))
    }

    async fn next(&mut self) -> (Echo, Result<Reply, Failure>) {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// When sockets are sent elsewhere: each at a moment of its own after the drain began, so that not all come back at once.
#[derive(Debug, Clone)]
pub struct Retirement {
    drain: CancellationToken,
    spread: Duration,
}

impl Retirement {
    /// Sockets begin to go when `drain` is cancelled, and are gone within `time`.
    pub fn new(drain: CancellationToken, time: Duration) -> Self {
        Self { drain, spread: time.saturating_sub(FAREWELL).mul_f32(0.9) }
    }

    async fn come(self) {
        self.drain.cancelled().await;
        tokio::time::sleep(self.spread.mul_f32(fastrand::f32())).await;
    }
}

/// Serves one socket until it ends, or until it is to go elsewhere.
pub async fn serve(socket: WebSocket, allowance: Allowance, gateway: Arc<Gateway>, retirement: Retirement) {
    gauge!("arcyou_connections").increment(1.0);
    counter!("arcyou_connections_total").increment(1);
    let now = Instant::now();
    let outbound = Arc::new(Outbound::new(gateway.limits.queue_bytes));
    let limiter =
        gateway.limits.rate.map(|rate| RateLimiter::direct(Quota::per_second(rate.per_second).allow_burst(rate.burst)));
    let mut connection = Connection {
        session: Session::new(gateway, outbound.clone(), now),
        wire: Wire { socket, outbound, drain: retirement.drain.clone() },
        allowance,
        in_flight: InFlight::default(),
        limiter,
        refused: 0,
        heard: now,
        pinged: false,
    };
    connection.renew_allowance();
    let mut retire = pin!(retirement.come());
    let mut alarm = pin!(sleep_until(connection.next_alarm()));
    let end = loop {
        if let Err(end) = connection.step(alarm.as_mut(), retire.as_mut()).await {
            break end;
        }
    };
    Box::pin(connection.finish(end)).await;
    gauge!("arcyou_connections").decrement(1.0);
}

struct Connection {
    session: Session,
    wire: Wire,
    allowance: Allowance,
    in_flight: InFlight,
    limiter: Option<DefaultDirectRateLimiter>,
    /// Frames refused for coming too fast; each one that did not takes one of them back.
    refused: u32,
    heard: Instant,
    pinged: bool,
}

impl Connection {
    /// Waits for whatever comes next and deals with it.
    async fn step(
        &mut self,
        mut alarm: Pin<&mut Sleep>,
        retire: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), End> {
        // Each frame puts the alarm off; the timer is left as it is, and looks again when it rings too early.
        let due = self.next_alarm();
        if due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        tokio::select! {
            () = self.wire.outbound.changed() => {
                if self.wire.outbound.take_nudge() {
                    self.session.tell_evicted()?;
                }
                self.wire.flush().await
            }
            (echo, result) = self.in_flight.next() => self.session.reply("send", result, &echo),
            frame = self.wire.socket.next(), if self.in_flight.0.len() < MAX_IN_FLIGHT => self.received(frame).await,
            () = alarm.as_mut() => {
                self.ring().await?;
                alarm.reset(self.next_alarm());
                Ok(())
            }
            () = retire => Err(End::Close(CloseCode::ServiceRestart)),
        }
    }

    fn next_alarm(&self) -> Instant {
        let silence = self.heard + if self.pinged { self.silence() } else { self.ping_after() };
        self.session.state.due().map_or(silence, |due| due.min(silence))
    }

    fn ping_after(&self) -> Duration {
        self.session.gateway.limits.ping_after
    }

    fn silence(&self) -> Duration {
        self.ping_after().mul_f32(2.5)
    }

    async fn ring(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.heard + self.silence() {
            return Err(End::Close(CloseCode::HeartbeatLost));
        }
        if now >= self.heard + self.ping_after() && !self.pinged {
            self.pinged = true;
            self.wire.write(Message::Ping(Vec::new().into())).await?;
        }
        match self.session.state.tick(now) {
            None => Ok(()),
            Some(Alarm::Close(code)) => {
                if code == CloseCode::AuthTimeout {
                    let failure = Failure::new(ErrorCode::AuthTimeout, "no valid auth came in time");
                    self.session.say(failure.encode("auth", &Echo::default()))?;
                }
                Err(End::Close(code))
            }
            Some(Alarm::Expired) => {
                self.session.stop_all()?;
                let text = "the token has expired and events have stopped; send auth with a fresh one and they go on";
                self.session.say(Failure::new(ErrorCode::TokenExpired, text).encode("auth", &Echo::default()))
            }
        }
    }

    async fn received(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heard = Instant::now();
        self.pinged = false;
        if matches!(frame, Some(Ok(_))) {
            self.renew_allowance();
        }
        match frame {
            None => Err(End::Gone),
            Some(Ok(Message::Text(text))) => self.text(&text).await,
            Some(Ok(Message::Binary(_))) => {
                self.admit_rate()?;
                let failure = Failure::new(ErrorCode::BinaryFrame, "send JSON in text frames");
                self.refuse(&failure, "error", &Echo::default()).await
            }
            // Pings are answered by the library; both count against the rate, so that a flood of them has an end.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.admit_rate().map(drop),
            Some(Ok(Message::Close(_))) => {
                answer_farewell(&mut self.wire.socket).await;
                Err(End::Gone)
            }
            Some(Err(error)) => self.broken(&error),
        }
    }

    async fn text(&mut self, text: &str) -> Result<(), End> {
        let parsed = protocol::parse(text, &self.session.gateway.limits.frame);
        if let Some(wait) = self.admit_rate()? {
            let (op, echo) = match &parsed {
                Ok(frame) => (frame.operation.name(), &frame.echo),
                Err(error) => (error.op, &error.echo),
            };
            let mut failure = Failure::new(ErrorCode::RateLimited, "too many requests; slow down");
            failure.retry_after_ms = Some(wait.as_millis().max(1) as u64);
            return self.refuse(&failure, op, echo).await;
        }
        let frame = match parsed {
            Ok(frame) => frame,
            Err(error) => return self.refuse(&Failure::new(error.code, error.text), error.op, &error.echo).await,
        };
        // Frames are answered in their order: only sends may be under way beside one another.
        if !matches!(frame.operation, protocol::Operation::Send { .. }) {
            self.settle().await?;
        }
        if let Some(sending) = self.session.perform(frame, &mut self.wire).await? {
            self.in_flight.0.push_back(sending);
        }
        Ok(())
    }

    /// Answers a frame that is not carried out, in its turn.
    async fn refuse(&mut self, failure: &Failure, op: &str, echo: &Echo) -> Result<(), End> {
        self.settle().await?;
        self.session.say(failure.encode(op, echo))
    }

    /// How long to wait before the next frame, if this one came too fast.
    fn admit_rate(&mut self) -> Result<Option<Duration>, End> {
        let Some(limiter) = &self.limiter else { return Ok(None) };
        let Err(not_until) = limiter.check() else {
            self.refused = self.refused.saturating_sub(1);
            return Ok(None);
        };
        self.refused += 1;
        let burst = self.session.gateway.limits.rate.map_or(0, |rate| rate.burst.get());
        if self.refused > burst.saturating_mul(FLOOD_BURSTS).max(FLOOD_FRAMES) {
            return Err(End::Close(CloseCode::Flooding));
        }
        Ok(Some(not_until.wait_time_from(DefaultClock::default().now())))
    }

    fn renew_allowance(&self) {
        self.allowance.renew(self.session.gateway.limits.max_frame_bytes);
    }

    /// Waits until every send under way is answered.
    async fn settle(&mut self) -> Result<(), End> {
        while !self.in_flight.0.is_empty() {
            let (echo, result) = self.in_flight.next().await;
            self.session.reply("send", result, &echo)?;
        }
        Ok(())
    }

    /// The frame could not be read: say why, then close.
    fn broken(&mut self, error: &axum::Error) -> Result<(), End> {
        let code = close_code(error, &self.allowance).ok_or(End::Gone)?;
        let failure = match code {
            CloseCode::FrameTooLarge => {
                let limit = self.session.gateway.limits.max_frame_bytes;
                Some(Failure::new(ErrorCode::FrameTooLarge, format!("a frame may have {limit} bytes at most")))
            }
            CloseCode::InvalidUtf8 => Some(Failure::new(ErrorCode::InvalidUtf8, "a text frame must be UTF-8")),
            _ => None,
        };
        if let Some(failure) = failure {
            self.session.say(failure.encode("error", &Echo::default()))?;
        }
        Err(End::Close(code))
    }

    /// Answers what was accepted, says goodbye and lets the socket go.
    async fn finish(mut self, end: End) {
        let End::Close(code) = end else { return };
        counter!("arcyou_closed_total", "code" => code.value().to_string()).increment(1);
        // A client that does not read cannot be answered; all others can.
        if code != CloseCode::SlowConsumer && self.settle().await.is_ok() {
            let _ = self.wire.flush().await;
        }
        farewell(&mut self.wire.socket, code).await;
    }
}

/// How to close a socket after a frame that could not be read; none: the peer is gone. `allowance` is the connection's.
pub fn close_code(error: &axum::Error, allowance: &Allowance) -> Option<CloseCode> {
    use tokio_tungstenite::tungstenite::Error;
    match error.source().and_then(|source| source.downcast_ref::<Error>()) {
        Some(Error::Capacity(_)) => Some(CloseCode::FrameTooLarge),
        Some(Error::Utf8(_)) => Some(CloseCode::InvalidUtf8),
        Some(Error::Protocol(_)) => Some(CloseCode::ProtocolError),
        _ if allowance.is_spent() => Some(CloseCode::Flooding),
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

impl Wire {
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
                    self.socket.feed(Message::Text(frame)).await?;
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

    /// Writes what is queued if it has become much, so that one who catches up does not overrun its own queue.
    pub(super) async fn relieve(&mut self) -> Result<(), End> {
        if self.outbound.is_congested() { self.flush().await } else { Ok(()) }
    }

    /// Whether the gateway is ending.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_STALL, self.socket.send(message)).await {
            Ok(result) => result.map_err(|_| End::Gone),
            Err(_) => Err(End::Close(CloseCode::SlowConsumer)),
        }
    }
}
