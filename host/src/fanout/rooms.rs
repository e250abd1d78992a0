//! What a session holds of a conversation: first a [`RoomRef`], then a [`Membership`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::hub::{Due, Hub};
use super::members::{MemberId, Parting};
use super::room::{Entered, Room};
use crate::session::outbound::Outbound;
use crate::store::Seq;

/// A conversation's room, entered but not listened to. While it lives the room is subscribed, and what is delivered is
/// kept, within bounds, for when it attaches. So: enter, then check the right and read the store, then attach.
#[must_use = "dropping it leaves the room"]
pub struct RoomRef {
    hub: Arc<Hub>,
    room: Arc<Room>,
    entered: Entered,
    joining: bool,
}

/// The room has delivered more than the joiner has, and cannot repeat all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Read the store up to this message at least, then attach again with the new cursor. Where the store has nothing up to
    /// here any more, because messages were deleted, this is the new cursor.
    pub delivered: Seq,
}

impl RoomRef {
    pub(super) fn enter(hub: Arc<Hub>, conversation: Uuid) -> Self {
        let room = hub.directory.enter(conversation, hub.newest());
        let entered = room.open();
        Self { hub, room, entered, joining: true }
    }

    /// The conversation.
    pub fn conversation(&self) -> Uuid {
        self.room.conversation
    }

    /// Goes live: everything after `cursor` will be pushed to `outbound`, once and in order. `cursor` must not be beyond
    /// the conversation's newest message, and the user's right must have been checked after entering.
    ///
    /// An error means that the caller took too long to read, in a conversation that went on: read on, and try again.
    pub fn attach(mut self, user: Uuid, cursor: Seq, outbound: Arc<Outbound>) -> Result<Membership, (Self, Behind)> {
        let attached = match self.room.attach(self.entered, user, cursor, outbound) {
            Ok(attached) => attached,
            Err(delivered) => return Err((self, Behind { delivered })),
        };
        self.joining = false;
        self.hub.settle(&self.room, attached.aftermath, Duration::ZERO);
        if attached.maybe_removed {
            self.hub.doubts.add((self.room.conversation, user));
        }
        if attached.maybe_missed {
            self.hub.due.add(Due::Room(self.room.conversation));
        }
        Ok(Membership { id: attached.id, parting: attached.parting, room: self })
    }
}

impl Drop for RoomRef {
    fn drop(&mut self) {
        if self.joining {
            self.room.give_up_joining();
        }
        self.hub.directory.release(&self.room);
    }
}

impl fmt::Debug for RoomRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RoomRef").field("conversation", &self.room.conversation).finish_non_exhaustive()
    }
}

/// A socket's place in a conversation: events are pushed to its queue while this lives. Dropping it leaves the room.
#[must_use = "dropping it leaves the room"]
pub struct Membership {
    id: MemberId,
    parting: Arc<Parting>,
    room: RoomRef,
}

impl Membership {
    /// The conversation.
    pub fn conversation(&self) -> Uuid {
        self.room.conversation()
    }

    /// The last message that was queued, or that the member had when it attached. The next one may come at any moment.
    pub fn cursor(&self) -> Seq {
        self.room.room.cursor(self.id).unwrap_or_else(|| self.parting.cursor())
    }

    /// Leaves the room, for good at this cursor.
    pub fn leave(self) -> Seq {
        self.room.room.leave(self.id);
        self.parting.cursor()
    }

    /// Whether the user lost the conversation: nothing more will come, and this may be dropped. The socket's queue is
    /// nudged when this turns true.
    pub fn is_evicted(&self) -> bool {
        self.parting.is_evicted()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.room.leave(self.id);
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Membership")
            .field("conversation", &self.conversation())
            .field("evicted", &self.is_evicted())
            .finish_non_exhaustive()
    }
}
