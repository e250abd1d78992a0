//! From a command that somebody submits to one that a participant may carry out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_protocol::{Command, ErrorCode, Failure};
use async_trait::async_trait;
use uuid::Uuid;

/// For how long the database's answer about somebody who has not joined is believed. What plugins see may be as old as
/// this; what is stored is not, since the message's own transaction checks again.
const BELIEVED: Duration = Duration::from_secs(1);

/// A command as an authenticated user submitted it. Nothing is known about the user's right to the conversation yet.
#[derive(Debug)]
pub struct Submitted {
    pub sender: Uuid,
    /// What is to be changed, and where.
    pub command: Command,
}

/// Who participates in what, asked of the database.
#[async_trait]
pub trait Participants: Send + Sync {
    /// The user's role in a conversation; none if the user does not participate or there is no such conversation.
    async fn role(&self, conversation: Uuid, user: Uuid) -> Result<Option<String>, Failure>;
}

/// A command whose sender was a participant a moment ago. The only input of the plugin chain. (The database checks
/// again in the command's own transaction.)
#[derive(Debug)]
pub struct Permitted {
    submitted: Submitted,
    role: Arc<str>,
}

/// The sender's role in the conversation, as whoever submits a command knows it already.
#[derive(Debug, Clone)]
pub enum Role {
    /// Nothing is known: the database is asked, unless it just was.
    Unknown,
    /// What the database answered a moment ago, or when the conversation was joined, or the role was changed.
    Known(Arc<str>),
    /// The database answered a moment ago that the sender is no participant.
    NoParticipant,
}

/// What a socket was last told of its user's standing in a conversation that it writes to without having joined it, as
/// senders of notices do: one question a second, and not one for each message. Boxed, since few sockets have one.
#[derive(Debug, Default)]
pub struct RoleCache(Option<Box<Answer>>);

#[derive(Debug)]
struct Answer {
    conversation: Uuid,
    user: Uuid,
    role: Arc<str>,
    at: Instant,
}

impl RoleCache {
    fn role(&self, submitted: &Submitted) -> Option<Arc<str>> {
        let answer = self.0.as_ref()?;
        let fits = answer.conversation == submitted.command.conversation && answer.user == submitted.sender;
        (fits && answer.at.elapsed() < BELIEVED).then(|| answer.role.clone())
    }
}

/// Lets a participant's command pass. A socket that has joined is believed, since removal ends the join; otherwise the
/// database is asked, unless it just was.
pub async fn authorize(
    participants: &dyn Participants,
    submitted: Submitted,
    role: Role,
    role_cache: &mut RoleCache,
) -> Result<Permitted, Failure> {
    let known = match role {
        Role::Unknown => role_cache.role(&submitted),
        Role::Known(role) => Some(role),
        Role::NoParticipant => return Err(not_participant()),
    };
    if let Some(role) = known {
        return Ok(Permitted { submitted, role });
    }
    let (conversation, user, at) = (submitted.command.conversation, submitted.sender, Instant::now());
    match participants.role(conversation, user).await? {
        Some(role) => {
            let role: Arc<str> = role.into();
            role_cache.0 = Some(Box::new(Answer { conversation, user, role: role.clone(), at }));
            Ok(Permitted { submitted, role })
        }
        None => Err(not_participant()),
    }
}

/// The same for a stranger and for a conversation that does not exist, so that nobody learns which.
pub fn not_participant() -> Failure {
    Failure::new(ErrorCode::NotParticipant, "you do not participate in this conversation, or it does not exist")
}

impl Permitted {
    /// For tests of what comes after the check.
    #[cfg(test)]
    pub(crate) fn new(submitted: Submitted, role: Arc<str>) -> Self {
        Self { submitted, role }
    }

    /// The user who sends it.
    pub fn sender(&self) -> Uuid {
        self.submitted.sender
    }

    /// The sender's role in the conversation.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// What is to be changed, and where.
    pub fn command(&self) -> &Command {
        &self.submitted.command
    }

    /// The command itself, its right spent.
    pub fn into_submitted(self) -> Submitted {
        self.submitted
    }
}
