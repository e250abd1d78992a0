//! From a message that somebody wants to send to one that a participant may send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::protocol::body::Body;
use crate::protocol::{ErrorCode, Failure};
use crate::store::Store;

/// For how long the database's answer about somebody who has not joined is believed. What plugins see may be as old as this; what is
/// stored is not, since the message's own transaction checks again.
const BELIEVED: Duration = Duration::from_secs(1);

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

/// What a socket was last told of its user's standing in a conversation that it writes to without having joined it, as senders
/// of notices do: one question a second, and not one for each message. Boxed, since few sockets have one.
#[derive(Debug, Default)]
pub struct Asked(Option<Box<Answer>>);

#[derive(Debug)]
struct Answer {
    conversation: Uuid,
    user: Uuid,
    role: Arc<str>,
    at: Instant,
}

impl Asked {
    fn role(&self, message: &Submitted) -> Option<Arc<str>> {
        let answer = self.0.as_ref()?;
        let fits = answer.conversation == message.conversation && answer.user == message.sender;
        (fits && answer.at.elapsed() < BELIEVED).then(|| answer.role.clone())
    }
}

/// Lets a participant's message pass. A socket that has joined is believed, since removal ends the join; otherwise the
/// database is asked, unless it just was.
pub async fn authorize(
    store: &Store,
    message: Submitted,
    joined: Option<&Joined>,
    asked: &mut Asked,
) -> Result<Permitted, Failure> {
    if let Some(role) = joined.map(|joined| joined.role.clone()).or_else(|| asked.role(&message)) {
        return Ok(Permitted { message, role });
    }
    let (conversation, user, at) = (message.conversation, message.sender, Instant::now());
    // Boxed, as it is rare: what every send's future holds, every socket pays for.
    match Box::pin(store.standing(conversation, user)).await {
        Ok(Some(standing)) => {
            let role: Arc<str> = standing.role.into();
            asked.0 = Some(Box::new(Answer { conversation, user, role: role.clone(), at }));
            Ok(Permitted { message, role })
        }
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
