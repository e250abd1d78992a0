//! One lane: what arrived goes into the next transaction; busy conversations are finished beside it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::commit::{Committer, Place};
use super::config::BatchConfig;
use super::job::{Job, NotStored};
use super::pace::Pace;
use super::queue_shares::QueueShares;

/// Attempts beside a lane at once: each takes a connection while it waits for a lock, and of a pool of the usual size
/// the lanes must have theirs.
const ATTEMPTS_BESIDE: usize = 1;

pub(super) struct Lane {
    committer: Committer,
    config: BatchConfig,
    /// Conversations that are being finished beside the lane, with what came for them since.
    busy: HashMap<Uuid, Vec<Job>>,
    /// How many jobs `busy` holds: they count against the queue's bound.
    behind_busy: usize,
    beside: JoinSet<Uuid>,
    permits: Arc<Semaphore>,
    pace: Arc<Pace>,
    shares: Arc<QueueShares>,
}

impl Lane {
    pub(super) fn new(committer: Committer, config: BatchConfig, pace: Arc<Pace>, shares: Arc<QueueShares>) -> Self {
        Self {
            committer,
            config,
            busy: HashMap::new(),
            behind_busy: 0,
            beside: JoinSet::new(),
            permits: Arc::new(Semaphore::new(ATTEMPTS_BESIDE)),
            pace,
            shares,
        }
    }

    /// Runs until the channel is closed and everything accepted is answered.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut arrived = Vec::with_capacity(self.config.max_rows);
        let mut open = true;
        while open || !self.beside.is_empty() {
            tokio::select! {
                count = jobs.recv_many(&mut arrived, self.config.max_rows), if open => {
                    open = count > 0;
                    self.shares.leave(arrived.iter().map(|job| job.change.sender()));
                    let batch = self.set_aside(&mut arrived);
                    let rows = batch.len();
                    for (conversation, late) in by_conversation(self.committer.commit_all(batch, &Place::Lane).await) {
                        self.finish_beside(conversation, late);
                    }
                    self.pace.follow(rows).await;
                }
                Some(finished) = self.beside.join_next() => {
                    // A task that panicked would leave its conversation behind: nothing in it may panic.
                    if let Ok(conversation) = finished {
                        self.finished(conversation);
                    }
                }
            }
        }
    }

    /// Keeps what belongs to a busy conversation behind it; the rest is the batch.
    fn set_aside(&mut self, arrived: &mut Vec<Job>) -> Vec<Job> {
        let mut batch = Vec::with_capacity(arrived.len());
        for job in arrived.drain(..) {
            match self.busy.get_mut(&job.change.conversation()) {
                None => batch.push(job),
                Some(_) if self.behind_busy >= self.config.queue => job.answer(Err(NotStored::Overloaded)),
                Some(queue) => {
                    self.behind_busy += 1;
                    queue.push(job);
                }
            }
        }
        batch
    }

    fn finish_beside(&mut self, conversation: Uuid, jobs: Vec<Job>) {
        self.busy.entry(conversation).or_default();
        let (committer, permits) = (self.committer.clone(), self.permits.clone());
        self.beside.spawn(async move {
            committer.commit_all(jobs, &Place::Beside(permits)).await;
            conversation
        });
    }

    fn finished(&mut self, conversation: Uuid) {
        match self.busy.remove(&conversation) {
            Some(queue) if !queue.is_empty() => {
                self.behind_busy -= queue.len();
                self.finish_beside(conversation, queue);
            }
            _ => {}
        }
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
