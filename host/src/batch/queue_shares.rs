//! Who may wait for the lanes when not all can: each user in turn.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// What waits for the lanes, by sender. Half of the queue is open to all. Of the rest each user who waits has an equal
/// share, so that one who sends much is refused before one who sends little.
#[derive(Debug, Default)]
pub(super) struct QueueShares(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_user: HashMap<Uuid, usize>,
}

impl QueueShares {
    /// Takes a place for one message of this user, in a queue with room for so many; says whether there was one. The
    /// queue can come to hold half as much again, when it was filled by few users and many come.
    pub(super) fn enter(&self, user: Uuid, room: usize) -> bool {
        let mut waiting = self.lock();
        let own = waiting.by_user.get(&user).copied().unwrap_or(0);
        let users = waiting.by_user.len() + usize::from(own == 0);
        let may = waiting.all < room / 2 || own < (room / 2 / users).max(1);
        if may {
            waiting.all += 1;
            *waiting.by_user.entry(user).or_default() += 1;
        }
        may
    }

    /// Gives places back.
    pub(super) fn leave(&self, users: impl IntoIterator<Item = Uuid>) {
        let mut waiting = self.lock();
        for user in users {
            waiting.all -= 1;
            if let Some(own) = waiting.by_user.get_mut(&user) {
                *own -= 1;
                if *own == 0 {
                    waiting.by_user.remove(&user);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100;

    fn user(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn entered(shares: &QueueShares, number: u128, times: usize) -> usize {
        (0..times).filter(|_| shares.enter(user(number), ROOM)).count()
    }

    #[test]
    fn one_user_alone_has_the_open_half_and_no_more() {
        assert_eq!(entered(&QueueShares::default(), 1, 1000), 50);
    }

    #[test]
    fn who_sends_little_finds_a_place_beside_who_sends_much() {
        let shares = QueueShares::default();
        entered(&shares, 1, 1000);
        assert_eq!(entered(&shares, 2, 1000), 25);
        assert_eq!(entered(&shares, 3, 1000), 16);
        assert_eq!(entered(&shares, 1, 1000), 0);
    }

    #[test]
    fn however_many_come_each_has_one_place() {
        let shares = QueueShares::default();
        let places = (1..=200).map(|number| entered(&shares, number, 3)).collect::<Vec<_>>();
        assert!(places.iter().all(|places| *places >= 1), "{places:?}");
    }

    #[test]
    fn a_place_that_was_left_can_be_taken() {
        let shares = QueueShares::default();
        entered(&shares, 1, 1000);
        shares.leave(std::iter::repeat_n(user(1), 50));
        assert_eq!(entered(&shares, 1, 1000), 50);
    }
}
