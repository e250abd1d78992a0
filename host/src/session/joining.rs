//! Joining, catching up, leaving, and what a token's end does to them.

use arcyou_protocol::event::backfill_frame;
use arcyou_protocol::{CloseCode, Echo, ErrorCode, Failure, Op, Reply, ResumeFrom, Seq};
use tokio::time::Instant;
use uuid::Uuid;

use super::conversation::{Conversation, Listening};
use super::requests::Session;
use super::wire::{End, Wire};
use crate::authorize::{JoinedRole, not_participant};
use crate::fanout::RoomRef;
use crate::store::{Participation, logged};

/// Messages in one read while a client catches up.
const PAGE: i64 = 100;
/// A client that is further behind than this many messages reads `history` instead.
const LARGEST_BACKFILL: Seq = 10_000;

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
        if !again && self.conversations.len() >= self.shared.limits.max_joined {
            let limit = self.shared.limits.max_joined;
            let text = format!("this socket has joined {limit} conversations already; leave one first");
            return self.say(Failure::new(ErrorCode::TooManyJoined, text).encode(Op::Join.value(), echo));
        }
        // The room comes first: what is published from here on waits there while the database is read.
        let room = self.shared.fanout.enter(conversation);
        let (participation, mut start) = match self.starting_point(user, conversation, resume).await {
            Ok(found) => found,
            Err(failure) => return self.say(failure.encode(Op::Join.value(), echo)),
        };
        // Those who participate are asked about; a second join too. A token's renewal is no join: what was joined goes
        // on.
        if let Err(failure) = self.shared.ingress.admit(conversation, user, &participation.role).await {
            return self.say(failure.encode(Op::Join.value(), echo));
        }
        // A second join starts the events anew, by itself where the first one has come to.
        if let Some(cursor) = self.conversations.remove(&conversation).map(Conversation::stop) {
            start.cursor = resume.map_or(cursor, |_| start.cursor);
        }
        let (role, last_read_id) = (participation.role.clone(), participation.last_read_id);
        let joined =
            Reply::Join { conversation, last_seq: participation.last_seq, last_read_id, role, resumed: start.resumed };
        self.say(joined.encode(echo))?;
        let catch_up = CatchUp { conversation, user, room, cursor: start.cursor };
        self.go_live(catch_up, &participation, wire).await
    }

    /// Checks the right to join and finds where events start.
    async fn starting_point(
        &self,
        user: Uuid,
        conversation: Uuid,
        resume: Option<ResumeFrom>,
    ) -> Result<(Participation, Start), Failure> {
        let store = &self.shared.store;
        let participation =
            store.participation(conversation, user).await.map_err(logged)?.ok_or_else(not_participant)?;
        let unknown =
            || Failure::new(ErrorCode::UnknownMessage, "this conversation has no such message to resume after");
        let after = match resume {
            None => return Ok((participation.clone(), Start { cursor: participation.last_seq, resumed: None })),
            Some(ResumeFrom::Id(0)) => 0,
            Some(ResumeFrom::Seq(seq)) if seq <= participation.last_seq => seq,
            Some(ResumeFrom::Seq(_)) => return Err(unknown()),
            Some(ResumeFrom::Id(id)) => store.seq_of(conversation, id).await.map_err(logged)?.ok_or_else(unknown)?,
        };
        let resumed = participation.last_seq - after <= LARGEST_BACKFILL;
        let cursor = if resumed { after } else { participation.last_seq };
        Ok((participation, Start { cursor, resumed: Some(resumed) }))
    }

    /// Sends what the client is behind, then attaches it to the room at exactly that place.
    async fn go_live(
        &mut self,
        mut catch_up: CatchUp,
        participation: &Participation,
        wire: &mut Wire,
    ) -> Result<(), End> {
        // A client that was promised its messages must not go live with a hole.
        let broken = |_| End::Close(CloseCode::ResumeRequired);
        let CatchUp { conversation, user, .. } = catch_up;
        let mut target = participation.last_seq;
        let mut pages = 0;
        let listening = 'live: loop {
            while catch_up.cursor < target {
                // Asked before each further page: a slow reader's catch-up must not outlive the right to it, nor
                // the gateway.
                if pages > 0 {
                    if wire.is_draining() {
                        return Err(End::Close(CloseCode::ServiceRestart));
                    }
                    if !self.auth.is_active(Instant::now()) {
                        break 'live Listening::Stopped(catch_up.cursor);
                    }
                    if self.shared.store.participation(conversation, user).await.map_err(broken)?.is_none() {
                        return self.tell_lost(conversation);
                    }
                }
                pages += 1;
                let store = &self.shared.store;
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
        let role = JoinedRole::new(&participation.role);
        self.conversations.insert(conversation, Conversation::new(role, listening));
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
        let stopped = self.conversations.drain().map(|(id, joined)| (id, joined.stopped()));
        self.conversations = stopped.collect();
        Ok(())
    }

    /// A fresh token came: every conversation goes on where it stopped, if the user still participates.
    pub(super) async fn resume_all(&mut self, user: Uuid, wire: &mut Wire) -> Result<(), End> {
        let stopped: Vec<(Uuid, Seq)> = self.conversations.drain().map(|(id, joined)| (id, joined.stop())).collect();
        for (conversation, cursor) in stopped {
            let room = self.shared.fanout.enter(conversation);
            match self.shared.store.participation(conversation, user).await {
                Ok(Some(participation)) => {
                    self.go_live(CatchUp { conversation, user, room, cursor }, &participation, wire).await?;
                }
                Ok(None) => self.tell_lost(conversation)?,
                Err(_) => return Err(End::Close(CloseCode::ResumeRequired)),
            }
        }
        Ok(())
    }

    /// Tells the client which conversations the room has taken from it. It may have heard of the reason as an event,
    /// but need not: a removal in the middle of a join comes before there is anybody to hear of it.
    pub(super) fn tell_evicted(&mut self) -> Result<(), End> {
        let evicted: Vec<Uuid> =
            self.conversations.extract_if(|_, joined| joined.is_evicted()).map(|(id, _)| id).collect();
        evicted.into_iter().try_for_each(|conversation| self.tell_lost(conversation))
    }

    fn tell_lost(&self, conversation: Uuid) -> Result<(), End> {
        let failure = Failure { conversation: Some(conversation), ..not_participant() };
        self.say(failure.encode(Op::Join.value(), &Echo::default()))
    }
}
