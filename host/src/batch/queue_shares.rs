//! Who may wait for the lanes when not all can: each user in turn.

use std::collections::HashMap;

use uuid::Uuid;

/// What waits for the lanes, by sender. Half of the queue is open to all. Of the rest each user who waits has an equal
/// share, so that one who sends much is refused before one who sends little.
#[derive(Debug, Default)]
pub(super) struct QueueShares {
    all: usize,
    by_user: HashMap<Uuid, usize>,
}

impl QueueShares {
    /// Takes a place for one message of this user, in a queue with room for so many; says whether there was one. The
    /// queue can come to hold half as much again, when it was filled by few users and many come.
    pub(super) fn enter(&mut self, user: Uuid, room: usize) -> bool {
        let own = self.by_user.get(&user).copied().unwrap_or(0);
        let users = self.by_user.len() + usize::from(own == 0);
        let may = self.all < room / 2 || own < (room / 2 / users).max(1);
        if may {
            self.put(user);
        }
        may
    }

    /// Takes a place that this message has had before.
    pub(super) fn put(&mut self, user: Uuid) {
        self.all += 1;
        *self.by_user.entry(user).or_default() += 1;
    }

    /// Gives places back.
    pub(super) fn leave(&mut self, users: impl IntoIterator<Item = Uuid>) {
        for user in users {
            self.all -= 1;
            if let Some(own) = self.by_user.get_mut(&user) {
                *own -= 1;
                if *own == 0 {
                    self.by_user.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100;

    fn user(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn entered(shares: &mut QueueShares, number: u128, times: usize) -> usize {
        (0..times).filter(|_| shares.enter(user(number), ROOM)).count()
    }

    #[test]
    fn one_user_alone_has_the_open_half_and_no_more() {
        assert_eq!(entered(&mut QueueShares::default(), 1, 1000), 50);
    }

    #[test]
    fn who_sends_little_finds_a_place_beside_who_sends_much() {
        let mut shares = QueueShares::default();
        entered(&mut shares, 1, 1000);
        assert_eq!(entered(&mut shares, 2, 1000), 25);
        assert_eq!(entered(&mut shares, 3, 1000), 16);
        assert_eq!(entered(&mut shares, 1, 1000), 0);
    }

    #[test]
    fn however_many_come_each_has_one_place() {
        let mut shares = QueueShares::default();
        let places = (1..=200).map(|number| entered(&mut shares, number, 3)).collect::<Vec<_>>();
        assert!(places.iter().all(|places| *places >= 1), "{places:?}");
    }

    #[test]
    fn a_place_that_was_left_can_be_taken() {
        let mut shares = QueueShares::default();
        entered(&mut shares, 1, 1000);
        shares.leave(std::iter::repeat_n(user(1), 50));
        assert_eq!(entered(&mut shares, 1, 1000), 50);
    }
}
