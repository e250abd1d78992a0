//! Brings a batch to its end: every message is answered, or handed back because its conversation is busy.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::job::{Job, NotStored};
use super::outage::CommitHealth;
use crate::fanout::Announcer;
use crate::store::{Answered, Attempted, Locking, NewChange, Store, StoreError};
use crate::wake::Wake;

/// Between attempts while the database is away.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Where a batch is being committed.
pub(super) enum Place {
    /// In the lane, where nothing may hold up the other conversations.
    Lane,
    /// Beside it, for one conversation that somebody else holds. The permits keep many such from taking every
    /// connection: each attempt waits for its lock inside the database.
    Beside(Arc<Semaphore>),
}

/// Where batches go, and who hears of it.
#[derive(Clone)]
pub struct Committer {
    pub(super) store: Store,
    wake: Wake,
    announcer: Announcer,
    health: Arc<CommitHealth>,
}

impl Committer {
    /// `announcer` tells of each commit, or else `wake` the workers; `health` hears of each failure.
    pub fn new(store: Store, announcer: Announcer, wake: Wake, health: Arc<CommitHealth>) -> Self {
        Self { store, wake, announcer, health }
    }

    /// Commits `jobs`, in order. A failed transaction is split until the message that fails it stands alone, and tried
    /// again while the deadline allows where trying again can help. Returns what the lane must leave to a task beside
    /// it.
    pub(super) async fn commit_all(&self, jobs: Vec<Job>, place: &Place) -> Vec<Job> {
        let mut left_out = Vec::new();
        let mut busy = HashSet::new();
        let mut chunks = VecDeque::from([jobs]);
        let mut pause = FIRST_PAUSE;
        while let Some(chunk) = chunks.pop_front() {
            // What follows a message that was left out must not overtake it.
            let (behind, chunk): (Vec<_>, Vec<_>) =
                chunk.into_iter().partition(|job| busy.contains(&job.change.conversation()));
            left_out.extend(behind);
            let chunk = without_expired(chunk);
            if chunk.is_empty() {
                continue;
            }
            let is_left_for = self.announcer.is_left_for();
            match self.attempt(&chunk, is_left_for, place).await {
                Ok(answers) => {
                    pause = FIRST_PAUSE;
                    self.health.worked();
                    let (outcomes, events): (Vec<_>, Vec<_>) =
                        answers.into_iter().map(|answer| (answer.attempted, answer.event)).unzip();
                    answer(chunk, outcomes, &mut left_out, &mut busy);
                    self.announcer.tell(events.into_iter().flatten().collect());
                    if is_left_for.is_zero() {
                        self.wake.hint();
                    }
                }
                Err(StoreError::Transient(_)) if chunk.len() == 1 && matches!(place, Place::Lane) => {
                    busy.extend(chunk.iter().map(|job| job.change.conversation()));
                    left_out.extend(chunk);
                }
                Err(error) => {
                    self.health.failed(&error, chunk.len());
                    retry(chunk, &error, &mut chunks, &mut pause).await;
                }
            }
        }
        left_out
    }

    /// One transaction. Whoever waits for a connection waits no longer than the first of these messages may.
    async fn attempt(&self, chunk: &[Job], is_left_for: Duration, place: &Place) -> Result<Vec<Answered>, StoreError> {
        let changes: Vec<&NewChange> = chunk.iter().map(|job| &job.change).collect();
        let started = Instant::now();
        let connected_by = chunk.iter().map(|job| job.deadline).min().unwrap_or(started);
        let result = match place {
            Place::Lane => self.store.commit(&changes, Locking::SkipBusy, is_left_for, connected_by).await,
            Place::Beside(permits) => match timeout_at(connected_by, permits.acquire()).await {
                Ok(_permit) => self.store.commit(&changes, Locking::Wait, is_left_for, connected_by).await,
                Err(_) => Err(StoreError::Busy("too many locked conversations before this one")),
            },
        };
        histogram!("arcyou_commit_seconds").record(started.elapsed());
        histogram!("arcyou_commit_size").record(changes.len() as f64);
        result
    }
}

fn answer(chunk: Vec<Job>, outcomes: Vec<Attempted>, left_out: &mut Vec<Job>, busy: &mut HashSet<Uuid>) {
    for (job, outcome) in chunk.into_iter().zip(outcomes) {
        match outcome {
            Attempted::Committed(committed) => job.answer(Ok(committed)),
            Attempted::Busy => {
                busy.insert(job.change.conversation());
                left_out.push(job);
            }
        }
    }
}

/// Decides what a failure means for the messages of its transaction, and queues what is to be tried again.
async fn retry(mut chunk: Vec<Job>, error: &StoreError, chunks: &mut VecDeque<Vec<Job>>, pause: &mut Duration) {
    counter!("arcyou_commit_failures_total", "kind" => error.kind()).increment(1);
    match error {
        StoreError::Data(_) | StoreError::Refused(_) | StoreError::Transient(_) if chunk.len() > 1 => {
            let second = chunk.split_off(chunk.len() / 2);
            chunks.push_front(second);
            chunks.push_front(chunk);
        }
        StoreError::Data(_) => chunk.into_iter().for_each(|job| job.answer(Err(NotStored::Unstorable))),
        StoreError::Refused(_) => chunk.into_iter().for_each(|job| job.answer(Err(NotStored::Refused))),
        // It may be stored, and to try again would be answered in the same way.
        StoreError::NotUnderstood(_) | StoreError::Unknown(_) => {
            chunk.into_iter().for_each(|job| job.answer(Err(NotStored::Unknown)))
        }
        StoreError::Lost(_) => {
            // Only what carries a key can be tried again without storing it twice.
            let (repeatable, unique): (Vec<_>, Vec<_>) = chunk.into_iter().partition(|job| job.change.is_repeatable());
            unique.into_iter().for_each(|job| job.answer(Err(NotStored::Unknown)));
            chunks.push_front(repeatable.into_iter().map(|job| Job { in_doubt: true, ..job }).collect());
            wait(pause).await;
        }
        StoreError::Transient(_) | StoreError::Unreachable(_) | StoreError::Busy(_) => {
            chunks.push_front(chunk);
            wait(pause).await;
        }
    }
}

fn without_expired(chunk: Vec<Job>) -> Vec<Job> {
    let now = Instant::now();
    let (waiting, expired): (Vec<_>, Vec<_>) = chunk.into_iter().partition(|job| job.deadline > now);
    for job in expired {
        let outcome = if job.in_doubt { NotStored::Unknown } else { NotStored::Unavailable };
        job.answer(Err(outcome));
    }
    waiting
}

async fn wait(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
