//! Which conversations have a room here, and which channels that makes the subscriber want.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcyou_platform::contract::PubSubMode;
use uuid::Uuid;

use super::channel_epoch::ChannelEpoch;
use super::meter::Meter;
use super::pending_set::PendingSet;
use super::resequence::HoldLimits;
use super::room::Room;

/// All rooms. A room stands in it while somebody holds a reference that [`RoomRegistry::enter`] gave; the count is kept
/// under the same lock as the map, so that the last one leaving and a new one entering cannot miss each other.
#[derive(Debug)]
pub(super) struct RoomRegistry {
    mode: PubSubMode,
    limits: HoldLimits,
    /// In global mode one channel carries all rooms.
    global: Arc<ChannelEpoch>,
    rooms: Mutex<HashMap<Uuid, RegisteredRoom>>,
    /// Conversations whose room is wanted now, or gone, for the subscriber to see which it is when it looks.
    changes: PendingSet<Uuid>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct RegisteredRoom {
    room: Arc<Room>,
    references: usize,
}

impl RoomRegistry {
    pub(super) fn new(mode: PubSubMode, limits: HoldLimits, meter: Arc<Meter>) -> Self {
        Self { mode, limits, global: Arc::default(), rooms: Mutex::default(), changes: PendingSet::default(), meter }
    }

    pub(super) fn mode(&self) -> PubSubMode {
        self.mode
    }

    /// The conversation's room, made if there is none. Every call is answered by one of [`Self::release`].
    pub(super) fn enter(&self, conversation: Uuid, newest: i64) -> Arc<Room> {
        let mut rooms = self.lock();
        let room = match rooms.entry(conversation) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().references += 1;
                return entry.get().room.clone();
            }
            Entry::Vacant(place) => {
                let epoch = match self.mode {
                    PubSubMode::Global => self.global.clone(),
                    PubSubMode::PerConversation | PubSubMode::Sharded => Arc::default(),
                };
                let room = Arc::new(Room::new(conversation, epoch, self.limits, newest, self.meter.clone()));
                place.insert(RegisteredRoom { room, references: 1 }).room.clone()
            }
        };
        drop(rooms);
        self.meter.rooms.increment(1.0);
        room
    }

    /// Asks for the room's events: somebody has a right to them. Before that a room costs the bus nothing, whoever
    /// tries to join.
    pub(super) fn want(&self, room: &Room) {
        if room.want() {
            self.note_change(room.conversation);
        }
    }

    /// One holder less; the last one takes the room with it.
    pub(super) fn release(&self, room: &Arc<Room>) {
        let mut rooms = self.lock();
        // A room that was removed before its holders left may have a successor.
        let Some(entry) = rooms.get_mut(&room.conversation).filter(|entry| Arc::ptr_eq(&entry.room, room)) else {
            return;
        };
        entry.references -= 1;
        if entry.references == 0 {
            self.take(rooms, room);
        }
    }

    /// Closes a room at once, whoever holds it. Who enters the conversation next gets a new one.
    pub(super) fn remove(&self, room: &Arc<Room>) {
        room.close();
        let rooms = self.lock();
        if rooms.get(&room.conversation).is_some_and(|entry| Arc::ptr_eq(&entry.room, room)) {
            self.take(rooms, room);
        }
    }

    pub(super) fn get(&self, conversation: Uuid) -> Option<Arc<Room>> {
        self.lock().get(&conversation).map(|entry| entry.room.clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Room>> {
        self.lock().values().map(|entry| entry.room.clone()).collect()
    }

    /// Rooms whose events the bus does not carry at the moment.
    pub(super) fn cut_off(&self) -> Vec<Arc<Room>> {
        if self.mode == PubSubMode::Global && self.global.current().is_some() {
            return Vec::new();
        }
        let rooms = self.lock();
        rooms.values().filter(|entry| entry.room.epoch.current().is_none()).map(|entry| entry.room.clone()).collect()
    }

    pub(super) fn global_epoch(&self) -> &ChannelEpoch {
        &self.global
    }

    /// Notes that no channel is carried any more.
    pub(super) fn all_down(&self) {
        self.global.down();
        if self.mode != PubSubMode::Global {
            for entry in self.lock().values() {
                entry.room.epoch.down();
            }
        }
    }

    /// Conversations whose room is wanted now, or gone, where each has a channel of its own.
    pub(super) fn changes(&self) -> &PendingSet<Uuid> {
        &self.changes
    }

    fn take(&self, mut rooms: MutexGuard<'_, HashMap<Uuid, RegisteredRoom>>, room: &Arc<Room>) {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, RegisteredRoom>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
