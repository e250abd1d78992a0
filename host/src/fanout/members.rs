//! The sockets of one room, each with its own place in the sequence.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arcyou_protocol::Seq;
use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

use super::meter::Meter;
use super::outbound::{Outbound, Overflowed};
use super::own_changes::ChangeFrame;

/// Names a member within its room; never used again.
pub(super) type MemberId = u64;

/// What a room tells a member's holder: the user's role, and that and where the room let go of it.
#[derive(Debug)]
pub(super) struct Standing {
    role: Mutex<Arc<str>>,
    evicted: AtomicBool,
    lapsed: AtomicBool,
    cursor: AtomicI64,
}

impl Standing {
    fn new(role: Arc<str>) -> Self {
        let (evicted, lapsed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { role: Mutex::new(role), evicted, lapsed, cursor: AtomicI64::new(0) }
    }

    /// The role as the store last told it.
    pub(super) fn role(&self) -> Arc<str> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_role(&self, role: Arc<str>) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Whether the room let go of the member because what it lacks cannot be read any more.
    pub(super) fn is_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::Acquire)
    }

    /// Where the member stood when the room let go of it.
    pub(super) fn cursor(&self) -> Seq {
        self.cursor.load(Ordering::Acquire)
    }

    fn evict(&self, cursor: Seq) {
        self.cursor.store(cursor, Ordering::Release);
        self.evicted.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    user: Uuid,
    /// The last change that was queued for it, or that it had before.
    cursor: Seq,
    /// Its queue was half full during a catch-up: it is served from the store until it is level with the room.
    paused: bool,
    outbound: Arc<Outbound>,
    standing: Arc<Standing>,
}

/// A member that is to be.
#[derive(Debug)]
pub struct NewMember {
    /// Whose socket it is.
    pub user: Uuid,
    /// The user's role, checked after the room was entered.
    pub role: Arc<str>,
    /// Everything up to here the client has. Not beyond the conversation's newest change.
    pub cursor: Seq,
    /// Where events go.
    pub outbound: Arc<Outbound>,
}

/// A member as it is compared with the store.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) id: MemberId,
    pub(super) user: Uuid,
    pub(super) role: Arc<str>,
}

/// A member that is served from the store, at one moment.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) cursor: Seq,
    pub(super) outbound: Arc<Outbound>,
}

/// The members. A member whose queue overflows is let go; no other notices.
#[derive(Debug)]
pub(super) struct Members {
    conversation: Uuid,
    list: Vec<Member>,
    next: MemberId,
    /// Paused since the caller last asked.
    newly_paused: Vec<MemberId>,
    meter: Arc<Meter>,
}

impl Members {
    pub(super) fn new(conversation: Uuid, meter: Arc<Meter>) -> Self {
        Self { conversation, list: Vec::new(), next: 0, newly_paused: Vec::new(), meter }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn add(&mut self, member: NewMember) -> (MemberId, Arc<Standing>) {
        let NewMember { user, role, cursor, outbound } = member;
        let id = self.next;
        self.next += 1;
        let standing = Arc::new(Standing::new(role));
        self.list.push(Member { id, user, cursor, paused: false, outbound, standing: standing.clone() });
        self.meter.members.increment(1.0);
        (id, standing)
    }

    /// A change as it arrives. A queue without space for it is the socket's end.
    pub(super) fn deliver(&mut self, seq: Seq, frame: &Utf8Bytes) {
        let message = ChangeFrame::new(self.conversation, seq, frame);
        self.retain(|member| {
            if member.paused || seq <= member.cursor {
                return Ok(());
            }
            member.outbound.push_change(&message, member.user)?;
            member.cursor = seq;
            Ok(())
        });
    }

    /// A change that is caught up: a member whose queue should not take more is paused instead.
    pub(super) fn deliver_backfill(&mut self, seq: Seq, frame: &Utf8Bytes) {
        let message = ChangeFrame::new(self.conversation, seq, frame);
        let mut paused = std::mem::take(&mut self.newly_paused);
        self.retain(|member| {
            if member.paused || seq <= member.cursor {
                return Ok(());
            }
            if member.outbound.try_push_backfill(&message, member.user)? {
                member.cursor = seq;
            } else {
                member.paused = true;
                paused.push(member.id);
            }
            Ok(())
        });
        self.newly_paused = paused;
    }

    /// Something that has no place in the sequence: every member hears it now.
    pub(super) fn tell(&mut self, frame: &Utf8Bytes) {
        self.retain(|member| member.outbound.push(frame.clone()));
    }

    pub(super) fn take_newly_paused(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.newly_paused)
    }

    /// The state of a member, if it is paused.
    pub(super) fn paused(&self, id: MemberId) -> Option<Paused> {
        let member = self.list.iter().find(|member| member.id == id && member.paused)?;
        Some(Paused { cursor: member.cursor, outbound: member.outbound.clone() })
    }

    /// Serves a paused member from the store. It is level with the room, and hears live changes again, once it stands
    /// at `delivered`; `covered` is how far the store has been listed.
    pub(super) fn serve(&mut self, id: MemberId, frames: &[(Seq, Utf8Bytes)], covered: Option<Seq>, delivered: Seq) {
        let Some(place) = self.list.iter().position(|member| member.id == id && member.paused) else { return };
        let member = &mut self.list[place];
        for (seq, frame) in frames {
            if *seq <= member.cursor {
                continue;
            }
            let message = ChangeFrame::new(self.conversation, *seq, frame);
            match member.outbound.try_push_backfill(&message, member.user) {
                Ok(true) => member.cursor = *seq,
                Ok(false) => return,
                Err(Overflowed) => {
                    self.meter.overflows.increment(1);
                    self.remove(id);
                    return;
                }
            }
        }
        // What was not listed below this place does not exist any more.
        member.cursor = member.cursor.max(covered.unwrap_or(0));
        member.paused = member.cursor < delivered;
    }

    /// Whether a member that is not paused has enough to write for now.
    pub(super) fn are_congested(&self) -> bool {
        self.list.iter().any(|member| !member.paused && member.outbound.is_congested())
    }

    /// Every member, its user and the user's role.
    pub(super) fn roster(&self) -> impl Iterator<Item = Listed> {
        self.list.iter().map(|member| Listed { id: member.id, user: member.user, role: member.standing.role() })
    }

    pub(super) fn has(&self, user: Uuid) -> bool {
        self.list.iter().any(|member| member.user == user)
    }

    /// Gives a member another role than the one that it was listed with. Says whether it still had that one: if not,
    /// this answer may be older than what was set since.
    pub(super) fn set_role(&self, listed: &Listed, role: &Arc<str>) -> bool {
        let Some(member) = self.list.iter().find(|member| member.id == listed.id) else { return true };
        let holds = member.standing.role() == listed.role;
        if holds {
            member.standing.set_role(role.clone());
        }
        holds
    }

    pub(super) fn cursor(&self, id: MemberId) -> Option<Seq> {
        self.list.iter().find(|member| member.id == id).map(|member| member.cursor)
    }

    pub(super) fn remove(&mut self, id: MemberId) {
        if let Some(place) = self.list.iter().position(|member| member.id == id) {
            let member = self.list.swap_remove(place);
            member.standing.cursor.store(member.cursor, Ordering::Release);
            self.meter.members.decrement(1.0);
        }
    }

    /// Takes the conversation away from these members, and wakes their sockets so that they notice.
    pub(super) fn evict(&mut self, mut which: impl FnMut(MemberId) -> bool) {
        let meter = &self.meter;
        self.list.retain(|member| {
            if !which(member.id) {
                return true;
            }
            member.standing.evict(member.cursor);
            member.outbound.notify();
            meter.evictions.increment(1);
            meter.members.decrement(1.0);
            false
        });
    }

    /// Lets go of the members that have not come to this place, and wakes their sockets so that they notice.
    pub(super) fn lapse_before(&mut self, through: Seq) {
        let meter = &self.meter;
        self.list.retain(|member| {
            if member.cursor >= through {
                return true;
            }
            member.standing.cursor.store(member.cursor, Ordering::Release);
            member.standing.lapsed.store(true, Ordering::Release);
            member.outbound.notify();
            meter.lapses.increment(1);
            meter.members.decrement(1.0);
            false
        });
    }

    fn retain(&mut self, mut step: impl FnMut(&mut Member) -> Result<(), Overflowed>) {
        let meter = &self.meter;
        self.list.retain_mut(|member| {
            let kept = step(member).is_ok();
            if !kept {
                member.standing.cursor.store(member.cursor, Ordering::Release);
                meter.overflows.increment(1);
                meter.members.decrement(1.0);
            }
            kept
        });
    }
}
