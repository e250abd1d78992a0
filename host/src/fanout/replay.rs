//! What a room remembers for somebody who has entered it but does not listen yet, so that nothing falls between the
//! two.

use std::collections::VecDeque;

use arcyou_protocol::Seq;
use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

/// What may be kept for joiners; more than it takes to read the last page of a conversation that is very busy.
const FRAMES: usize = 512;
const BYTES: usize = 256 * 1024;
const RIGHT_CHANGES: usize = 64;

/// The changes delivered since the oldest of those who are joining entered.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    joiners: usize,
    /// Everything delivered after this place is in `frames`.
    since: Option<Seq>,
    frames: VecDeque<(Seq, Utf8Bytes)>,
    bytes: usize,
}

impl ReplayBuffer {
    /// Somebody enters; `delivered` is where the room stands.
    pub(super) fn open(&mut self, delivered: Option<Seq>) {
        if self.joiners == 0 {
            self.since = delivered;
        }
        self.joiners += 1;
    }

    /// One of those listens now, or went away.
    pub(super) fn close(&mut self) {
        self.joiners = self.joiners.saturating_sub(1);
        if self.joiners == 0 {
            *self = Self::default();
        }
    }

    /// The room's base was set.
    pub(super) fn start(&mut self, base: Seq) {
        if self.joiners > 0 {
            self.since = Some(base);
        }
    }

    /// The room goes on after this place without having delivered what was before.
    pub(super) fn skip(&mut self, through: Seq) {
        *self = Self { joiners: self.joiners, ..Self::default() };
        self.start(through);
    }

    pub(super) fn note(&mut self, seq: Seq, frame: &Utf8Bytes) {
        if self.joiners == 0 {
            return;
        }
        self.frames.push_back((seq, frame.clone()));
        self.bytes += frame.len();
        while self.frames.len() > FRAMES || self.bytes > BYTES {
            let Some((dropped, frame)) = self.frames.pop_front() else { break };
            self.since = Some(dropped);
            self.bytes -= frame.len();
        }
    }

    /// What was delivered after `cursor`, if all of it is here.
    pub(super) fn after(&self, cursor: Seq) -> Option<impl Iterator<Item = &(Seq, Utf8Bytes)>> {
        let since = self.since.filter(|since| *since <= cursor);
        since.map(|_| self.frames.iter().filter(move |(seq, _)| *seq > cursor))
    }
}

/// Whose right has changed lately. A joiner's right is checked before it listens: a change between the two finds no
/// member yet.
#[derive(Debug, Default)]
pub(super) struct RightChanges {
    count: u64,
    last: VecDeque<Uuid>,
}

impl RightChanges {
    pub(super) fn note(&mut self, user: Uuid) {
        self.count += 1;
        self.last.push_back(user);
        if self.last.len() > RIGHT_CHANGES {
            self.last.pop_front();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the user's right may have changed since there were `count` changes.
    pub(super) fn may_concern(&self, user: Uuid, count: u64) -> bool {
        let since = usize::try_from(self.count.saturating_sub(count)).unwrap_or(usize::MAX);
        since > self.last.len() || self.last.iter().rev().take(since).any(|changed| *changed == user)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn seqs(replay: &ReplayBuffer, cursor: Seq) -> Option<Vec<Seq>> {
        replay.after(cursor).map(|frames| frames.map(|(seq, _)| *seq).collect())
    }

    #[test]
    fn what_was_delivered_since_somebody_entered_is_kept_for_all_joiners() {
        let mut replay = ReplayBuffer::default();
        replay.note(1, &"one".into());
        replay.open(Some(1));
        replay.note(2, &"two".into());
        replay.open(Some(2));
        replay.note(4, &"four".into());
        assert_eq!(seqs(&replay, 1), Some(vec![2, 4]));
        assert_eq!(seqs(&replay, 2), Some(vec![4]));
        assert_eq!(seqs(&replay, 0), None, "1 was delivered before");
        replay.close();
        assert_eq!(seqs(&replay, 3), Some(vec![4]));
        replay.close();
        assert_eq!(seqs(&replay, 9), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut replay = ReplayBuffer::default();
        replay.open(None);
        assert_eq!(seqs(&replay, 0), None);
        replay.start(0);
        for seq in 1..=FRAMES as Seq + 10 {
            replay.note(seq, &"x".into());
        }
        assert_eq!(seqs(&replay, 9), None);
        assert_eq!(seqs(&replay, 10).unwrap().len(), FRAMES);
        replay.note(1000, &"x".repeat(BYTES + 1).into());
        assert_eq!(seqs(&replay, 1000), Some(vec![]));
    }

    #[test]
    fn a_change_concerns_its_user_and_a_flood_concerns_all() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut changes = RightChanges::default();
        changes.note(a);
        let entered = changes.count();
        assert!(!changes.may_concern(a, entered));
        changes.note(b);
        assert!(!changes.may_concern(a, entered) && changes.may_concern(b, entered));
        for _ in 0..RIGHT_CHANGES {
            changes.note(b);
        }
        assert!(changes.may_concern(a, entered));
    }
}
