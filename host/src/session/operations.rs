//! What a client may ask for, one function each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::Utf8Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::joining::{Conversation, standing};
use super::outbound::Outbound;
use super::socket::{End, Wire};
use super::state::{Renewal, State};
use crate::authorize::{Asked, Submitted, not_participant};
use crate::gateway::Gateway;
use crate::ingress::Accepted;
use crate::protocol::{ClientFrame, CloseCode, Echo, ErrorCode, Failure, HistoryFrom, Operation, Reply};
use crate::store::{ReadMark, StoredMessage, Window};

/// A page of history ends before it passes this many bytes, but never before its first message.
const HISTORY_BYTES: usize = 256 * 1024;

/// What one connection knows and has joined.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) state: State,
    pub(super) outbound: Arc<Outbound>,
    pub(super) conversations: HashMap<Uuid, Conversation>,
    asked: Asked,
}

/// A send that was taken; its reply is due in the order of the client's frames.
pub(super) struct Sending {
    pub(super) echo: Echo,
    pub(super) accepted: Accepted,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, outbound: Arc<Outbound>, now: Instant) -> Self {
        let state = State::new(gateway.limits.auth_within, now);
        Self { gateway, state, outbound, conversations: HashMap::new(), asked: Asked::default() }
    }

    /// Carries out one frame. All but a send are answered when this returns.
    pub(super) async fn perform(&mut self, frame: ClientFrame, wire: &mut Wire) -> Result<Option<Sending>, End> {
        let ClientFrame { echo, operation } = frame;
        let name = operation.name();
        let user = match self.state.admit(&operation, Instant::now()) {
            Ok(user) => user.unwrap_or_default(),
            Err(failure) => return self.say(failure.encode(name, &echo)).map(|()| None),
        };
        // All but a send are boxed: they are rare, and what this future holds, every socket pays for.
        let result = match operation {
            Operation::Send { conversation, body, idempotency_key } => {
                let message = Submitted { conversation, sender: user, body, idempotency_key };
                let joined = standing(&self.conversations, conversation);
                let accepted = self.gateway.ingress.accept(message, joined, &mut self.asked).await;
                return Ok(Some(Sending { echo, accepted }));
            }
            Operation::Auth { token } => return Box::pin(self.auth(&token, &echo, wire)).await.map(|()| None),
            Operation::Join { conversation, resume } => {
                return Box::pin(self.join(user, conversation, resume, &echo, wire)).await.map(|()| None);
            }
            Operation::Ping => Ok(Reply::Ping),
            Operation::Leave { conversation } => self.leave(conversation),
            Operation::Ack { conversation, last_read_id } => Box::pin(self.ack(user, conversation, last_read_id)).await,
            Operation::History { conversation, from, limit } => {
                Box::pin(self.history(user, conversation, from, limit)).await
            }
        };
        self.reply(name, result, &echo)?;
        Ok(None)
    }

    /// Queues the answer to a request.
    pub(super) fn reply(&self, name: &str, result: Result<Reply, Failure>, echo: &Echo) -> Result<(), End> {
        self.say(match result {
            Ok(reply) => reply.encode(echo),
            Err(failure) => failure.encode(name, echo),
        })
    }

    /// Queues a frame.
    pub(super) fn say(&self, frame: Utf8Bytes) -> Result<(), End> {
        self.outbound.push(frame).map_err(|_| End::Close(CloseCode::SlowConsumer))
    }

    async fn auth(&mut self, token: &str, echo: &Echo, wire: &mut Wire) -> Result<(), End> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let renewed = self.gateway.authenticator.identify(token, now).and_then(|identity| {
            let left = identity.expires_at.and_then(|at| Duration::try_from_secs_f64(at - now).ok());
            let expires = left.and_then(|left| Instant::now().checked_add(left));
            self.state.authenticated(identity.user, expires).map(|renewal| (identity.user, renewal))
        });
        let (user, renewal) = match renewed {
            Ok(renewed) => renewed,
            Err(failure) => return self.say(failure.encode("auth", echo)),
        };
        self.say(Reply::Auth { user }.encode(echo))?;
        match renewal {
            Renewal::Plain => Ok(()),
            Renewal::AfterExpiry => self.resume_all(user, wire).await,
        }
    }

    async fn ack(&self, user: Uuid, conversation: Uuid, message: i64) -> Result<Reply, Failure> {
        match self.gateway.store.mark_read(conversation, user, message).await? {
            ReadMark::At { last_read_id, moved } => {
                if moved {
                    self.gateway.wake.hint();
                }
                Ok(Reply::Ack { conversation, last_read_id })
            }
            ReadMark::NotParticipant => Err(not_participant()),
            ReadMark::UnknownMessage => Err(Failure::new(
                ErrorCode::UnknownMessage,
                "last_read_id must be the id of a message in this conversation",
            )),
        }
    }

    async fn history(&self, user: Uuid, conversation: Uuid, from: HistoryFrom, limit: u32) -> Result<Reply, Failure> {
        let store = &self.gateway.store;
        // Asked each time: history must not outlive the right to it.
        store.standing(conversation, user).await?.ok_or_else(not_participant)?;
        let window = match from {
            HistoryFrom::Newest => Window::Before(i64::MAX),
            HistoryFrom::Before(seq) => Window::Before(seq),
            HistoryFrom::After(seq) => Window::After(seq),
        };
        let page = store.messages(conversation, window, i64::from(limit) + 1).await?;
        let (messages, has_more) = cut(page, limit as usize);
        Ok(Reply::History { conversation, messages, has_more })
    }
}

/// The page that fits, and whether there is more than that.
fn cut(page: Vec<StoredMessage>, limit: usize) -> (Vec<String>, bool) {
    let read = page.len();
    let mut bytes = 0;
    let messages: Vec<String> = page
        .into_iter()
        .take(limit)
        .map(|message| message.json)
        .enumerate()
        .take_while(|(place, json)| {
            bytes += json.len();
            *place == 0 || bytes <= HISTORY_BYTES
        })
        .map(|(_, json)| json)
        .collect();
    let has_more = messages.len() < read;
    (messages, has_more)
}
