//! One conversation as this gateway delivers it: one short lock, never held over an await.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arcyou_protocol::Seq;
use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

use super::channel_epoch::ChannelEpoch;
use super::members::{Listed, MemberId, Members, NewMember, Paused, Standing};
use super::meter::Meter;
use super::replay::{ReplayBuffer, RightChanges};
use super::resequence::{HoldLimits, Listing, Offered, Resequencer};
use super::seen::SeenIds;

/// Ids of events other than changes that a room remembers.
const SEEN: usize = 1024;
/// Pushes that one hold of the lock may cost when a page is delivered: live events of other rooms wait meanwhile.
const PUSHES: usize = 8192;

/// A conversation with somebody here who has joined it, or is about to.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) conversation: Uuid,
    /// Whether somebody with a right to it listens, or has listened: only then the bus is asked for its channel.
    wanted: AtomicBool,
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
    right_changes: RightChanges,
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
    /// Changes are missing, and nobody is fetching them yet.
    pub(super) repair: bool,
}

/// What somebody who entered knew of the room then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    epoch: Option<u64>,
    right_changes: u64,
}

/// A new member.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) id: MemberId,
    pub(super) standing: Arc<Standing>,
    pub(super) follow_ups: FollowUps,
    /// The user may have been removed, or given another role, since the right was checked.
    pub(super) maybe_changed: bool,
    /// The bus may have missed something since the member read the store.
    pub(super) maybe_missed: bool,
}

/// Who can be told from a room when it is compared with the store.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) position: Seq,
    pub(super) members: Vec<Listed>,
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
            members: Members::new(conversation, meter.clone()),
            replay: ReplayBuffer::default(),
            seen: SeenIds::new(newest, SEEN),
            right_changes: RightChanges::default(),
            caught_up: None,
            repairing: false,
            closed: false,
        };
        Self { conversation, wanted: AtomicBool::new(false), epoch, meter, inner: Mutex::new(inner) }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Notes that its events are wanted; says whether that is new.
    pub(super) fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::AcqRel)
    }

    /// Somebody is about to join: from now on nothing that is delivered is forgotten until [`Self::give_up_joining`] or
    /// [`Self::attach`].
    pub(super) fn open(&self) -> Entered {
        let mut inner = self.lock();
        let delivered = inner.sequence.delivered();
        inner.replay.open(delivered);
        Entered { epoch: self.epoch.current(), right_changes: inner.right_changes.count() }
    }

    pub(super) fn give_up_joining(&self) {
        self.lock().replay.close();
    }

    /// Adds a member. An error is the place up to which the room has delivered
    /// without being able to repeat it.
    pub(super) fn attach(&self, entered: Entered, member: NewMember) -> Result<Attached, Seq> {
        let (user, cursor) = (member.user, member.cursor);
        let mut inner = self.lock();
        let closed = inner.closed;
        let Inner { sequence, members, replay, .. } = &mut *inner;
        let missed: Vec<(Seq, Utf8Bytes)> = match sequence.delivered() {
            Some(delivered) if delivered > cursor && !closed => {
                replay.after(cursor).ok_or(delivered)?.cloned().collect()
            }
            _ => Vec::new(),
        };
        let (id, standing) = members.add(member);
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
            standing,
            follow_ups: inner.follow_ups(),
            maybe_changed: inner.right_changes.may_concern(user, entered.right_changes),
            maybe_missed: entered.epoch.is_none() || entered.epoch != self.epoch.current(),
        })
    }

    pub(super) fn leave(&self, id: MemberId) {
        self.lock().members.remove(id);
    }

    pub(super) fn cursor(&self, id: MemberId) -> Option<Seq> {
        self.lock().members.cursor(id)
    }

    /// A change as it came over the bus.
    pub(super) fn change(&self, seq: Seq, frame: Utf8Bytes) -> (Offered, FollowUps) {
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

    /// A user was removed or has another role, so one hears. Says whether that user is a member here.
    pub(super) fn note_right_change(&self, user: Uuid) -> bool {
        let mut inner = self.lock();
        inner.right_changes.note(user);
        inner.members.has(user)
    }

    /// The user's memberships at this moment.
    pub(super) fn members_of(&self, user: Uuid) -> Vec<Listed> {
        self.lock().members.roster().filter(|member| member.user == user).collect()
    }

    /// Who listens.
    pub(super) fn users(&self) -> HashSet<Uuid> {
        self.lock().members.roster().map(|member| member.user).collect()
    }

    /// What the store says of these members of one user: another role, or that the conversation is not theirs any more.
    /// Says whether that settles it; otherwise the store is to be asked again.
    #[must_use]
    pub(super) fn correct(&self, listed: &[Listed], role: Option<&Arc<str>>) -> bool {
        let mut inner = self.lock();
        match role {
            Some(role) => listed.iter().filter(|member| !inner.members.set_role(member, role)).count() == 0,
            None => {
                inner.members.evict(|id| listed.iter().any(|member| member.id == id));
                true
            }
        }
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

    /// The store has changes that did not arrive.
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

    /// How many changes of a page can be delivered in one go.
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

    /// What the store has purged cannot be delivered any more. The room goes on after it; members that lack some of it
    /// are let go, and their sockets end.
    pub(super) fn skip_purged(&self, through: Seq) -> FollowUps {
        let mut inner = self.lock();
        let Inner { sequence, members, replay, .. } = &mut *inner;
        members.lapse_before(through);
        if sequence.delivered().is_some_and(|delivered| delivered < through) {
            replay.skip(through);
        }
        let mut delivered = 0;
        sequence.skip(through, &mut |seq, frame| {
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
