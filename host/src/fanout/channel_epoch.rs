//! Whether the bus carries a channel without a break.

use std::sync::atomic::{AtomicU64, Ordering};

/// The epoch of a channel: a number that is odd while the bus carries the channel, and changes with each break.
#[derive(Debug, Default)]
pub(super) struct ChannelEpoch(AtomicU64);

impl ChannelEpoch {
    /// The bus carries the channel from now on.
    pub(super) fn up(&self) {
        // Odd to the next odd: what is up and comes up again had a break.
        self.change(|at| Some((at + 1) | 1));
    }

    /// The bus may have missed something from now on.
    pub(super) fn down(&self) {
        self.change(|at| (at % 2 == 1).then_some(at + 1));
    }

    /// The epoch; none while the bus does not carry the channel.
    pub(super) fn current(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|at| at % 2 == 1)
    }

    fn change(&self, next: impl FnMut(u64) -> Option<u64>) {
        // An error says that there was nothing to change.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_with_a_break_of_any_kind() {
        let epoch = ChannelEpoch::default();
        assert_eq!(epoch.current(), None);
        epoch.down();
        epoch.up();
        let first = epoch.current();
        assert!(first.is_some());
        epoch.up();
        let second = epoch.current();
        assert!(second.is_some() && second != first);
        epoch.down();
        epoch.down();
        assert_eq!(epoch.current(), None);
        epoch.up();
        assert!(epoch.current().is_some() && epoch.current() != second);
    }
}
