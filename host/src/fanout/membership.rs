//! What a session holds of a conversation: first a [`RoomRef`], then a [`Membership`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::Seq;
use uuid::Uuid;

use super::hub::{Doubt, Due, Hub};
use super::members::{MemberId, NewMember, Standing};
use super::repair::follow_up;
use super::room::{Entered, Room};

/// A conversation's room, entered but not listened to. While it lives, what is delivered in the room is kept, within
/// bounds, for when it attaches. So: enter, then check the right and read the store, then attach.
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
    /// Read the store up to this change at least, then attach again with the new cursor. Where the store has nothing
    /// up to here any more, because messages were deleted, this is the new cursor.
    pub delivered: Seq,
}

impl RoomRef {
    pub(super) fn enter(hub: Arc<Hub>, conversation: Uuid) -> Self {
        let room = hub.registry.enter(conversation, hub.newest());
        let entered = room.open();
        Self { hub, room, entered, joining: true }
    }

    /// The conversation.
    pub fn conversation(&self) -> Uuid {
        self.room.conversation
    }

    /// Goes live: everything after the member's cursor will be pushed to its queue, once and in order.
    ///
    /// An error means that the caller took too long to read, in a conversation that went on: read on, and try again.
    pub fn attach(mut self, member: NewMember) -> Result<Membership, (Self, Behind)> {
        let user = member.user;
        self.hub.registry.want(&self.room);
        let attached = match self.room.attach(self.entered, member) {
            Ok(attached) => attached,
            Err(delivered) => return Err((self, Behind { delivered })),
        };
        self.joining = false;
        follow_up(&self.hub, &self.room, attached.follow_ups, Duration::ZERO);
        if attached.maybe_changed {
            self.hub.doubts.add(Doubt::Member { conversation: self.room.conversation, user });
        }
        if attached.maybe_missed {
            self.hub.due.add(Due::Room(self.room.conversation));
        }
        Ok(Membership { id: attached.id, standing: attached.standing, room: self })
    }
}

impl Drop for RoomRef {
    fn drop(&mut self) {
        if self.joining {
            self.room.give_up_joining();
        }
        self.hub.registry.release(&self.room);
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
    standing: Arc<Standing>,
    room: RoomRef,
}

impl Membership {
    /// The conversation.
    pub fn conversation(&self) -> Uuid {
        self.room.conversation()
    }

    /// The last change that was queued, or that the member had when it attached. The next one may come at any moment.
    pub fn cursor(&self) -> Seq {
        self.room.room.cursor(self.id).unwrap_or_else(|| self.standing.cursor())
    }

    /// Leaves the room, for good at this cursor.
    pub fn leave(self) -> Seq {
        self.room.room.leave(self.id);
        self.standing.cursor()
    }

    /// The user's role in the conversation; it follows the store.
    pub fn role(&self) -> Arc<str> {
        self.standing.role()
    }

    /// Whether what the member lacks was purged: nothing more will come, and the client has to begin anew. The socket's
    /// queue is notified when this turns true.
    pub fn is_lapsed(&self) -> bool {
        self.standing.is_lapsed()
    }

    /// Whether the user lost the conversation: nothing more will come, and this may be dropped. The socket's queue is
    /// notified when this turns true.
    pub fn is_evicted(&self) -> bool {
        self.standing.is_evicted()
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
