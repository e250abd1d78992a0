//! What waits to be committed, and which conversations are being committed: pure.

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::config::BatchConfig;
use super::job::{Job, NotStored};
use super::queue_shares::QueueShares;

/// The messages of a gateway on their way to transactions. A conversation is in one transaction at a time, so that its
/// messages are stored in the order in which they came; what comes for it meanwhile follows it.
#[derive(Debug)]
pub(super) struct Queue {
    config: BatchConfig,
    shares: QueueShares,
    /// What waits, and what is under way, by conversation.
    conversations: HashMap<Uuid, Waiting>,
    /// The conversations that the next transaction takes, in their order.
    ready: VecDeque<Uuid>,
    /// How many jobs follow conversations that are finished beside the lanes: they have a bound of their own.
    behind_busy: usize,
    /// Lanes in use.
    lanes: usize,
}

#[derive(Debug)]
struct Waiting {
    jobs: VecDeque<Job>,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Ready,
    /// In a transaction.
    UnderWay,
    /// Somebody else holds the conversation, and it is finished beside the lanes.
    Busy,
}

impl Queue {
    pub(super) fn new(config: BatchConfig) -> Self {
        Self {
            config,
            shares: QueueShares::default(),
            conversations: HashMap::new(),
            ready: VecDeque::new(),
            behind_busy: 0,
            lanes: 0,
        }
    }

    /// Takes a job, while so many may wait.
    pub(super) fn push(&mut self, job: Job, room: usize) -> Result<(), NotStored> {
        let conversation = job.change.conversation();
        let waiting = self.conversations.get_mut(&conversation);
        let is_busy = waiting.as_ref().is_some_and(|waiting| waiting.at == At::Busy);
        let may =
            if is_busy { self.behind_busy < self.config.queue } else { self.shares.enter(job.change.sender(), room) };
        if !may {
            return Err(NotStored::Overloaded);
        }
        self.behind_busy += usize::from(is_busy);
        match waiting {
            Some(waiting) => waiting.jobs.push_back(job),
            None => {
                self.conversations.insert(conversation, Waiting { jobs: VecDeque::from([job]), at: At::Ready });
                self.ready.push_back(conversation);
            }
        }
        Ok(())
    }

    /// A batch for a lane that was not in use, if there is one and something waits.
    pub(super) fn start(&mut self) -> Option<Vec<Job>> {
        if self.lanes >= self.config.lanes.max(1) || self.ready.is_empty() {
            return None;
        }
        self.lanes += 1;
        Some(self.batch())
    }

    /// The next batch for a lane in use; none: it is free.
    pub(super) fn go_on(&mut self) -> Option<Vec<Job>> {
        if self.ready.is_empty() {
            self.lanes -= 1;
            return None;
        }
        Some(self.batch())
    }

    fn batch(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        while batch.len() < self.config.max_rows
            && let Some(conversation) = self.ready.pop_front()
        {
            let Some(waiting) = self.conversations.get_mut(&conversation) else { continue };
            // What does not fit follows.
            let fitting = waiting.jobs.len().min(self.config.max_rows - batch.len());
            batch.extend(waiting.jobs.drain(..fitting));
            waiting.at = At::UnderWay;
        }
        self.shares.leave(batch.iter().map(|job| job.change.sender()));
        batch
    }

    /// A batch's transactions are over, but for those `busy` conversations, which are finished beside the lanes.
    pub(super) fn committed(&mut self, conversations: &HashSet<Uuid>, busy: &HashMap<Uuid, Vec<Job>>) {
        for conversation in conversations {
            if !busy.contains_key(conversation) {
                self.finished(*conversation);
            } else if let Some(waiting) = self.conversations.get_mut(conversation) {
                waiting.at = At::Busy;
                self.behind_busy += waiting.jobs.len();
                self.shares.leave(waiting.jobs.iter().map(|job| job.change.sender()));
            }
        }
    }

    /// A conversation is in no transaction any more: what followed it can be committed.
    pub(super) fn finished(&mut self, conversation: Uuid) {
        let Some(waiting) = self.conversations.get_mut(&conversation) else { return };
        if waiting.at == At::Busy {
            self.behind_busy -= waiting.jobs.len();
            waiting.jobs.iter().for_each(|job| self.shares.put(job.change.sender()));
        }
        if waiting.jobs.is_empty() {
            self.conversations.remove(&conversation);
        } else {
            waiting.at = At::Ready;
            self.ready.push_back(conversation);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::store::NewChange;

    const CONFIG: BatchConfig = BatchConfig { lanes: 2, max_rows: 3, queue: 2, patience: Duration::from_secs(1) };
    const ROOM: usize = 1000;

    /// Conversation and sender, by which tests know a job.
    type Shown = (u128, u128);

    fn queue(jobs: &[Shown]) -> Queue {
        let mut queue = Queue::new(CONFIG);
        jobs.iter().for_each(|job| push(&mut queue, *job).unwrap());
        queue
    }

    fn push(queue: &mut Queue, (conversation, sender): Shown) -> Result<(), NotStored> {
        let change = NewChange::plain(Uuid::from_u128(conversation), Uuid::from_u128(sender));
        queue.push(Job { change, deadline: Instant::now(), in_doubt: false, reply: oneshot::channel().0 }, ROOM)
    }

    fn shown(batch: Option<Vec<Job>>) -> Vec<Shown> {
        let of = |job: Job| (job.change.conversation().as_u128(), job.change.sender().as_u128());
        batch.into_iter().flatten().map(of).collect()
    }

    fn committed(queue: &mut Queue, conversations: &[u128], busy: &[u128]) {
        let conversations = conversations.iter().copied().map(Uuid::from_u128).collect();
        let busy = busy.iter().map(|conversation| (Uuid::from_u128(*conversation), Vec::new())).collect();
        queue.committed(&conversations, &busy);
    }

    #[test]
    fn a_message_that_finds_a_lane_free_does_not_wait() {
        let mut queue = queue(&[(1, 1)]);
        assert_eq!(shown(queue.start()), [(1, 1)]);
        push(&mut queue, (2, 2)).unwrap();
        assert_eq!(shown(queue.start()), [(2, 2)]);
        push(&mut queue, (3, 3)).unwrap();
        assert!(queue.start().is_none(), "both lanes are in use");
        committed(&mut queue, &[1], &[]);
        assert_eq!(shown(queue.go_on()), [(3, 3)]);
        assert!(queue.go_on().is_none());
        assert_eq!(queue.lanes, 1);
    }

    #[test]
    fn what_comes_for_a_conversation_under_way_follows_it() {
        let mut queue = queue(&[(1, 1), (2, 2), (1, 3), (3, 4)]);
        assert_eq!(shown(queue.start()), [(1, 1), (1, 3), (2, 2)], "no larger than it may be");
        push(&mut queue, (1, 5)).unwrap();
        push(&mut queue, (2, 6)).unwrap();
        push(&mut queue, (1, 7)).unwrap();
        assert_eq!(shown(queue.start()), [(3, 4)], "another conversation does not wait for it");
        committed(&mut queue, &[1, 2], &[]);
        push(&mut queue, (1, 8)).unwrap();
        let mut order = shown(queue.go_on());
        committed(&mut queue, &[1, 2], &[]);
        order.extend(shown(queue.go_on()));
        let of = |conversation| order.iter().filter(|job| job.0 == conversation).map(|job| job.1).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![5, 7, 8], vec![6]));
    }

    #[test]
    fn a_busy_conversation_keeps_its_followers_and_has_a_bound_of_its_own() {
        let mut queue = queue(&[(1, 1), (2, 2)]);
        queue.start().unwrap();
        push(&mut queue, (1, 3)).unwrap();
        committed(&mut queue, &[1, 2], &[1]);
        push(&mut queue, (1, 4)).unwrap();
        assert_eq!(push(&mut queue, (1, 5)), Err(NotStored::Overloaded));
        push(&mut queue, (2, 6)).unwrap();
        assert_eq!(shown(queue.go_on()), [(2, 6)]);
        queue.finished(Uuid::from_u128(1));
        assert_eq!((shown(queue.start()), queue.behind_busy), (vec![(1, 3), (1, 4)], 0));
        committed(&mut queue, &[1, 2], &[]);
        assert!(queue.conversations.is_empty() && queue.go_on().is_none());
    }

    /// Its order would be lost.
    #[test]
    fn what_does_not_fit_into_a_batch_is_in_no_other_lane() {
        let mut queue = queue(&[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 6)]);
        assert_eq!(shown(queue.start()), [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(shown(queue.start()), [(2, 6)]);
        committed(&mut queue, &[2], &[]);
        assert!(queue.go_on().is_none());
        committed(&mut queue, &[1], &[]);
        assert_eq!(shown(queue.go_on()), [(1, 4), (1, 5)]);
    }

    #[test]
    fn places_are_given_back() {
        let mut queue = queue(&[]);
        for _ in 0..2 {
            let entered = (0..ROOM).filter(|_| push(&mut queue, (1, 1)).is_ok()).count();
            assert_eq!(entered, ROOM / 2);
            let mut batch = queue.start();
            while batch.is_some() {
                committed(&mut queue, &[1], &[]);
                batch = queue.go_on();
            }
        }
    }
}
