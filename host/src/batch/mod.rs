//! Group commit: a transaction takes all the messages that have arrived since the last one began.
//!
//! So many transactions, the lanes, are under way at once. A message that finds a lane free is committed at once; what
//! comes while all are in use waits, and makes the next batch larger. A conversation is in one lane at a time, so its
//! messages are stored in the order in which they were submitted. A conversation that somebody else holds locked is
//! finished beside the lanes, with whatever follows for it queued behind, so that it delays nobody else.

mod commit;
mod config;
mod job;
mod lanes;
mod outage;
mod pace;
mod queue;
mod queue_shares;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::screen::Screened;
use crate::store::NewChange;

pub use commit::Committer;
use job::Job;
use lanes::Lanes;

pub use config::BatchConfig;
pub use job::{NotStored, Outcome};
pub use outage::CommitHealth;
pub use pace::Pace;

/// Takes messages and stores them in groups. Cheap to clone.
#[derive(Clone)]
pub struct Batcher {
    lanes: Arc<Lanes>,
    pace: Arc<Pace>,
    config: BatchConfig,
}

impl Batcher {
    /// Lanes run on `tasks` while there is something to commit; `pace` says how fast they may go on.
    pub fn new(committer: Committer, config: BatchConfig, pace: Arc<Pace>, tasks: TaskTracker) -> Self {
        let lanes = Arc::new(Lanes::new(committer, config, pace.clone(), tasks));
        Self { lanes, pace, config }
    }

    /// Hands a message over. Messages of one conversation are stored in the order of these calls. Never waits; dropping
    /// the receiver does not take the message back.
    pub fn submit(&self, change: Screened) -> Result<oneshot::Receiver<Outcome>, NotStored> {
        let (reply, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.config.patience;
        let job = Job { change: NewChange::from(change), deadline, in_doubt: false, reply };
        self.lanes.push(job, self.pace.room(self.config.queue))?;
        Ok(outcome)
    }
}

impl fmt::Debug for Batcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Batcher").field("config", &self.config).finish_non_exhaustive()
    }
}
