//! One connection: what comes next, whatever it is, dealt with in its turn.

use std::collections::VecDeque;
use std::future::{Future, poll_fn, ready};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::time::Duration;

use arcyou_protocol::{CloseCode, Echo, ErrorCode, Failure, Op, Operation, UserOperation};
use axum::extract::ws::WebSocket;
use governor::clock::{Clock as _, DefaultClock};
use metrics::{counter, gauge};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::auth_state::Alarm;
use super::read_budget::ReadBudget;
use super::requests::{Answered, Pending, Session, too_fast};
use super::shared::{Shared, cost};
use super::wire::{End, FAREWELL, Incoming, Wire};
use crate::bounds::connections::Admission;
use crate::bounds::users::{Limiter, Rate, take};
use crate::fanout::outbound::Outbound;

/// Commands of one socket that are under way; after that its frames wait in the kernel.
const MAX_IN_FLIGHT: usize = 64;
/// How long a socket is not read after a command was refused as one too many for the gateway: refusing costs as well,
/// and there may be many to refuse.
const REST: Duration = Duration::from_millis(100);
/// Frames that may be refused for coming too fast before the socket is closed: so many times the burst, or this many.
const FLOOD_BURSTS: u32 = 10;
const FLOOD_FRAMES: u32 = 1000;
/// The same before the first `auth`, which a client needs one frame for.
const FLOOD_OF_NOBODY: u32 = 20;
/// What an answer repeats in the place of an `op` that cannot be told.
const NO_OP: &str = "error";

/// Commands that are under way, in the order of their frames: so are their answers, and only the first is waited for.
#[derive(Default)]
struct InFlight(VecDeque<Pending>);

impl InFlight {
    /// The next answer; pending while nothing is under way.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Answered> {
        let Some(Pending { accepted, .. }) = self.0.front_mut() else { return Poll::Pending };
        let result = task::ready!(Pin::new(accepted).poll(context));
        match self.0.pop_front() {
            Some(Pending { op, echo, conversation, .. }) => Poll::Ready(Answered { op, echo, conversation, result }),
            None => Poll::Pending,
        }
    }

    async fn next(&mut self) -> Answered {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// When sockets are sent elsewhere: each at a moment of its own after the drain began, so that not all come back at
/// once.
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

/// Serves one socket until it ends, or until it is to go elsewhere. What the future holds is held once: the parameters
/// of an `async fn` would stay in it beside what is made of them, in every idle socket.
pub fn serve(
    socket: WebSocket,
    admission: Admission,
    budget: ReadBudget,
    shared: Arc<Shared>,
    retirement: Retirement,
) -> impl Future<Output = ()> {
    let now = Instant::now();
    let outbound = Arc::new(Outbound::new(shared.limits.queue_bytes));
    let max_frame_bytes = shared.limits.max_frame_bytes;
    let limiter = shared.limits.rate.map(Rate::limiter);
    let mut connection = Connection {
        session: Session::new(shared, admission, outbound.clone(), now),
        wire: Wire::new(socket, outbound, budget, max_frame_bytes),
        in_flight: InFlight::default(),
        limiter,
        refused: 0,
        rests_until: None,
        heard: now,
        pinged: false,
    };
    async move {
        gauge!("arcyou_connections").increment(1.0);
        counter!("arcyou_connections_total").increment(1);
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
}

struct Connection {
    session: Session,
    wire: Wire,
    in_flight: InFlight,
    /// For frames before `auth`; after it the user's counts.
    limiter: Option<Limiter>,
    /// Frames refused for coming too fast; each one that did not takes one of them back.
    refused: u32,
    /// Until then no frame is read, since the gateway had no room for the last one.
    rests_until: Option<Instant>,
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
            () = self.session.outbound.changed() => {
                if self.session.outbound.take_notification() {
                    self.session.end_if_disconnected()?;
                    self.session.tell_evicted()?;
                }
                Box::pin(self.wire.flush()).await
            }
            answered = self.in_flight.next() => self.session.answer(answered),
            // Between pages whatever else there is has its turn.
            () = ready(()), if self.session.is_page_due() => Box::pin(self.session.send_page(&mut self.wire)).await,
            // Boxed, as others here: what a frame's way needs, a socket that is idle does not hold.
            incoming = self.wire.next(), if self.in_flight.0.len() < MAX_IN_FLIGHT && self.rests_until.is_none() => {
                Box::pin(self.received(incoming)).await
            }
            () = alarm.as_mut() => {
                Box::pin(self.ring()).await?;
                alarm.reset(self.next_alarm());
                Ok(())
            }
            () = retire => Err(End::Close(CloseCode::ServiceRestart)),
        }
    }

    fn next_alarm(&self) -> Instant {
        let silence = self.heard + if self.pinged { self.silence() } else { self.ping_after() };
        [self.session.auth.due(), self.session.page_waits_until(), self.rests_until]
            .into_iter()
            .flatten()
            .fold(silence, Instant::min)
    }

    fn ping_after(&self) -> Duration {
        self.session.shared.limits.ping_after
    }

    fn silence(&self) -> Duration {
        self.ping_after().mul_f32(2.5)
    }

    async fn ring(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.session.end_page_wait(now);
        self.rests_until = self.rests_until.filter(|until| now < *until);
        if now >= self.heard + self.silence() {
            return Err(End::Close(CloseCode::HeartbeatLost));
        }
        if now >= self.heard + self.ping_after() && !self.pinged {
            self.pinged = true;
            self.wire.ping().await?;
        }
        match self.session.auth.tick(now) {
            None => Ok(()),
            Some(Alarm::Close(code)) => {
                if code == CloseCode::AuthTimeout {
                    let failure = Failure::new(ErrorCode::AuthTimeout, "no valid auth came in time");
                    self.session.say(failure.encode(Op::Auth.value(), &Echo::default()))?;
                }
                Err(End::Close(code))
            }
            Some(Alarm::Expired) => {
                self.session.stop_all()?;
                let text = "the token has expired and events have stopped; send auth with a fresh one and they go on";
                self.session.say(Failure::new(ErrorCode::TokenExpired, text).encode(Op::Auth.value(), &Echo::default()))
            }
        }
    }

    async fn received(&mut self, incoming: Incoming) -> Result<(), End> {
        self.heard = Instant::now();
        self.pinged = false;
        match incoming {
            Incoming::Text(text) => self.text(&text).await,
            Incoming::Binary => {
                self.admit_rate(NonZeroU32::MIN)?;
                let failure = Failure::new(ErrorCode::BinaryFrame, "send JSON in text frames");
                self.refuse(&failure, NO_OP, &Echo::default()).await
            }
            // They count against the rate, so that a flood of them has an end.
            Incoming::Control => self.admit_rate(NonZeroU32::MIN).map(drop),
            Incoming::Farewell => {
                self.wire.answer_farewell().await;
                Err(End::Gone)
            }
            Incoming::Broken(code) => self.broken(code),
            Incoming::Gone => Err(End::Gone),
        }
    }

    async fn text(&mut self, text: &str) -> Result<(), End> {
        let parsed = arcyou_protocol::parse(text, &self.session.shared.limits.frame);
        let frames = parsed.as_ref().map_or(NonZeroU32::MIN, |frame| cost(&frame.operation));
        if let Some(wait) = self.admit_rate(frames)? {
            let (op, echo) = match &parsed {
                Ok(frame) => (frame.operation.op().value(), &frame.echo),
                Err(error) => (error.op, &error.echo),
            };
            return self.refuse(&too_fast("too many requests; slow down", wait), op, echo).await;
        }
        let frame = match parsed {
            Ok(frame) => frame,
            Err(error) => return self.refuse(&Failure::new(error.code, error.text), error.op, &error.echo).await,
        };
        // Frames are answered in their order: only commands may be under way beside one another.
        if !matches!(frame.operation, Operation::User(UserOperation::Command(_))) {
            self.answer_in_flight().await?;
        }
        if let Some(pending) = self.session.perform(frame, &mut self.wire).await? {
            if pending.accepted.was_one_too_many() {
                self.rests_until = Some(Instant::now() + REST);
            }
            self.in_flight.0.push_back(pending);
        }
        Ok(())
    }

    /// Answers a frame that is not carried out, in its turn.
    async fn refuse(&mut self, failure: &Failure, op: &str, echo: &Echo) -> Result<(), End> {
        self.answer_in_flight().await?;
        self.session.say(failure.encode(op, echo))
    }

    /// How long to wait before this frame may be repeated, which counts as so many, if it came too fast.
    fn admit_rate(&mut self, frames: NonZeroU32) -> Result<Option<Duration>, End> {
        let admitted = match (&self.session.place, &self.limiter) {
            (Some(place), _) => place.admit_frames(frames),
            (None, Some(limiter)) => take(limiter, frames, DefaultClock::default().now()),
            (None, None) => Ok(()),
        };
        let Err(wait) = admitted else {
            self.refused = self.refused.saturating_sub(1);
            return Ok(None);
        };
        self.refused += 1;
        let burst = self.session.shared.limits.rate.map_or(0, |rate| rate.burst.get());
        let is_somebody = self.session.place.is_some();
        let most = if is_somebody { burst.saturating_mul(FLOOD_BURSTS).max(FLOOD_FRAMES) } else { FLOOD_OF_NOBODY };
        if self.refused > most {
            return Err(End::Close(CloseCode::Flooding));
        }
        Ok(Some(wait))
    }

    /// Waits until every command under way is answered.
    async fn answer_in_flight(&mut self) -> Result<(), End> {
        while !self.in_flight.0.is_empty() {
            let answered = self.in_flight.next().await;
            self.session.answer(answered)?;
        }
        Ok(())
    }

    /// The frame could not be read: say why, then close.
    fn broken(&mut self, code: CloseCode) -> Result<(), End> {
        let failure = match code {
            CloseCode::FrameTooLarge => {
                let limit = self.session.shared.limits.max_frame_bytes;
                Some(Failure::new(ErrorCode::FrameTooLarge, format!("a frame may have {limit} bytes at most")))
            }
            CloseCode::InvalidUtf8 => Some(Failure::new(ErrorCode::InvalidUtf8, "a text frame must be UTF-8")),
            _ => None,
        };
        if let Some(failure) = failure {
            self.session.say(failure.encode(NO_OP, &Echo::default()))?;
        }
        Err(End::Close(code))
    }

    /// Answers what was accepted, says goodbye and lets the socket go.
    async fn finish(mut self, end: End) {
        let End::Close(code) = end else { return };
        counter!("arcyou_closed_total", "code" => code.value().to_string()).increment(1);
        // A client that does not read cannot be answered; all others can.
        if code != CloseCode::SlowConsumer && self.answer_in_flight().await.is_ok() {
            let _ = self.wire.flush().await;
        }
        self.wire.close(code).await;
    }
}
