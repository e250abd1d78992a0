//! The lanes: each commits what waits, batch after batch, and is free when nothing does. Busy conversations are
//! finished beside them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::commit::{Committer, Place};
use super::config::BatchConfig;
use super::job::{Job, NotStored};
use super::pace::Pace;
use super::queue::Queue;

/// Attempts beside the lanes at once: each takes a connection while it waits for a lock, and of a pool of the usual
/// size the lanes must have theirs.
const ATTEMPTS_BESIDE: usize = 4;

pub(super) struct Lanes {
    queue: Mutex<Queue>,
    committer: Committer,
    pace: Arc<Pace>,
    beside: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Lanes {
    pub(super) fn new(committer: Committer, config: BatchConfig, pace: Arc<Pace>, tasks: TaskTracker) -> Self {
        Self {
            queue: Mutex::new(Queue::new(config)),
            committer,
            pace,
            beside: Arc::new(Semaphore::new(ATTEMPTS_BESIDE)),
            tasks,
        }
    }

    /// Takes a job, while `room` may wait.
    pub(super) fn push(self: &Arc<Self>, job: Job, room: usize) -> Result<(), NotStored> {
        self.change(|queue| queue.push(job, room))
    }

    /// Changes the queue, and starts lanes for what can be committed then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.lock();
        let changed = change(&mut queue);
        while let Some(batch) = queue.start() {
            self.tasks.spawn(self.clone().run(batch));
        }
        changed
    }

    /// Commits batch after batch, until nothing waits. Nothing in it may panic: its conversations would never be free.
    async fn run(self: Arc<Self>, mut batch: Vec<Job>) {
        loop {
            let rows = batch.len();
            let conversations: HashSet<Uuid> = batch.iter().map(|job| job.change.conversation()).collect();
            let busy = by_conversation(self.committer.commit_all(batch, &Place::Lane).await);
            self.change(|queue| queue.committed(&conversations, &busy));
            for (conversation, late) in busy {
                self.tasks.spawn(self.clone().finish_beside(conversation, late));
            }
            self.pace.follow(rows).await;
            let Some(next) = self.lock().go_on() else { return };
            batch = next;
        }
    }

    async fn finish_beside(self: Arc<Self>, conversation: Uuid, jobs: Vec<Job>) {
        self.committer.commit_all(jobs, &Place::Beside(self.beside.clone())).await;
        self.change(|queue| queue.finished(conversation));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Groups jobs, keeping the order inside each conversation.
fn by_conversation(jobs: Vec<Job>) -> HashMap<Uuid, Vec<Job>> {
    let mut groups: HashMap<Uuid, Vec<Job>> = HashMap::new();
    for job in jobs {
        groups.entry(job.change.conversation()).or_default().push(job);
    }
    groups
}
