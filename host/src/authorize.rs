//! From a message that somebody wants to send to one that a participant may send.

use std::sync::Arc;

use uuid::Uuid;

use crate::protocol::body::Body;

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

impl Permitted {
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
