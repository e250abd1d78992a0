//! Group commit: one transaction for all the messages that arrived while the last one was under way.
//!
//! A lane is a task that owns a share of the conversations, always the same ones, so that messages of a conversation
//! are stored in the order in which they were submitted. A conversation that somebody else holds locked leaves its lane
//! and is finished beside it, with whatever follows for it queued behind, so that it delays nobody else.

mod commit;
mod config;
mod job;
mod lane;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::screen::Screened;
use crate::store::{NewMessage, Store};
use crate::wake::Wake;

use commit::Committer;
use job::Job;
use lane::Lane;

pub use config::BatchConfig;
pub use job::{NotStored, Outcome};

/// Takes messages and stores them in groups. Lanes end when every clone is gone and all that was accepted is answered.
#[derive(Debug, Clone)]
pub struct Batcher {
    lanes: Arc<[mpsc::Sender<Job>]>,
    patience: Duration,
}

impl Batcher {
    /// Starts the lanes on `tasks`; `wake` hears of each commit.
    pub fn start(store: &Store, config: BatchConfig, wake: Wake, tasks: &TaskTracker) -> Self {
        let start = |_| {
            let (sender, jobs) = mpsc::channel(config.queue);
            tasks.spawn(Lane::new(Committer { store: store.clone(), wake: wake.clone() }, config).run(jobs));
            sender
        };
        Self { lanes: (0..config.lanes.max(1)).map(start).collect(), patience: config.patience }
    }

    /// Hands a message over. Messages of one conversation are stored in the order of these calls. Never waits; dropping
    /// the receiver does not take the message back.
    pub fn submit(&self, message: Screened) -> Result<oneshot::Receiver<Outcome>, NotStored> {
        let message = NewMessage::from(message);
        let lane = (message.conversation().as_u128() % self.lanes.len() as u128) as usize;
        let (reply, outcome) = oneshot::channel();
        let job = Job { message, deadline: Instant::now() + self.patience, in_doubt: false, reply };
        self.lanes[lane].try_send(job).map_err(|_| NotStored::Overloaded)?;
        Ok(outcome)
    }
}
