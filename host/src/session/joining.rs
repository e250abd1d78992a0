//! Catching up with a joined conversation, leaving it, and what a token's end does to it.

use std::sync::Arc;

use arcyou_protocol::event::backfill_frame;
use arcyou_protocol::{CloseCode, Echo, ErrorCode, Failure, Op, Reply, Seq};
use tokio::time::Instant;
use uuid::Uuid;

use super::conversation::{CatchUp, Conversation, Entered};
use super::requests::Session;
use super::wire::{End, Wire};
use crate::authorize::not_participant;
use crate::fanout::outbound::Outbound;
use crate::fanout::own_changes::ChangeFrame;
use crate::fanout::{Membership, NewMember, RoomRef};
use crate::store::{ChangeEvent, PageLimits, Participation, StoreError};

/// Messages in one read while a client catches up.
const PAGE_ROWS: u32 = 100;
/// Conversations that go on after a token's renewal by one query. Their rooms keep what is delivered meanwhile.
const RESUMED_AT_ONCE: usize = 500;

impl Session {
    /// Goes live if nothing is owed; otherwise the conversation queues until what is stored has been sent.
    pub(super) fn start(&mut self, user: Uuid, conversation: Uuid, catch_up: CatchUp) {
        let joined = match catch_up.go_live(user, &self.outbound) {
            Ok(membership) => Conversation::Live(membership),
            Err(mut catch_up) => {
                // A room keeps what is delivered meanwhile, so a socket enters one at a time.
                if !self.catch_ups.is_empty() {
                    catch_up.entered = None;
                }
                self.catch_ups.push_back(conversation);
                Conversation::Behind(catch_up)
            }
        };
        self.conversations.insert(conversation, joined);
    }

    /// Whether [`Self::send_page`] has something to do.
    pub(super) fn is_page_due(&self) -> bool {
        !self.catch_ups.is_empty() && self.page_waits_until.is_none()
    }

    /// Until when the next page has to wait, if it does.
    pub(super) fn page_waits_until(&self) -> Option<Instant> {
        self.page_waits_until.filter(|_| !self.catch_ups.is_empty())
    }

    /// Lets time pass for a page that waits.
    pub(super) fn end_page_wait(&mut self, now: Instant) {
        self.page_waits_until = self.page_waits_until.filter(|until| now < *until);
    }

    /// Sends the next page of the first conversation that is behind, or notes how long the user's allowance makes it
    /// wait. One page at a time, so that whatever else the socket has to do comes between.
    pub(super) async fn send_page(&mut self, wire: &mut Wire) -> Result<(), End> {
        // For a reader that does not keep up, nothing is read.
        wire.flush().await?;
        let now = Instant::now();
        let (Ok(user), Some(place)) = (self.auth.user(now), &self.place) else {
            // What is owed waits for a fresh token.
            return self.stop_all();
        };
        if let Err(wait) = place.admit_backfill() {
            self.page_waits_until = Some(now + wait);
            return Ok(());
        }
        let Some(conversation) = self.catch_ups.pop_front() else { return Ok(()) };
        let behind = self.conversations.remove(&conversation).and_then(Conversation::into_catch_up);
        let Some(catch_up) = behind else { return Ok(()) };
        let Some(entered) = self.entered(user, conversation, catch_up.entered).await? else {
            return self.tell_lost(conversation);
        };
        let page = self.read_page(conversation, catch_up.cursor).await?;
        // Messages that were deleted since leave a hole that nothing will fill.
        let cursor = page.last().map_or(entered.target, |last| last.seq);
        wire.flush().await?;
        for ChangeEvent { seq, kind, payload } in page {
            let frame = backfill_frame(conversation, &kind, &payload).into();
            let change = ChangeFrame::new(conversation, seq, &frame);
            self.outbound.push_change(&change, user).map_err(|_| End::Close(CloseCode::SlowConsumer))?;
        }
        let catch_up = CatchUp { cursor, entered: Some(Entered { is_checked: false, ..entered }) };
        let joined = match catch_up.go_live(user, &self.outbound) {
            Ok(membership) => Conversation::Live(membership),
            Err(catch_up) => {
                self.catch_ups.push_front(conversation);
                Conversation::Behind(catch_up)
            }
        };
        self.conversations.insert(conversation, joined);
        Ok(())
    }

    /// The room of a conversation that is behind, and a right that holds: it is checked before each page, since a slow
    /// catch-up must not outlive it. None: it is lost.
    async fn entered(&self, user: Uuid, conversation: Uuid, entered: Option<Entered>) -> Result<Option<Entered>, End> {
        if let Some(entered @ Entered { is_checked: true, .. }) = entered {
            return Ok(Some(entered));
        }
        let entered = entered.map(|Entered { room, target, .. }| (room, Some(target)));
        let (room, target) = entered.unwrap_or_else(|| (self.shared.fanout.enter(conversation), None));
        let participation = self.shared.store.participation(conversation, user).await.map_err(broken)?;
        Ok(participation.map(|participation| {
            let target = target.unwrap_or(participation.last_seq);
            Entered { room, target, role: participation.role.into(), is_checked: true }
        }))
    }

    async fn read_page(&self, conversation: Uuid, after: Seq) -> Result<Vec<ChangeEvent>, End> {
        let limits = PageLimits { rows: PAGE_ROWS, bytes: self.page_bytes() };
        let Some(_turn) = self.shared.page_turn().await else { return Err(End::Close(CloseCode::ResumeRequired)) };
        let page = self.shared.store.changes_after(conversation, after, limits).await.map_err(broken)?;
        if page.purged.is_some() {
            // While the client was catching up. It comes back, and hears that it has missed too much.
            return Err(End::Close(CloseCode::ResumeRequired));
        }
        self.note_read(page.items.iter().map(|change| change.payload.len()).sum());
        Ok(page.items)
    }

    /// Takes a conversation out, wherever it stands.
    pub(super) fn remove(&mut self, conversation: Uuid) -> Option<Conversation> {
        let removed = self.conversations.remove(&conversation);
        if removed.as_ref().is_some_and(Conversation::is_behind) {
            self.catch_ups.retain(|behind| *behind != conversation);
        }
        removed
    }

    pub(super) fn leave(&mut self, conversation: Uuid) -> Result<Reply, Failure> {
        let joined = self.remove(conversation);
        self.outbound.forget_changes(conversation);
        match joined {
            Some(joined) if !joined.is_evicted() => Ok(Reply::Leave { conversation }),
            _ => Err(Failure::new(ErrorCode::NotJoined, "this socket has not joined the conversation")),
        }
    }

    /// The token has ended: no events until there is a fresh one.
    pub(super) fn stop_all(&mut self) -> Result<(), End> {
        self.tell_evicted()?;
        let outbound = &self.outbound;
        let stop = |(id, joined): (Uuid, Conversation)| {
            let cursor = joined.stop();
            // What waits for the reply to a send is read again.
            let first_held = outbound.forget_changes(id);
            (id, Conversation::Stopped(first_held.map_or(cursor, |held| cursor.min(held - 1))))
        };
        self.conversations = self.conversations.drain().map(stop).collect();
        self.catch_ups.clear();
        Ok(())
    }

    /// A fresh token came: every conversation goes on where it stopped, if the user still participates.
    pub(super) async fn resume_all(&mut self, user: Uuid) -> Result<(), End> {
        let stopped: Vec<(Uuid, Seq)> = self.conversations.drain().map(|(id, joined)| (id, joined.stop())).collect();
        for stopped in stopped.chunks(RESUMED_AT_ONCE) {
            let conversations: Vec<Uuid> = stopped.iter().map(|(conversation, _)| *conversation).collect();
            // As with a join, the rooms come first.
            let rooms: Vec<RoomRef> = conversations.iter().map(|id| self.shared.fanout.enter(*id)).collect();
            let mut found = self.shared.store.participations(&conversations, user).await.map_err(broken)?;
            for ((conversation, cursor), room) in stopped.iter().copied().zip(rooms) {
                match found.remove(&conversation) {
                    Some(Participation { role, last_seq, .. }) => {
                        let entered = Some(Entered { room, target: last_seq, role: role.into(), is_checked: true });
                        self.start(user, conversation, CatchUp { cursor, entered });
                    }
                    None => self.tell_lost(conversation)?,
                }
            }
        }
        Ok(())
    }

    /// Tells the client which conversations the room has taken from it. It may have heard of the reason as an event,
    /// but need not: a removal in the middle of a join comes before there is anybody to hear of it. If events of one
    /// were missed for good, the client has to resume.
    pub(super) fn tell_evicted(&mut self) -> Result<(), End> {
        if self.conversations.values().any(Conversation::is_lapsed) {
            return Err(End::Close(CloseCode::ResumeRequired));
        }
        let evicted: Vec<Uuid> =
            self.conversations.extract_if(|_, joined| joined.is_evicted()).map(|(id, _)| id).collect();
        evicted.into_iter().try_for_each(|conversation| {
            self.outbound.forget_changes(conversation);
            self.tell_lost(conversation)
        })
    }

    fn tell_lost(&self, conversation: Uuid) -> Result<(), End> {
        let failure = Failure { conversation: Some(conversation), ..not_participant() };
        self.say(failure.encode(Op::Join.value(), &Echo::default()))
    }
}

impl CatchUp {
    /// Attaches to the room at exactly the place that the client has reached. An error is what is still owed.
    fn go_live(self, user: Uuid, outbound: &Arc<Outbound>) -> Result<Membership, Self> {
        let Self { cursor, entered } = self;
        match entered {
            Some(Entered { room, target, role, is_checked }) if cursor >= target => {
                let member = NewMember { user, role: role.clone(), cursor, outbound: outbound.clone() };
                room.attach(member).map_err(|(room, behind)| {
                    let entered = Entered { room, target: behind.delivered, role, is_checked };
                    Self { cursor, entered: Some(entered) }
                })
            }
            entered => Err(Self { cursor, entered }),
        }
    }
}

/// A client that was promised its messages must not go live with a hole.
fn broken(_: StoreError) -> End {
    End::Close(CloseCode::ResumeRequired)
}
