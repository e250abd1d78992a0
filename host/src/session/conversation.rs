//! A conversation that a connection has joined.

use std::collections::HashMap;

use arcyou_protocol::Seq;
use uuid::Uuid;

use crate::authorize::JoinedRole;
use crate::fanout::Membership;

/// A conversation that a socket has joined.
pub(super) struct Conversation {
    role: JoinedRole,
    listening: Listening,
}

pub(super) enum Listening {
    Live(Membership),
    /// The token has ended; with a fresh one events go on after this `seq`.
    Stopped(Seq),
}

impl Listening {
    fn stop(self) -> Seq {
        match self {
            Self::Live(membership) => membership.leave(),
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

    fn is_live(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if !membership.is_evicted())
    }

    pub(super) fn is_evicted(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if membership.is_evicted())
    }
}
