//! Which conversations have a room here, and which channels that makes the subscriber want.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcyou_platform::contract::PubSubMode;
use uuid::Uuid;

use super::joining::Line;
use super::meter::Meter;
use super::resequence::HoldLimits;
use super::room::Room;
use super::wishes::Wishes;

/// All rooms. A room stands in it while somebody holds a reference that [`Directory::enter`] gave; the count is kept under
/// the same lock as the map, so that the last one leaving and a new one entering cannot miss each other.
#[derive(Debug)]
pub(super) struct Directory {
    mode: PubSubMode,
    limits: HoldLimits,
    /// In global mode one channel carries all rooms.
    global: Arc<Line>,
    rooms: Mutex<HashMap<Uuid, Held>>,
    /// Conversations that got or lost their room, for the subscriber to see which it is when it looks.
    changes: Wishes<Uuid>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Held {
    room: Arc<Room>,
    references: usize,
}

impl Directory {
    pub(super) fn new(mode: PubSubMode, limits: HoldLimits, meter: Arc<Meter>) -> Self {
        Self { mode, limits, global: Arc::default(), rooms: Mutex::default(), changes: Wishes::default(), meter }
    }

    pub(super) fn mode(&self) -> PubSubMode {
        self.mode
    }

    /// The conversation's room, made if there is none. Every call is answered by one of [`Self::release`].
    pub(super) fn enter(&self, conversation: Uuid, newest: i64) -> Arc<Room> {
        let mut rooms = self.lock();
        let room = match rooms.entry(conversation) {
            Entry::Occupied(mut held) => {
                held.get_mut().references += 1;
                return held.get().room.clone();
            }
            Entry::Vacant(place) => {
                let line = match self.mode {
                    PubSubMode::Global => self.global.clone(),
                    PubSubMode::PerConversation | PubSubMode::Sharded => Arc::default(),
                };
                let room = Arc::new(Room::new(conversation, line, self.limits, newest, self.meter.clone()));
                place.insert(Held { room, references: 1 }).room.clone()
            }
        };
        drop(rooms);
        self.meter.rooms.increment(1.0);
        self.note_change(conversation);
        room
    }

    /// One holder less; the last one takes the room with it.
    pub(super) fn release(&self, room: &Arc<Room>) {
        let mut rooms = self.lock();
        // A room that was removed before its holders left may have a successor.
        let Some(held) = rooms.get_mut(&room.conversation).filter(|held| Arc::ptr_eq(&held.room, room)) else {
            return;
        };
        held.references -= 1;
        if held.references == 0 {
            self.take(rooms, room);
        }
    }

    /// Closes a room at once, whoever holds it. Who enters the conversation next gets a new one.
    pub(super) fn remove(&self, room: &Arc<Room>) {
        room.close();
        let rooms = self.lock();
        if rooms.get(&room.conversation).is_some_and(|held| Arc::ptr_eq(&held.room, room)) {
            self.take(rooms, room);
        }
    }

    pub(super) fn get(&self, conversation: Uuid) -> Option<Arc<Room>> {
        self.lock().get(&conversation).map(|held| held.room.clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Room>> {
        self.lock().values().map(|held| held.room.clone()).collect()
    }

    /// Rooms whose events the bus does not carry at the moment.
    pub(super) fn cut_off(&self) -> Vec<Arc<Room>> {
        if self.mode == PubSubMode::Global && self.global.stretch().is_some() {
            return Vec::new();
        }
        let rooms = self.lock();
        rooms.values().filter(|held| held.room.line.stretch().is_none()).map(|held| held.room.clone()).collect()
    }

    pub(super) fn global_line(&self) -> &Line {
        &self.global
    }

    /// Notes that no channel is carried any more.
    pub(super) fn all_down(&self) {
        self.global.down();
        if self.mode != PubSubMode::Global {
            for held in self.lock().values() {
                held.room.line.down();
            }
        }
    }

    /// Conversations whose room came or went, where each has a channel of its own.
    pub(super) fn changes(&self) -> &Wishes<Uuid> {
        &self.changes
    }

    fn take(&self, mut rooms: MutexGuard<'_, HashMap<Uuid, Held>>, room: &Arc<Room>) {
        rooms.remove(&room.conversation);
        drop(rooms);
        // Ends what still works for the room.
        room.close();
        self.meter.rooms.decrement(1.0);
        self.note_change(room.conversation);
    }

    fn note_change(&self, conversation: Uuid) {
        if self.mode != PubSubMode::Global {
            self.changes.add(conversation);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
