//! A client that does what the documentation tells clients to do, and writes a log: it reconnects, resumes after the
//! last `seq` that it has, and sends again with the same idempotency key until an answer is final.

mod hearing;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::history::{Ask, At, Change, Outcome, Page, Room as RoomSeen, Send, Seq, Stream, Verdict, Window};
use crate::socket::Socket;
use crate::talk;

/// One clock for all logs; the database's, too, since it runs on the same machine.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub SystemTime);

impl Clock {
    pub fn now(self) -> At {
        self.0.elapsed().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Send, join and leave.
    Busy,
    /// Bring to an end what was begun, and be everywhere.
    Settle,
    Finish,
}

/// What others may know of a device while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages whose fate is not known yet.
    pub unresolved: AtomicUsize,
    /// Where it stands in the conversations that it has joined.
    pub places: Mutex<HashMap<Uuid, Seq>>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub sends: Vec<Send>,
    pub changes: Vec<Change>,
    pub rooms: Vec<RoomSeen>,
    pub streams: Vec<Stream>,
    pub pages: Vec<Page>,
    /// How often each close code came.
    pub closes: BTreeMap<u16, usize>,
    pub unexpected: Vec<String>,
}

pub struct Device {
    pub number: u64,
    pub user: Uuid,
    pub doors: Vec<u16>,
    pub clock: Clock,
    pub phase: watch::Receiver<Phase>,
    pub progress: Arc<Progress>,
    /// Whether it reads; it always writes.
    pub reads: Arc<AtomicBool>,
    pub random: fastrand::Rng,
    pub rooms: HashMap<Uuid, Room>,
    pub log: Log,
    pub bodies: Vec<Value>,
    pub retries: Vec<Retry>,
    /// Messages that it may change or reply to, and whether they are its user's.
    pub known: Vec<(Uuid, i64, bool)>,
    pub sockets: u64,
}

/// A conversation as a device sees it.
#[derive(Debug, Default)]
pub struct Room {
    /// The last place that it has.
    have: Option<Seq>,
    /// What it has of it.
    seen: RoomSeen,
    /// Its stream in the log, while it is joined.
    stream: Option<usize>,
    /// When to join, also while it is joined.
    join_at: Option<At>,
    /// A join or leave is under way.
    asking: bool,
}

/// A message that must be sent again, or a change that must be asked for again.
#[derive(Debug)]
pub struct Retry {
    tried: Tried,
    at: At,
}

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub enum Tried {
    Send(usize),
    Change(usize),
}

/// What a reply will be about.
#[derive(Debug)]
pub enum Asked {
    Send(usize),
    Change(usize),
    Join { conversation: Uuid, after: Option<Seq> },
    Leave { conversation: Uuid },
    History { conversation: Uuid, window: Window },
}

/// The socket is of no use any more.
pub struct Broken;

/// A device that hears no answer for so long tries another way.
const ANSWER: Duration = Duration::from_secs(6);
const MOST_UNANSWERED: usize = 8;

impl Device {
    pub async fn run(mut self) -> Log {
        self.disconnected(Vec::new());
        while self.phase() != Phase::Finish {
            let door = self.doors[self.random.usize(..self.doors.len())];
            if let Some(socket) = Socket::open(door, self.user).await {
                self.sockets += 1;
                self.session(socket).await;
            }
            tokio::time::sleep(self.soon(20, 300)).await;
        }
        self.log
    }

    async fn session(&mut self, mut socket: Socket) {
        let mut phase = self.phase.clone();
        let mut tick = tokio::time::Instant::now();
        loop {
            tokio::select! {
                frame = socket.next(), if self.reads.load(Ordering::SeqCst) => match frame {
                    Some(frame) => self.hear(&mut socket, &frame),
                    None => break,
                },
                () = tokio::time::sleep_until(tick) => {
                    tick = tokio::time::Instant::now() + self.soon(20, 120);
                    if self.act(&mut socket).await.is_err() {
                        break;
                    }
                }
                () = finished(&mut phase) => {
                    let joined = self.rooms.values().filter(|room| room.join_at.is_none());
                    for (stream, room) in joined.filter_map(|room| Some((room.stream?, room))) {
                        self.log.streams[stream].open = true;
                        self.log.rooms.push(room.seen.clone());
                    }
                    return;
                }
            }
        }
        if let Some(code) = socket.closed {
            *self.log.closes.entry(code).or_default() += 1;
        }
        self.disconnected(socket.unanswered());
    }

    /// What was under way may have happened or not; everything joined is joined again.
    fn disconnected(&mut self, unanswered: Vec<(At, Asked)>) {
        let now = self.clock.now();
        for (asked, what) in unanswered {
            match what {
                Asked::Send(send) => self.tried(Tried::Send(send), asked, Outcome::Unknown),
                Asked::Change(change) => self.tried(Tried::Change(change), asked, Outcome::Unknown),
                _ => {}
            }
        }
        for room in self.rooms.values_mut() {
            let fresh = self.random.u8(..20) == 0;
            room.forget(fresh, now);
        }
        self.report(0);
    }

    /// Does what is due, and something by chance.
    async fn act(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        let now = self.clock.now();
        if socket.oldest().is_some_and(|asked| now > asked + ANSWER) {
            return Err(Broken);
        }
        let due: Vec<Uuid> = self.rooms.iter().filter(|(_, room)| room.is_due(now)).map(|(id, _)| *id).collect();
        for conversation in due {
            self.join(socket, conversation).await?;
        }
        while let Some(due) = self.retries.iter().position(|retry| retry.at <= now) {
            let Retry { tried, .. } = self.retries.swap_remove(due);
            match tried {
                Tried::Send(send) => self.send(socket, send).await?,
                Tried::Change(change) => self.change(socket, change).await?,
            }
        }
        if self.phase() == Phase::Busy {
            self.play(socket).await?;
        }
        if !self.reads.load(Ordering::SeqCst) {
            // More than the buffers on the way can hold.
            for _ in 0..5 {
                let conversation = self.any_conversation();
                self.history(socket, conversation, 200..=200).await?;
            }
        }
        self.report(socket.sends());
        Ok(())
    }

    async fn play(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        let conversation = self.any_conversation();
        let now = self.clock.now();
        match self.random.u8(..100) {
            0..60 if socket.sends() + self.retries.len() < MOST_UNANSWERED => {
                let key = format!("{}-{}", self.number, self.log.sends.len());
                let (body, verdict) = talk::body(&mut self.random, &key);
                self.bodies.push(body);
                let (conversation, reply_to) = match self.random.u8(..8) {
                    0 if !self.known.is_empty() => {
                        let (conversation, message, _) = self.known[self.random.usize(..self.known.len())];
                        (conversation, Some(message))
                    }
                    _ => (conversation, None),
                };
                let (user, attempts) = (self.user, Vec::new());
                self.log.sends.push(Send { user, conversation, key, reply_to, verdict, attempts });
                self.send(socket, self.log.sends.len() - 1).await
            }
            60..63 => {
                let room = self.rooms.entry(conversation).or_default();
                if room.stream.is_none() || room.asking {
                    return Ok(());
                }
                room.asking = true;
                let leave = json!({"op": "leave", "conversation_id": conversation});
                socket.ask(now, Asked::Leave { conversation }, leave).await
            }
            // Joins once more, or sooner than it had to.
            63..65 => {
                self.rooms.entry(conversation).or_default().join_at = Some(now);
                Ok(())
            }
            65 => Err(Broken),
            66..68 => self.history(socket, conversation, 1..=20).await,
            68..88 if socket.sends() + self.retries.len() < MOST_UNANSWERED => self.play_a_change(socket).await,
            _ => Ok(()),
        }
    }

    /// Changes something that was said.
    async fn play_a_change(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        if self.known.is_empty() {
            return Ok(());
        }
        let (conversation, message, own) = self.known[self.random.usize(..self.known.len())];
        let ask = match self.random.u8(..10) {
            0..5 if own => {
                let key = format!("{}-e{}", self.number, self.log.changes.len());
                match talk::body(&mut self.random, &key) {
                    // What is held may wait for ever.
                    (_, Verdict::Hold(_)) => return Ok(()),
                    (body, verdict) => Ask::Edit { key, body, verdict },
                }
            }
            5 if own => Ask::Delete,
            random => {
                let reaction = ["+1", "-1", "\u{2764}"][usize::from(random) % 3].to_owned();
                Ask::React { reaction, remove: self.random.u8(..3) == 0 }
            }
        };
        self.log.changes.push(Change { user: self.user, conversation, message, ask, attempts: Vec::new() });
        self.change(socket, self.log.changes.len() - 1).await
    }

    async fn change(&mut self, socket: &mut Socket, change: usize) -> Result<(), Broken> {
        let Change { conversation, message, ask, .. } = &self.log.changes[change];
        let mut request = json!({"conversation_id": conversation, "message_id": message});
        let fields = match ask {
            Ask::Edit { key, body, .. } => json!({"op": "edit", "body": body, "idempotency_key": key}),
            Ask::Delete => json!({"op": "delete"}),
            Ask::React { reaction, remove } => json!({"op": "react", "reaction": reaction, "remove": remove}),
        };
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        socket.ask(self.clock.now(), Asked::Change(change), request).await
    }

    fn any_conversation(&mut self) -> Uuid {
        let mut conversations: Vec<Uuid> = self.rooms.keys().copied().collect();
        conversations.sort_unstable();
        conversations[self.random.usize(..conversations.len())]
    }

    /// Asks for a page from anywhere.
    async fn history(
        &mut self,
        socket: &mut Socket,
        conversation: Uuid,
        limits: RangeInclusive<u64>,
    ) -> Result<(), Broken> {
        let place = self.random.i64(0..=self.rooms[&conversation].have.unwrap_or(0) + 5);
        let limit = self.random.u64(limits);
        let mut request = json!({"op": "history", "conversation_id": conversation, "limit": limit});
        let window = match self.random.u8(..3) {
            0 => Window::Newest,
            1 => {
                request["before_seq"] = json!(place);
                Window::Before(place)
            }
            _ => {
                request["after_seq"] = json!(place);
                Window::After(place)
            }
        };
        socket.ask(self.clock.now(), Asked::History { conversation, window }, request).await
    }

    async fn send(&mut self, socket: &mut Socket, send: usize) -> Result<(), Broken> {
        let Send { conversation, key, reply_to, .. } = &self.log.sends[send];
        let body = &self.bodies[send];
        let mut request = json!({"op": "send", "conversation_id": conversation, "body": body, "idempotency_key": key});
        if let Some(message) = reply_to {
            request["reply_to"] = json!(message);
        }
        socket.ask(self.clock.now(), Asked::Send(send), request).await
    }

    async fn join(&mut self, socket: &mut Socket, conversation: Uuid) -> Result<(), Broken> {
        let Some(room) = self.rooms.get_mut(&conversation) else { return Ok(()) };
        let after = room.have;
        (room.join_at, room.asking) = (None, true);
        let mut request = json!({"op": "join", "conversation_id": conversation});
        if let Some(after) = after {
            request["after_seq"] = json!(after);
        }
        socket.ask(self.clock.now(), Asked::Join { conversation, after }, request).await
    }

    fn report(&self, under_way: usize) {
        self.progress.unresolved.store(under_way + self.retries.len(), Ordering::SeqCst);
        let settled = self.rooms.iter().filter(|(_, room)| room.stream.is_some() && room.join_at.is_none());
        *self.progress.places.lock().unwrap() = settled.filter_map(|(id, room)| Some((*id, room.have?))).collect();
    }

    fn unexpected(&mut self, what: &str, frame: &Value) {
        let (now, socket) = (self.clock.now(), self.number * 10_000 + self.sockets);
        self.log.unexpected.push(format!("{what} on socket {socket} of {} at {now:?}: {frame}", self.user));
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn soon(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.u64(from..to))
    }

    fn later(&mut self, from: u64, to: u64) -> At {
        self.clock.now() + self.soon(from, to)
    }
}

async fn finished(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Finish).await;
}

impl Room {
    /// Is not joined any more, and will be; a fresh one has forgotten what it had.
    fn forget(&mut self, fresh: bool, join_at: At) {
        let kept = if fresh { Self::default() } else { std::mem::take(self) };
        *self = Self { have: kept.have, seen: kept.seen, join_at: Some(join_at), ..Self::default() };
    }

    fn is_due(&self, now: At) -> bool {
        !self.asking && self.join_at.is_some_and(|at| at <= now)
    }
}
