//! A conversation that a connection has joined.

use std::collections::HashMap;
use std::sync::Arc;

use arcyou_protocol::Seq;
use uuid::Uuid;

use crate::authorize::Role;
use crate::fanout::{Membership, RoomRef};

/// A conversation that a socket has joined.
pub(super) enum Conversation {
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
    /// The user's role, when it was last checked.
    pub(super) role: Arc<str>,
    /// Whether that was since the last page.
    pub(super) is_checked: bool,
}

/// The user's role in a conversation whose events come.
pub(super) fn joined_role(conversations: &HashMap<Uuid, Conversation>, conversation: Uuid) -> Role {
    match conversations.get(&conversation) {
        Some(Conversation::Live(membership)) if !membership.is_evicted() => Role::Known(membership.role()),
        _ => Role::Unknown,
    }
}

impl Conversation {
    /// Ends it; the client has everything up to this message.
    pub(super) fn stop(self) -> Seq {
        match self {
            Self::Live(membership) => membership.leave(),
            Self::Behind(catch_up) => catch_up.cursor,
            Self::Stopped(cursor) => cursor,
        }
    }

    /// Whether the message of one's own with this `seq` is still to come. One that was just stored is; a repeated one
    /// may have come long ago.
    pub(super) fn awaits(&self, seq: Seq, is_repeated: bool) -> bool {
        match self {
            Self::Live(membership) => !is_repeated || membership.cursor() < seq,
            Self::Behind(catch_up) => catch_up.cursor < seq,
            Self::Stopped(_) => false,
        }
    }

    /// Whether stored messages come first.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::Behind(_))
    }

    /// What is owed if stored messages come first.
    pub(super) fn into_catch_up(self) -> Option<CatchUp> {
        match self {
            Self::Behind(catch_up) => Some(catch_up),
            Self::Live(_) | Self::Stopped(_) => None,
        }
    }

    /// Whether what the client lacks was purged.
    pub(super) fn is_lapsed(&self) -> bool {
        matches!(self, Self::Live(membership) if membership.is_lapsed())
    }

    pub(super) fn is_evicted(&self) -> bool {
        matches!(self, Self::Live(membership) if membership.is_evicted())
    }
}
