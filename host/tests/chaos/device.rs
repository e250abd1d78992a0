//! A client that does what the README tells clients to do, and writes a log: it reconnects, resumes after the last `seq` that it has,
//! and sends again with the same idempotency key until an answer is final.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::history::{At, Attempt, Event, Outcome, Send, Seq, Stream};
use crate::socket::Socket;

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
    pub streams: Vec<Stream>,
    pub unexpected: Vec<String>,
}

pub struct Device {
    pub number: u64,
    pub user: Uuid,
    pub doors: Vec<u16>,
    pub clock: Clock,
    pub phase: watch::Receiver<Phase>,
    pub progress: std::sync::Arc<Progress>,
    pub random: fastrand::Rng,
    pub rooms: HashMap<Uuid, Room>,
    pub log: Log,
    pub retries: Vec<Retry>,
    pub sockets: u64,
}

/// A conversation as a device sees it.
#[derive(Debug, Default)]
pub struct Room {
    /// The last place that it has.
    have: Option<Seq>,
    /// Its stream in the log, while it is joined.
    stream: Option<usize>,
    /// When to join, also while it is joined.
    join_at: Option<At>,
    /// A join or leave is under way.
    asking: bool,
}

/// A message that must be sent again.
#[derive(Debug)]
pub struct Retry {
    send: usize,
    at: At,
}

/// What a reply will be about.
#[derive(Debug)]
pub enum Asked {
    Send(usize),
    Join { conversation: Uuid, after: Option<Seq> },
    Leave { conversation: Uuid },
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
                frame = socket.next() => match frame {
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
                    for stream in joined.filter_map(|room| room.stream) {
                        self.log.streams[stream].open = true;
                    }
                    return;
                }
            }
        }
        self.disconnected(socket.unanswered());
    }

    /// What was under way may have happened or not; everything joined is joined again.
    fn disconnected(&mut self, unanswered: Vec<(At, Asked)>) {
        let now = self.clock.now();
        for (asked, what) in unanswered {
            if let Asked::Send(send) = what {
                self.tried(send, asked, Outcome::Unknown);
            }
        }
        for room in self.rooms.values_mut() {
            let fresh = self.random.u8(..20) == 0;
            *room = Room { have: room.have.filter(|_| !fresh), join_at: Some(now), ..Room::default() };
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
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|retry: &Retry| retry.at <= now);
        self.retries = later;
        for Retry { send, .. } in due {
            self.send(socket, send).await?;
        }
        if self.phase() == Phase::Busy {
            self.play(socket).await?;
        }
        self.report(socket.sends());
        Ok(())
    }

    async fn play(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        let mut conversations: Vec<Uuid> = self.rooms.keys().copied().collect();
        conversations.sort_unstable();
        let conversation = conversations[self.random.usize(..conversations.len())];
        let now = self.clock.now();
        match self.random.u8(..100) {
            0..60 if socket.sends() + self.retries.len() < MOST_UNANSWERED => {
                let key = format!("{}-{}", self.number, self.log.sends.len());
                self.log.sends.push(Send { user: self.user, conversation, key, attempts: Vec::new() });
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
            _ => Ok(()),
        }
    }

    async fn send(&mut self, socket: &mut Socket, send: usize) -> Result<(), Broken> {
        let Send { conversation, key, .. } = &self.log.sends[send];
        let body = json!({"text": format!("message {key}")});
        let request = json!({"op": "send", "conversation_id": conversation, "body": body, "idempotency_key": key});
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

    fn hear(&mut self, socket: &mut Socket, frame: &Value) {
        if frame["op"] == "event" {
            return self.event(frame);
        }
        match frame["ref"].as_u64().and_then(|reference| socket.answered(reference)) {
            Some((asked, Asked::Send(send))) => self.sent(send, asked, frame),
            Some((asked, Asked::Join { conversation, after })) => self.joined(conversation, after, asked, frame),
            Some((_, Asked::Leave { conversation })) => {
                if frame["success"] != true && frame["code"] != "not_joined" {
                    self.unexpected("answer to a leave", frame);
                }
                let (fresh, join_at) = (self.random.u8(..10) == 0, self.later(100, 1500));
                let room = self.rooms.entry(conversation).or_default();
                *room = Room { have: room.have.filter(|_| !fresh), join_at: Some(join_at), ..Room::default() };
            }
            // The socket has lost the conversation; to join again shows for how long.
            None if frame["op"] == "join" && frame["code"] == "not_participant" => {
                let join_at = self.later(50, 500);
                self.rooms.entry(conversation_of(frame)).or_default().join_at = Some(join_at);
            }
            None => self.unexpected("frame", frame),
        }
    }

    fn event(&mut self, frame: &Value) {
        let (at, conversation) = (self.clock.now(), conversation_of(frame));
        let room = self.rooms.entry(conversation).or_default();
        match (frame["type"].as_str(), room.stream) {
            (Some("message.created"), Some(stream)) => {
                let message = &frame["message"];
                let (seq, id) =
                    (message["seq"].as_i64().unwrap_or_default(), message["id"].as_i64().unwrap_or_default());
                room.have = room.have.max(Some(seq));
                self.log.streams[stream].events.push(Event { at, seq, id });
            }
            (Some("participant.removed"), Some(_)) => {}
            _ => self.unexpected("event", frame),
        }
    }

    fn sent(&mut self, send: usize, asked: At, frame: &Value) {
        let outcome = match (frame["status"].as_str(), frame["code"].as_str()) {
            (Some("stored"), _) => Outcome::Stored {
                id: frame["message_id"].as_i64().unwrap_or_default(),
                seq: frame["seq"].as_i64().unwrap_or_default(),
                duplicate: frame["duplicate"] == true,
            },
            (_, Some("outcome_unknown")) => Outcome::Unknown,
            (_, Some("unavailable" | "overloaded")) => Outcome::Refused,
            // Final: nobody waits for a right to come back.
            (_, Some("not_participant")) => {
                let attempt = Attempt { asked, ended: self.clock.now(), outcome: Outcome::Refused };
                return self.log.sends[send].attempts.push(attempt);
            }
            _ => {
                self.unexpected("answer to a send", frame);
                Outcome::Unknown
            }
        };
        self.tried(send, asked, outcome);
    }

    fn tried(&mut self, send: usize, asked: At, outcome: Outcome) {
        if !matches!(outcome, Outcome::Stored { .. }) {
            let at = self.later(50, 400);
            self.retries.push(Retry { send, at });
        }
        self.log.sends[send].attempts.push(Attempt { asked, ended: self.clock.now(), outcome });
    }

    fn joined(&mut self, conversation: Uuid, after: Option<Seq>, asked: At, frame: &Value) {
        let (joined, again) = (self.clock.now(), self.later(100, 500));
        let room = self.rooms.entry(conversation).or_default();
        room.asking = false;
        if frame["success"] != true {
            room.join_at = Some(again);
            if !["unavailable", "not_participant"].contains(&frame["code"].as_str().unwrap_or_default()) {
                self.unexpected("answer to a join", frame);
            }
            return;
        }
        let last = frame["last_seq"].as_i64().unwrap_or_default();
        let from = after.filter(|_| frame["resumed"] == true).unwrap_or(last);
        room.have = room.have.max(Some(from));
        room.stream = Some(self.log.streams.len());
        let (user, socket, events) = (self.user, self.number * 10_000 + self.sockets, Vec::new());
        self.log.streams.push(Stream { user, conversation, socket, asked, joined, from, events, open: false });
        if after.is_some() && frame["resumed"] != true {
            self.unexpected("refusal to resume", frame);
        }
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

fn conversation_of(frame: &Value) -> Uuid {
    frame["conversation_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default()
}

async fn finished(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Finish).await;
}

impl Room {
    fn is_due(&self, now: At) -> bool {
        !self.asking && self.join_at.is_some_and(|at| at <= now)
    }
}
