//! The store is the truth, the bus a hint: rooms are compared with the store after each break of the bus, each second
//! while it is away, and now and then when all seems well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_platform::contract::{CONVERSATION_DELETED, PARTICIPANT_REMOVED, PubSubMode};
use arcyou_protocol::event::event_frame;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::history::HistoryError;
use super::hub::{Doubt, Due, Hub};
use super::incoming::concerned_user;
use super::repair::{follow_up, let_write};
use super::revocation::{UsersMembers, correct, member_roles};
use super::room::{Presence, Room};
use super::seen::OutboxWatermarks;
use crate::store::{OutboxEvent, PageLimits};

/// How often rooms that the bus does not reach are looked after.
const TICK: Duration = Duration::from_secs(1);
/// Rooms compared in one question, and pairs of conversation and user.
const ROOMS: usize = 500;
const PAIRS: usize = 1000;
/// Events read in one page, which are in memory together.
const EVENTS: PageLimits = PageLimits { rows: 500, bytes: 512 * 1024 };
/// Outbox ids commit in any order: a reader goes back this much further than the last time. A transaction that is open
/// for longer shows its events over the bus, unless that breaks in the very moment.
const OVERLAP: Duration = Duration::from_secs(60);
/// The same while rooms are read every second.
const SHORT_OVERLAP: Duration = Duration::from_secs(5);
/// Samples of the newest outbox id: one a second for ten minutes, fewer for what is older.
const SAMPLES: usize = 1200;

struct CatchUp {
    hub: Arc<Hub>,
    watermarks: OutboxWatermarks,
    /// The newest outbox id when the gateway started: what was before is nobody's to catch up.
    base: Option<i64>,
    /// Rooms whose comparison failed; they wait for the next tick.
    again: HashSet<Due>,
    swept: Instant,
    /// Whether this sweep has found changes that the bus did not bring.
    found: bool,
    /// How many events had come when a sweep last found something.
    silent_at: Option<u64>,
}

/// Looks after the rooms for as long as the fan-out lives.
pub(super) async fn run(hub: Arc<Hub>) {
    let (watermarks, again) = (OutboxWatermarks::new(SAMPLES), HashSet::new());
    let mut this = CatchUp {
        hub: hub.clone(),
        watermarks,
        base: None,
        again,
        swept: Instant::now(),
        found: false,
        silent_at: None,
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.due.added() => {
                let due = hub.due.take();
                this.look_after(due, OVERLAP).await;
            }
            _ = tick.tick() => this.tick().await,
        }
    }
}

impl CatchUp {
    async fn tick(&mut self) {
        self.sample().await;
        let mut due = std::mem::take(&mut self.again);
        if self.swept.elapsed() >= self.hub.config.sweep {
            due.insert(Due::All);
        }
        let sweeps = due.contains(&Due::All);
        if !due.is_empty() {
            self.look_after(due, OVERLAP).await;
        }
        if sweeps {
            self.end_sweep();
        }
        let cut_off = self.hub.registry.cut_off();
        self.compare(&cut_off, SHORT_OVERLAP).await;
    }

    /// What a sweep finds was committed a moment ago, or should have come. In the first case something comes soon; if
    /// nothing has come between two sweeps that both found something, the bus brings nothing.
    fn end_sweep(&mut self) {
        self.swept = Instant::now();
        let (found, received) = (std::mem::take(&mut self.found), self.hub.received());
        if found && self.hub.registry.cut_off().is_empty() {
            if self.silent_at == Some(received) {
                self.hub.note_overdue();
            }
            self.silent_at = Some(received);
        }
    }

    /// Keeps the newest outbox id fresh where the bus does not tell it.
    async fn sample(&mut self) {
        let deaf =
            self.hub.registry.mode() != PubSubMode::Global || self.hub.registry.global_epoch().current().is_none();
        if deaf || self.base.is_none() {
            match self.hub.history.newest_outbox_id().await {
                Ok(id) => {
                    self.hub.note_answer();
                    self.base.get_or_insert(id);
                    self.hub.note_newest(id);
                }
                Err(error) => self.hub.note_failure("the outbox could not be read", &error),
            }
        }
        self.watermarks.note(Instant::now(), self.hub.newest());
    }

    async fn look_after(&mut self, due: HashSet<Due>, overlap: Duration) {
        if self.base.is_none() {
            self.sample().await;
        }
        let rooms: Vec<Arc<Room>> = if due.contains(&Due::All) {
            self.hub.registry.all()
        } else {
            let named = due.iter().filter_map(|due| match due {
                Due::Room(conversation) => self.hub.registry.get(*conversation),
                Due::All => None,
            });
            named.collect()
        };
        self.compare(&rooms, overlap).await;
    }

    /// Compares rooms with the store, some at a time. What fails is tried again with the next tick.
    async fn compare(&mut self, rooms: &[Arc<Room>], overlap: Duration) {
        for rooms in rooms.chunks(ROOMS) {
            let started = Instant::now();
            let present: Present =
                rooms.iter().filter_map(|room| Some((room.conversation, (room.clone(), room.presence()?)))).collect();
            if present.is_empty() {
                continue;
            }
            self.hub.meter.catch_ups.increment(present.len() as u64);
            match self.compare_some(&present, overlap).await {
                Ok(()) => {
                    self.hub.note_answer();
                    present.values().for_each(|(room, _)| room.note_caught_up(started));
                }
                Err(error) => {
                    self.hub.note_failure("rooms could not be compared with the database", &error);
                    self.again.extend(present.keys().map(|conversation| Due::Room(*conversation)));
                }
            }
        }
    }

    async fn compare_some(&mut self, present: &Present, overlap: Duration) -> Result<(), HistoryError> {
        // Rights first: nobody should hear what is caught up who is not to hear it.
        let mut members = UsersMembers::new();
        for (conversation, (room, presence)) in present {
            for member in &presence.members {
                let of_user = members.entry((*conversation, member.user)).or_insert_with(|| (room.clone(), Vec::new()));
                of_user.1.push(member.clone());
            }
        }
        let mut changes = Vec::new();
        for roles in member_roles(&members).chunks(PAIRS) {
            changes.extend(self.hub.history.changed_roles(roles).await?);
        }
        let told = self.events(present, overlap).await;
        correct(&self.hub, &members, changes);
        told?;
        let positions: Vec<_> =
            present.iter().map(|(conversation, (_, presence))| (*conversation, presence.position)).collect();
        for conversation in self.hub.history.behind(&positions).await? {
            self.found = true;
            if let Some((room, _)) = present.get(&conversation) {
                follow_up(&self.hub, room, room.mark_missing(), Duration::ZERO);
            }
        }
        Ok(())
    }

    /// Events other than changes that these rooms may have missed.
    async fn events(&self, present: &Present, overlap: Duration) -> Result<(), HistoryError> {
        let base = self.base.ok_or(HistoryError::Late)?;
        let from = |presence: &Presence| {
            let since = presence.caught_up.map_or(base, |time| self.watermarks.at(time, overlap));
            since.max(presence.floor).max(base)
        };
        let from: HashMap<Uuid, i64> =
            present.iter().map(|(conversation, (_, presence))| (*conversation, from(presence))).collect();
        let conversations: Vec<Uuid> = from.keys().copied().collect();
        let Some(mut after) = from.values().copied().min() else { return Ok(()) };
        loop {
            let page = self.hub.history.other_events(&conversations, after, EVENTS).await?;
            let Some(last) = page.items.last() else { return Ok(()) };
            after = last.id;
            self.hub.note_newest(last.id);
            let wanted =
                page.items.into_iter().filter(|event| from.get(&event.conversation_id) < Some(&event.id)).collect();
            let rooms = self.tell(present, wanted).await?;
            if !page.more {
                return Ok(());
            }
            let_write(&rooms).await;
        }
    }

    /// Tells the rooms of events from the outbox. A removal is told only if it still holds: what is read here may be
    /// from before the user came back. Answers with the rooms that heard something.
    async fn tell(&self, present: &Present, events: Vec<OutboxEvent>) -> Result<Vec<Arc<Room>>, HistoryError> {
        let removed = |event: &OutboxEvent| {
            let user = (event.kind == PARTICIPANT_REMOVED).then(|| concerned_user(&event.payload)).flatten()?;
            Some((event.conversation_id, user))
        };
        let gone = self.not_participants(events.iter().filter_map(removed).collect()).await?;
        let mut heard = HashMap::new();
        for event in &events {
            let Some((room, _)) = present.get(&event.conversation_id) else { continue };
            if removed(event).is_some_and(|pair| !gone.contains(&pair)) {
                continue;
            }
            let frame = || event_frame(event.id, &event.kind, event.conversation_id, &event.payload).into();
            if !room.event(event.id, true, frame) {
                continue;
            }
            heard.insert(event.conversation_id, room.clone());
            if event.kind == CONVERSATION_DELETED {
                self.hub.doubts.add(Doubt::Deleted { conversation: event.conversation_id });
            }
        }
        Ok(heard.into_values().collect())
    }

    async fn not_participants(&self, pairs: HashSet<(Uuid, Uuid)>) -> Result<HashSet<(Uuid, Uuid)>, HistoryError> {
        let pairs: Vec<(Uuid, Uuid)> = pairs.into_iter().collect();
        let mut gone = HashSet::new();
        for pairs in pairs.chunks(PAIRS) {
            gone.extend(self.hub.history.not_participants(pairs).await?);
        }
        Ok(gone)
    }
}

type Present = HashMap<Uuid, (Arc<Room>, Presence)>;
