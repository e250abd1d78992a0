//! Group commit: one transaction for all the messages that arrived while the last one was under way.
//!
//! A lane is a task that owns a share of the conversations, always the same ones, so that messages of a conversation
//! are stored in the order in which they were submitted. A conversation that somebody else holds locked leaves its lane
//! and is finished beside it, with whatever follows for it queued behind, so that it delays nobody else.

mod commit;
mod config;
mod job;
mod lane;
mod outage;
mod pace;
mod queue_shares;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::screen::Screened;
use crate::store::NewChange;

pub use commit::Committer;
use job::Job;
use lane::Lane;
use queue_shares::QueueShares;

pub use config::BatchConfig;
pub use job::{NotStored, Outcome};
pub use outage::CommitHealth;
pub use pace::Pace;

/// Takes messages and stores them in groups. Lanes end when every clone is gone and all that was accepted is answered.
#[derive(Debug, Clone)]
pub struct Batcher {
    lanes: Arc<[mpsc::Sender<Job>]>,
    pace: Arc<Pace>,
    shares: Arc<QueueShares>,
    config: BatchConfig,
}

impl Batcher {
    /// Starts the lanes on `tasks`; `pace` says how fast they may go on.
    pub fn start(committer: &Committer, config: BatchConfig, pace: &Arc<Pace>, tasks: &TaskTracker) -> Self {
        let shares = Arc::<QueueShares>::default();
        let start = |_| {
            let (sender, jobs) = mpsc::channel(config.queue);
            tasks.spawn(Lane::new(committer.clone(), config, pace.clone(), shares.clone()).run(jobs));
            sender
        };
        let lanes = (0..config.lanes.max(1)).map(start).collect();
        Self { lanes, pace: pace.clone(), shares, config }
    }

    /// Hands a message over. Messages of one conversation are stored in the order of these calls. Never waits; dropping
    /// the receiver does not take the message back.
    pub fn submit(&self, change: Screened) -> Result<oneshot::Receiver<Outcome>, NotStored> {
        let change = NewChange::from(change);
        let sender = change.sender();
        let most = self.config.queue * self.lanes.len();
        if !self.shares.enter(sender, self.pace.room(most)) {
            return Err(NotStored::Overloaded);
        }
        let lane = (change.conversation().as_u128() % self.lanes.len() as u128) as usize;
        let (reply, outcome) = oneshot::channel();
        let job = Job { change, deadline: Instant::now() + self.config.patience, in_doubt: false, reply };
        if self.lanes[lane].try_send(job).is_err() {
            self.shares.leave([sender]);
            return Err(NotStored::Overloaded);
        }
        Ok(outcome)
    }
}
