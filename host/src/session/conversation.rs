//! A conversation that a connection has joined.

use std::collections::HashMap;

use arcyou_protocol::Seq;
use uuid::Uuid;

use crate::authorize::JoinedRole;
use crate::fanout::{Membership, RoomRef};

/// A conversation that a socket has joined.
pub(super) struct Conversation {
    role: JoinedRole,
    listening: Listening,
}

pub(super) enum Listening {
    Live(Membership),
    /// Stored messages come first.
    Behind(CatchUp),
    /// The token has ended; with a fresh one events go on after this `seq`.
    Stopped(Seq),
}

/// A client on its way to going live: everything after `cursor` is still owed to it.
pub(super) struct CatchUp {
    pub(super) cursor: Seq,
    /// None until it is this conversation's turn.
    pub(super) entered: Option<Entered>,
}

/// A room to go live in.
pub(super) struct Entered {
    pub(super) room: RoomRef,
    /// Everything up to this message has to be read before.
    pub(super) target: Seq,
    /// Whether the right was checked since the last page.
    pub(super) is_checked: bool,
}

impl Listening {
    fn stop(self) -> Seq {
        match self {
            Self::Live(membership) => membership.leave(),
            Self::Behind(catch_up) => catch_up.cursor,
            Self::Stopped(cursor) => cursor,
        }
    }
}

/// The user's role in a conversation whose events come.
pub(super) fn joined_role(conversations: &HashMap<Uuid, Conversation>, conversation: Uuid) -> Option<&JoinedRole> {
    conversations.get(&conversation).filter(|joined| joined.is_live()).map(|joined| &joined.role)
}

impl Conversation {
    pub(super) fn new(role: JoinedRole, listening: Listening) -> Self {
        Self { role, listening }
    }

    /// The same without events, until there is a fresh token.
    pub(super) fn stopped(self) -> Self {
        Self { role: self.role, listening: Listening::Stopped(self.listening.stop()) }
    }

    /// Ends it; the client has everything up to this message.
    pub(super) fn stop(self) -> Seq {
        self.listening.stop()
    }

    /// Whether stored messages come first.
    pub(super) fn is_behind(&self) -> bool {
        matches!(&self.listening, Listening::Behind(_))
    }

    /// The role, and what is owed if stored messages come first.
    pub(super) fn into_catch_up(self) -> Option<(JoinedRole, CatchUp)> {
        match self.listening {
            Listening::Behind(catch_up) => Some((self.role, catch_up)),
            Listening::Live(_) | Listening::Stopped(_) => None,
        }
    }

    fn is_live(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if !membership.is_evicted())
    }

    pub(super) fn is_evicted(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if membership.is_evicted())
    }
}
