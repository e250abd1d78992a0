//! What a client may ask for, one function each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::{
    ClientFrame, CloseCode, Echo, EditStatus, ErrorCode, Failure, HistoryFrom, HistoryPage, Op, Operation, Reply,
    SendStatus, Seq, UserOperation,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::auth_state::AuthState;
use super::conversation::{Conversation, joined_role};
use super::shared::Shared;
use super::wire::{End, Wire};
use crate::authorize::{RoleCache, Submitted, not_participant};
use crate::bounds::connections::Admission;
use crate::bounds::users::Place;
use crate::cutoffs::Standing;
use crate::fanout::outbound::Outbound;
use crate::fanout::own_changes::OwnChange;
use crate::ingress::Accepted;
use crate::store::{PageLimits, Participation, ReadMark, Window, logged};

/// A page of stored messages ends before it passes this many bytes, but never before its first message.
const PAGE_BYTES: usize = 256 * 1024;

/// What one connection knows and has joined.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) auth: AuthState,
    pub(super) admission: Admission,
    pub(super) outbound: Arc<Outbound>,
    pub(super) conversations: HashMap<Uuid, Conversation>,
    /// The user's, from the first `auth` on.
    pub(super) place: Option<Place>,
    /// What the token is worth, from the first `auth` on.
    pub(super) standing: Option<Standing>,
    /// Conversations that are behind, in the order in which they catch up.
    pub(super) catch_ups: VecDeque<Uuid>,
    /// Until then the user's allowance lets no page be read.
    pub(super) page_waits_until: Option<Instant>,
    role_cache: RoleCache,
}

/// A command that was taken; its reply is due in the order of the client's frames.
pub(super) struct Pending {
    pub(super) op: Op,
    pub(super) echo: Echo,
    pub(super) conversation: Uuid,
    pub(super) accepted: Accepted,
}

/// A command's answer, and what its reply repeats.
pub(super) struct Answered {
    pub(super) op: Op,
    pub(super) echo: Echo,
    pub(super) conversation: Uuid,
    pub(super) result: Result<Reply, Failure>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, admission: Admission, outbound: Arc<Outbound>, now: Instant) -> Self {
        let auth = AuthState::new(shared.limits.auth_within, now);
        Self {
            shared,
            auth,
            admission,
            outbound,
            conversations: HashMap::new(),
            place: None,
            standing: None,
            catch_ups: VecDeque::new(),
            page_waits_until: None,
            role_cache: RoleCache::default(),
        }
    }

    /// Carries out one frame. All but a command are answered when this returns.
    pub(super) async fn perform(&mut self, frame: ClientFrame, wire: &mut Wire) -> Result<Option<Pending>, End> {
        let ClientFrame { echo, operation } = frame;
        let op = operation.op();
        // All but commands are boxed: they are rare, and what this future holds is allocated for each frame.
        match operation {
            Operation::Auth { token } => Box::pin(self.auth(&token, &echo)).await?,
            Operation::Ping => self.reply(op, Ok(Reply::Ping), &echo)?,
            Operation::User(operation) => match self.speaks_for().await? {
                Ok(user) => return self.perform_for(user, op, operation, echo, wire).await,
                Err(failure) => self.say(failure.encode(op.value(), &echo))?,
            },
        }
        Ok(None)
    }

    async fn perform_for(
        &mut self,
        user: Uuid,
        op: Op,
        operation: UserOperation,
        echo: Echo,
        wire: &mut Wire,
    ) -> Result<Option<Pending>, End> {
        let result = match operation {
            UserOperation::Command(command) => {
                let conversation = command.conversation;
                let joined = joined_role(&self.conversations, conversation);
                let submitted = Submitted { sender: user, command };
                // From here on its message may come, but not before its reply.
                self.outbound.begin_change(conversation);
                let accepted = self.shared.ingress.accept(submitted, joined, &mut self.role_cache).await;
                return Ok(Some(Pending { op, echo, conversation, accepted }));
            }
            UserOperation::Join(target) => {
                return Box::pin(self.join(user, target, &echo, wire)).await.map(|()| None);
            }
            UserOperation::JoinList(targets) => {
                return Box::pin(self.join_list(user, &targets, &echo, wire)).await.map(|()| None);
            }
            UserOperation::Leave { conversation } => self.leave(conversation),
            UserOperation::Ack { conversation, last_read_id } => {
                Box::pin(self.ack(user, conversation, last_read_id)).await
            }
            UserOperation::History { conversation, from, thread, limit } => {
                // A page of answers needs the room that it was measured for.
                wire.flush().await?;
                let result = Box::pin(self.history(user, conversation, from, thread, limit)).await;
                wire.flush().await?;
                result
            }
        };
        self.reply(op, result, &echo)?;
        Ok(None)
    }

    /// Queues the answer to a command; what waited for it comes after it.
    pub(super) fn answer(&self, answered: Answered) -> Result<(), End> {
        let Answered { op, echo, conversation, result } = answered;
        let change = match &result {
            Ok(Reply::Send { status: SendStatus::Stored(ids), duplicate, .. }) => Some((ids.seq, *duplicate)),
            Ok(Reply::Edit { status: EditStatus::Stored(change), duplicate, .. }) => Some((change.seq, *duplicate)),
            Ok(Reply::Delete { change, duplicate, .. }) => Some((change.seq, *duplicate)),
            Ok(Reply::React { seq: Some(seq), duplicate, .. }) => Some((*seq, *duplicate)),
            _ => None,
        };
        let own = change.map(|(seq, duplicate)| OwnChange {
            seq,
            is_to_come: self.conversations.get(&conversation).is_some_and(|joined| joined.awaits(seq, duplicate)),
            temp_id: echo.temp_id.clone(),
        });
        let frame = encode(op, result, &echo).into();
        self.outbound.answer_change(conversation, frame, own).map_err(|_| End::Close(CloseCode::SlowConsumer))
    }

    /// Queues the answer to a request.
    pub(super) fn reply(&self, op: Op, result: Result<Reply, Failure>, echo: &Echo) -> Result<(), End> {
        self.say(encode(op, result, echo))
    }

    pub(super) fn say(&self, frame: String) -> Result<(), End> {
        self.outbound.push(frame.into()).map_err(|_| End::Close(CloseCode::SlowConsumer))
    }

    async fn ack(&self, user: Uuid, conversation: Uuid, message: i64) -> Result<Reply, Failure> {
        if message == 0 {
            // Nothing was read, so no mark moves.
            let participation = self.shared.store.participation(conversation, user).await.map_err(logged)?;
            let Participation { last_read_id, .. } = participation.ok_or_else(not_participant)?;
            return Ok(Reply::Ack { conversation, last_read_id });
        }
        match self.shared.read_marks.advance(conversation, user, message).await? {
            ReadMark::At { last_read_id, .. } => Ok(Reply::Ack { conversation, last_read_id }),
            ReadMark::NotParticipant => Err(not_participant()),
            ReadMark::UnknownMessage => Err(Failure::new(
                ErrorCode::UnknownMessage,
                "last_read_id must be the id of a message in this conversation",
            )),
        }
    }

    async fn history(
        &self,
        user: Uuid,
        conversation: Uuid,
        from: HistoryFrom,
        thread: Option<i64>,
        limit: u32,
    ) -> Result<Reply, Failure> {
        if let Some(Err(wait)) = self.place.as_ref().map(|place| place.admit_history()) {
            return Err(too_fast("too much was read; wait before you read more", wait));
        }
        let store = &self.shared.store;
        // Asked each time: history must not outlive the right to it. And before the page, which may then have more than
        // is said, but not less.
        let participation = store.participation(conversation, user).await.map_err(logged)?;
        let as_of_seq = participation.ok_or_else(not_participant)?.last_seq;
        let limits = PageLimits { rows: limit, bytes: self.page_bytes() };
        let _turn = self.shared.page_turn().await.ok_or_else(|| {
            Failure::new(ErrorCode::Unavailable, "the database is busy with other readers; try again in a moment")
        })?;
        let read =
            async |window, limits| store.messages(conversation, window, limits, user, thread).await.map_err(logged);
        let (page, has_more_before) = match from {
            HistoryFrom::Newest => (read(Window::Before(Seq::MAX), limits).await?, None),
            HistoryFrom::Before(seq) => (read(Window::Before(seq), limits).await?, None),
            HistoryFrom::After(seq) => (read(Window::After(seq), limits).await?, None),
            HistoryFrom::Around(seq) => {
                // The place itself counts among those after it.
                let half = PageLimits { rows: limit.div_ceil(2), bytes: limits.bytes / 2 };
                let mut page = read(Window::After(seq.saturating_sub(1)), half).await?;
                let rows = limit / 2;
                // Where none of them is to be shown, one says that there are some.
                let before = read(Window::Before(seq), PageLimits { rows: rows.max(1), ..half }).await?;
                let more_before = before.more || (rows == 0 && !before.items.is_empty());
                page.items.splice(..0, before.items.into_iter().take(rows as usize).rev());
                (page, Some(more_before))
            }
        };
        self.note_read(page.items.iter().map(|message| message.json.len()).sum());
        let messages = page.items.into_iter().map(|message| message.json).collect();
        Ok(Reply::History(HistoryPage { conversation, messages, as_of_seq, has_more: page.more, has_more_before }))
    }

    /// What a page of stored messages may hold.
    pub(super) fn page_bytes(&self) -> usize {
        PAGE_BYTES.min(self.outbound.page_bytes())
    }

    /// Counts what was read against the user's allowance.
    pub(super) fn note_read(&self, bytes: usize) {
        if let Some(place) = &self.place {
            place.note_read(bytes);
        }
    }
}

fn encode(op: Op, result: Result<Reply, Failure>, echo: &Echo) -> String {
    match result {
        Ok(reply) => reply.encode(echo),
        Err(failure) => failure.encode(op.value(), echo),
    }
}

/// A request that came too soon.
pub(super) fn too_fast(text: &str, wait: Duration) -> Failure {
    let mut failure = Failure::new(ErrorCode::RateLimited, text);
    failure.retry_after_ms = Some(wait.as_millis().max(1) as u64);
    failure
}
