//! Joining, catching up, leaving, and what a token's end does to them.

use std::collections::HashMap;

use tokio::time::Instant;
use uuid::Uuid;

use super::operations::Session;
use super::socket::{End, Wire};
use crate::authorize::{Joined, not_participant};
use crate::fanout::{Membership, RoomRef, backfill_frame};
use crate::protocol::{CloseCode, Echo, ErrorCode, Failure, Reply, ResumeFrom};
use crate::store::{Seq, Standing};

/// Messages in one read while a client catches up.
const PAGE: i64 = 100;
/// A client that is further behind than this many messages reads `history` instead.
const LARGEST_BACKFILL: Seq = 10_000;

/// A conversation that a socket has joined.
pub(super) struct Conversation {
    standing: Joined,
    listening: Listening,
}

enum Listening {
    /// Events come.
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

/// A client on its way to going live: everything after `cursor` is still owed to it.
struct CatchUp {
    conversation: Uuid,
    user: Uuid,
    room: RoomRef,
    cursor: Seq,
}

/// Where a join starts.
struct Start {
    cursor: Seq,
    /// Whether every message after the client's last one follows; none if the client did not ask.
    resumed: Option<bool>,
}

/// The user's standing in a conversation whose events come.
pub(super) fn standing(conversations: &HashMap<Uuid, Conversation>, conversation: Uuid) -> Option<&Joined> {
    conversations.get(&conversation).filter(|joined| joined.is_live()).map(|joined| &joined.standing)
}

impl Session {
    pub(super) async fn join(
        &mut self,
        user: Uuid,
        conversation: Uuid,
        resume: Option<ResumeFrom>,
        echo: &Echo,
        wire: &mut Wire,
    ) -> Result<(), End> {
        self.tell_evicted()?;
        let again = self.conversations.contains_key(&conversation);
        if !again && self.conversations.len() >= self.gateway.limits.max_joined {
            let limit = self.gateway.limits.max_joined;
            let text = format!("this socket has joined {limit} conversations already; leave one first");
            return self.say(Failure::new(ErrorCode::TooManyJoined, text).encode("join", echo));
        }
        // The room comes first: what is published from here on waits there while the database is read.
        let room = self.gateway.fanout.enter(conversation);
        let (standing, mut start) = match self.starting_point(user, conversation, resume).await {
            Ok(found) => found,
            Err(failure) => return self.say(failure.encode("join", echo)),
        };
        // Those who participate are asked about; a second join too. A token's renewal is no join: what was joined goes on.
        if let Err(failure) = self.gateway.ingress.admit(conversation, user, &standing.role).await {
            return self.say(failure.encode("join", echo));
        }
        // A second join starts the events anew, by itself where the first one has come to.
        if let Some(cursor) = self.conversations.remove(&conversation).map(Conversation::stop) {
            start.cursor = resume.map_or(cursor, |_| start.cursor);
        }
        let (role, last_read_id) = (standing.role.clone(), standing.last_read_id);
        let joined =
            Reply::Join { conversation, last_seq: standing.last_seq, last_read_id, role, resumed: start.resumed };
        self.say(joined.encode(echo))?;
        let catch_up = CatchUp { conversation, user, room, cursor: start.cursor };
        self.go_live(catch_up, &standing, wire).await
    }

    /// Checks the right to join and finds where events start.
    async fn starting_point(
        &self,
        user: Uuid,
        conversation: Uuid,
        resume: Option<ResumeFrom>,
    ) -> Result<(Standing, Start), Failure> {
        let store = &self.gateway.store;
        let standing = store.standing(conversation, user).await?.ok_or_else(not_participant)?;
        let unknown =
            || Failure::new(ErrorCode::UnknownMessage, "this conversation has no such message to resume after");
        let after = match resume {
            None => return Ok((standing.clone(), Start { cursor: standing.last_seq, resumed: None })),
            Some(ResumeFrom::Id(0)) => 0,
            Some(ResumeFrom::Seq(seq)) if seq <= standing.last_seq => seq,
            Some(ResumeFrom::Seq(_)) => return Err(unknown()),
            Some(ResumeFrom::Id(id)) => store.seq_of(conversation, id).await?.ok_or_else(unknown)?,
        };
        let resumed = standing.last_seq - after <= LARGEST_BACKFILL;
        let cursor = if resumed { after } else { standing.last_seq };
        Ok((standing, Start { cursor, resumed: Some(resumed) }))
    }

    /// Sends what the client is behind, then attaches it to the room at exactly that place.
    async fn go_live(&mut self, mut catch_up: CatchUp, standing: &Standing, wire: &mut Wire) -> Result<(), End> {
        // A client that was promised its messages must not go live with a hole.
        let broken = |_| End::Close(CloseCode::ResumeRequired);
        let CatchUp { conversation, user, .. } = catch_up;
        let mut target = standing.last_seq;
        let mut pages = 0;
        let listening = 'live: loop {
            while catch_up.cursor < target {
                // Asked before each further page: a slow reader's catch-up must not outlive the right to it, nor the gateway.
                if pages > 0 {
                    if wire.is_draining() {
                        return Err(End::Close(CloseCode::ServiceRestart));
                    }
                    if !self.state.is_active(Instant::now()) {
                        break 'live Listening::Stopped(catch_up.cursor);
                    }
                    if self.gateway.store.standing(conversation, user).await.map_err(broken)?.is_none() {
                        return self.tell_lost(conversation);
                    }
                }
                pages += 1;
                let store = &self.gateway.store;
                let page = store.messages_after(conversation, catch_up.cursor, PAGE).await.map_err(broken)?;
                // Messages that were deleted since leave a hole that nothing will fill.
                catch_up.cursor = page.last().map_or(target, |last| last.seq);
                for message in &page {
                    self.say(backfill_frame(conversation, &message.json))?;
                    wire.relieve().await?;
                }
            }
            match catch_up.room.attach(user, catch_up.cursor, self.outbound.clone()) {
                Ok(membership) => break Listening::Live(membership),
                Err((room, behind)) => {
                    target = behind.delivered;
                    catch_up.room = room;
                }
            }
        };
        self.conversations.insert(conversation, Conversation { standing: Joined::new(&standing.role), listening });
        Ok(())
    }

    pub(super) fn leave(&mut self, conversation: Uuid) -> Result<Reply, Failure> {
        match self.conversations.remove(&conversation) {
            Some(joined) if !joined.is_evicted() => Ok(Reply::Leave { conversation }),
            _ => Err(Failure::new(ErrorCode::NotJoined, "this socket has not joined the conversation")),
        }
    }

    /// The token has ended: no events until there is a fresh one.
    pub(super) fn stop_all(&mut self) -> Result<(), End> {
        self.tell_evicted()?;
        let stopped = self.conversations.drain().map(|(conversation, Conversation { standing, listening })| {
            (conversation, Conversation { standing, listening: Listening::Stopped(listening.stop()) })
        });
        self.conversations = stopped.collect();
        Ok(())
    }

    /// A fresh token came: every conversation goes on where it stopped, if the user still participates.
    pub(super) async fn resume_all(&mut self, user: Uuid, wire: &mut Wire) -> Result<(), End> {
        let stopped: Vec<(Uuid, Seq)> = self.conversations.drain().map(|(id, joined)| (id, joined.stop())).collect();
        for (conversation, cursor) in stopped {
            let room = self.gateway.fanout.enter(conversation);
            match self.gateway.store.standing(conversation, user).await {
                Ok(Some(standing)) => {
                    self.go_live(CatchUp { conversation, user, room, cursor }, &standing, wire).await?;
                }
                Ok(None) => self.tell_lost(conversation)?,
                Err(_) => return Err(End::Close(CloseCode::ResumeRequired)),
            }
        }
        Ok(())
    }

    /// Tells the client which conversations the room has taken from it. It may have heard of the reason as an event, but
    /// need not: a removal in the middle of a join comes before there is anybody to hear of it.
    pub(super) fn tell_evicted(&mut self) -> Result<(), End> {
        let evicted: Vec<Uuid> =
            self.conversations.extract_if(|_, joined| joined.is_evicted()).map(|(id, _)| id).collect();
        evicted.into_iter().try_for_each(|conversation| self.tell_lost(conversation))
    }

    fn tell_lost(&self, conversation: Uuid) -> Result<(), End> {
        let failure = Failure { conversation: Some(conversation), ..not_participant() };
        self.say(failure.encode("join", &Echo::default()))
    }
}

impl Conversation {
    /// Ends it; the client has everything up to this message.
    fn stop(self) -> Seq {
        self.listening.stop()
    }

    fn is_live(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if !membership.is_evicted())
    }

    fn is_evicted(&self) -> bool {
        matches!(&self.listening, Listening::Live(membership) if membership.is_evicted())
    }
}
