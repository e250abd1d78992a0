//! One conversation as this gateway delivers it: one short lock, never held over an await.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arcyou_protocol::Seq;
use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

use super::channel_epoch::ChannelEpoch;
use super::members::{MemberExit, MemberId, Members, Paused};
use super::meter::Meter;
use super::outbound::Outbound;
use super::replay::{Removals, ReplayBuffer};
use super::resequence::{HoldLimits, Listing, Offered, Resequencer};
use super::seen::SeenIds;

/// Ids of events other than messages that a room remembers.
const SEEN: usize = 1024;
/// Pushes that one hold of the lock may cost when a page is delivered: live events of other rooms wait meanwhile.
const PUSHES: usize = 8192;

/// A conversation with somebody here who has joined it, or is about to.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) conversation: Uuid,
    /// Whether the bus carries this conversation's events.
    pub(super) epoch: Arc<ChannelEpoch>,
    meter: Arc<Meter>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    sequence: Resequencer<Utf8Bytes>,
    members: Members,
    replay: ReplayBuffer,
    seen: SeenIds,
    removals: Removals,
    caught_up: Option<Instant>,
    /// One repair at a time.
    repairing: bool,
    /// The conversation was deleted, or the last one has left.
    closed: bool,
}

/// What has to be done after the lock is given back.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct FollowUps {
    /// These members need a catch-up of their own.
    pub(super) paused: Vec<MemberId>,
    /// Messages are missing, and nobody is fetching them yet.
    pub(super) repair: bool,
}

/// What somebody who entered knew of the room then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    epoch: Option<u64>,
    removals: u64,
}

/// A new member.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) id: MemberId,
    pub(super) exit: Arc<MemberExit>,
    pub(super) follow_ups: FollowUps,
    /// The user may have been removed since the right was checked.
    pub(super) maybe_removed: bool,
    /// The bus may have missed something since the member read the store.
    pub(super) maybe_missed: bool,
}

/// Who can be told from a room when it is compared with the store.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) position: Seq,
    pub(super) members: Vec<(MemberId, Uuid)>,
    /// Events at or below this id are not to be caught up.
    pub(super) floor: i64,
    pub(super) caught_up: Option<Instant>,
}

impl Room {
    /// An empty room; `newest` is the newest outbox id known.
    pub(super) fn new(
        conversation: Uuid,
        epoch: Arc<ChannelEpoch>,
        limits: HoldLimits,
        newest: i64,
        meter: Arc<Meter>,
    ) -> Self {
        let inner = Inner {
            sequence: Resequencer::new(limits),
            members: Members::new(meter.clone()),
            replay: ReplayBuffer::default(),
            seen: SeenIds::new(newest, SEEN),
            removals: Removals::default(),
            caught_up: None,
            repairing: false,
            closed: false,
        };
        Self { conversation, epoch, meter, inner: Mutex::new(inner) }
    }

    /// Somebody is about to join: from now on nothing that is delivered is forgotten until [`Self::give_up_joining`] or
    /// [`Self::attach`].
    pub(super) fn open(&self) -> Entered {
        let mut inner = self.lock();
        let delivered = inner.sequence.delivered();
        inner.replay.open(delivered);
        Entered { epoch: self.epoch.current(), removals: inner.removals.count() }
    }

    pub(super) fn give_up_joining(&self) {
        self.lock().replay.close();
    }

    /// Adds a member that has everything up to `cursor`. An error is the place up to which the room has delivered
    /// without being able to repeat it.
    pub(super) fn attach(
        &self,
        entered: Entered,
        user: Uuid,
        cursor: Seq,
        outbound: Arc<Outbound>,
    ) -> Result<Attached, Seq> {
        let mut inner = self.lock();
        let closed = inner.closed;
        let Inner { sequence, members, replay, .. } = &mut *inner;
        let missed: Vec<(Seq, Utf8Bytes)> = match sequence.delivered() {
            Some(delivered) if delivered > cursor && !closed => {
                replay.after(cursor).ok_or(delivered)?.cloned().collect()
            }
            _ => Vec::new(),
        };
        let (id, exit) = members.add(user, cursor, outbound);
        for (seq, frame) in &missed {
            members.deliver_backfill(*seq, frame);
        }
        if sequence.delivered().is_none() {
            replay.start(cursor);
            sequence.start(cursor, &mut |seq, frame| {
                replay.note(seq, &frame);
                members.deliver_backfill(seq, &frame);
            });
        }
        replay.close();
        if closed {
            inner.members.evict(|_| true);
        }
        Ok(Attached {
            id,
            exit,
            follow_ups: inner.follow_ups(),
            maybe_removed: inner.removals.may_concern(user, entered.removals),
            maybe_missed: entered.epoch.is_none() || entered.epoch != self.epoch.current(),
        })
    }

    pub(super) fn leave(&self, id: MemberId) {
        self.lock().members.remove(id);
    }

    pub(super) fn cursor(&self, id: MemberId) -> Option<Seq> {
        self.lock().members.cursor(id)
    }

    /// A message as it came over the bus.
    pub(super) fn message(&self, seq: Seq, frame: Utf8Bytes) -> (Offered, FollowUps) {
        let weight = frame.len();
        let mut inner = self.lock();
        let Inner { sequence, members, replay, .. } = &mut *inner;
        let mut delivered = 0;
        let offered = sequence.offer(seq, frame, weight, &mut |place, frame| {
            delivered += 1;
            replay.note(place, &frame);
            if place == seq {
                members.deliver(place, &frame);
            } else {
                // What had to wait comes in one burst: not the reader's fault.
                members.deliver_backfill(place, &frame);
            }
        });
        let follow_ups = inner.follow_ups();
        drop(inner);
        self.meter.delivered.increment(delivered);
        (offered, follow_ups)
    }

    /// An event without a place, from the bus or from the outbox. Says whether it was new.
    pub(super) fn event(&self, id: i64, from_outbox: bool, frame: impl FnOnce() -> Utf8Bytes) -> bool {
        let mut inner = self.lock();
        let new = if from_outbox { inner.seen.is_new_from_outbox(id) } else { inner.seen.is_new(id) };
        if new && inner.members.len() > 0 {
            inner.members.tell(&frame());
        }
        drop(inner);
        let counter = if new { &self.meter.delivered } else { &self.meter.duplicates };
        counter.increment(1);
        new
    }

    /// A user was removed, so one hears. Says whether that user is a member here.
    pub(super) fn note_removal(&self, user: Uuid) -> bool {
        let mut inner = self.lock();
        inner.removals.note(user);
        inner.members.roster().any(|(_, member)| member == user)
    }

    /// The user's memberships at this moment.
    pub(super) fn members_of(&self, user: Uuid) -> HashSet<MemberId> {
        self.lock().members.roster().filter(|(_, member)| *member == user).map(|(id, _)| id).collect()
    }

    /// Takes the conversation away from these members.
    pub(super) fn evict(&self, ids: &HashSet<MemberId>) {
        self.lock().members.evict(|id| ids.contains(&id));
    }

    /// Takes the conversation away from all, also from those who are about to join.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.members.evict(|_| true);
    }

    /// What to compare with the store; none if nobody listens yet.
    pub(super) fn presence(&self) -> Option<Presence> {
        let inner = self.lock();
        let position = inner.sequence.delivered().filter(|_| inner.members.len() > 0 && !inner.closed)?;
        let members = inner.members.roster().collect();
        Some(Presence { position, members, floor: inner.seen.floor(), caught_up: inner.caught_up })
    }

    /// The store was asked for everything that this room could have missed up to that time.
    pub(super) fn note_caught_up(&self, at: Instant) {
        self.lock().caught_up = Some(at);
    }

    /// The store has messages that did not arrive.
    pub(super) fn mark_missing(&self) -> FollowUps {
        let mut inner = self.lock();
        inner.sequence.mark_missing();
        inner.follow_ups()
    }

    /// The next listing that the repair needs; none ends it.
    pub(super) fn next_listing(&self) -> Option<Listing> {
        let mut inner = self.lock();
        let listing = inner.sequence.listing().filter(|_| inner.sequence.wants_listing() && !inner.closed);
        inner.repairing = listing.is_some();
        listing
    }

    /// How many messages of a page can be delivered in one go.
    pub(super) fn slice(&self) -> usize {
        (PUSHES / self.lock().members.len().max(1)).max(1)
    }

    /// Delivers what the store listed. `complete`: there was nothing after it.
    pub(super) fn fill(&self, listing: Listing, page: &[(Seq, Utf8Bytes)], complete: bool) -> FollowUps {
        let mut inner = self.lock();
        let Inner { sequence, members, replay, .. } = &mut *inner;
        let mut delivered = 0;
        sequence.fill(listing, page.iter().cloned(), complete, &mut |seq, frame| {
            delivered += 1;
            replay.note(seq, &frame);
            members.deliver_backfill(seq, &frame);
        });
        let follow_ups = inner.follow_ups();
        drop(inner);
        self.meter.delivered.increment(delivered);
        follow_ups
    }

    /// Whether a member that takes part in the catch-up has enough to write for now.
    pub(super) fn is_congested(&self) -> bool {
        self.lock().members.are_congested()
    }

    /// A paused member, and how far the room has delivered.
    pub(super) fn paused(&self, id: MemberId) -> Option<(Paused, Seq)> {
        let inner = self.lock();
        Some((inner.members.paused(id)?, inner.sequence.delivered()?))
    }

    /// Serves a paused member; `covered` as in [`Members::serve`].
    pub(super) fn serve(&self, id: MemberId, page: &[(Seq, Utf8Bytes)], covered: Option<Seq>) {
        let mut inner = self.lock();
        let delivered = inner.sequence.delivered().unwrap_or(0);
        inner.members.serve(id, page, covered, delivered);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn follow_ups(&mut self) -> FollowUps {
        let repair = !self.repairing && !self.closed && self.sequence.wants_listing();
        self.repairing |= repair;
        FollowUps { paused: self.members.take_newly_paused(), repair }
    }
}
