//! From a message that somebody wants to send to one that a participant may send.

use std::sync::Arc;

use uuid::Uuid;

use crate::protocol::body::Body;
use crate::protocol::{ErrorCode, Failure};
use crate::store::Store;

/// A message as an authenticated user submitted it. Nothing is known about the user's right to the conversation yet.
#[derive(Debug)]
pub struct Submitted {
    /// The conversation it is for.
    pub conversation: Uuid,
    /// The authenticated user.
    pub sender: Uuid,
    /// Canonical and within limits.
    pub body: Body,
    /// Makes a repeat recognisable: the same sender, conversation and key is stored once.
    pub idempotency_key: Option<Box<str>>,
}

/// A message whose sender was a participant a moment ago. The only input of the plugin chain. (The database checks again
/// in the message's own transaction.)
#[derive(Debug)]
pub struct Permitted {
    message: Submitted,
    role: Arc<str>,
}

/// What a socket knows of its user's standing in a conversation that it has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    role: Arc<str>,
}

impl Joined {
    /// Made from the database's answer when the conversation was joined.
    pub(crate) fn new(role: &str) -> Self {
        Self { role: role.into() }
    }
}

/// Lets a participant's message pass. A socket that has joined is believed, since removal ends the join; otherwise the
/// database is asked.
pub async fn authorize(store: &Store, message: Submitted, joined: Option<&Joined>) -> Result<Permitted, Failure> {
    if let Some(Joined { role }) = joined {
        return Ok(Permitted { message, role: role.clone() });
    }
    // Boxed, as it is rare: what every send's future holds, every socket pays for.
    match Box::pin(store.standing(message.conversation, message.sender)).await {
        Ok(Some(standing)) => Ok(Permitted { message, role: standing.role.into() }),
        Ok(None) => Err(not_participant()),
        Err(error) => Err(Failure::from(error)),
    }
}

/// The same for a stranger and for a conversation that does not exist, so that nobody learns which.
pub fn not_participant() -> Failure {
    Failure::new(ErrorCode::NotParticipant, "you do not participate in this conversation, or it does not exist")
}

impl Permitted {
    /// For tests of what comes after the check.
    #[cfg(test)]
    pub(crate) fn new(message: Submitted, role: Arc<str>) -> Self {
        Self { message, role }
    }

    /// The conversation it is for.
    pub fn conversation(&self) -> Uuid {
        self.message.conversation
    }

    /// The user who sends it.
    pub fn sender(&self) -> Uuid {
        self.message.sender
    }

    /// The sender's role in the conversation.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The body as it came.
    pub fn body(&self) -> &Body {
        &self.message.body
    }

    /// The message itself, its right spent.
    pub fn into_message(self) -> Submitted {
        self.message
    }
}
