//! Group commit: one transaction for all the messages that arrived while the last one was under way.
//!
//! A lane is a task that owns a share of the conversations, always the same ones, so that messages of a conversation
//! are stored in the order in which they were submitted. A conversation that somebody else holds locked leaves its lane
//! and is finished beside it, with whatever follows for it queued behind, so that it delays nobody else.

mod commit;
mod lane;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::screen::Screened;
use crate::store::{Committed, NewMessage, Store};
use crate::wake::Wake;

use commit::Committer;
use lane::Lane;

/// How the lanes are cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchConfig {
    /// Transactions under way at once: enough that a lone message seldom waits for another, few enough that under load
    /// each is large.
    pub lanes: usize,
    /// Messages in one transaction at most.
    pub max_rows: usize,
    /// Messages that wait for one lane at most; more are refused.
    pub queue: usize,
    /// How long a message may wait for the database before its sender is told to try again.
    pub patience: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { lanes: 4, max_rows: 256, queue: 4096, patience: Duration::from_secs(5) }
    }
}

/// Why a message was not stored, or is not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Too much is waiting already. Nothing was done.
    #[error("the gateway has more work than it can hold")]
    Overloaded,
    /// The database was away or busy for as long as a sender can be expected to wait. Certainly not stored.
    #[error("the database cannot be reached or is busy")]
    Unavailable,
    /// The answer was lost. Perhaps stored.
    #[error("the database's answer was lost")]
    Unknown,
    /// The database cannot hold this message.
    #[error("the database cannot store this message")]
    Unstorable,
    /// The database refused for a reason that a sender cannot mend.
    #[error("the database refused")]
    Refused,
}

/// What became of a message.
pub type Outcome = Result<Committed, NotStored>;

/// Takes messages and stores them in groups. Lanes end when every clone is gone and all that was accepted is answered.
#[derive(Debug, Clone)]
pub struct Batcher {
    lanes: Arc<[mpsc::Sender<Job>]>,
    patience: Duration,
}

/// A message on its way, and whoever waits for it.
#[derive(Debug)]
struct Job {
    message: NewMessage,
    deadline: Instant,
    /// An attempt's answer was lost: nothing may claim any more that the message is not stored.
    in_doubt: bool,
    reply: oneshot::Sender<Outcome>,
}

impl Job {
    fn answer(self, outcome: Outcome) {
        // Whoever asked may be gone; what is stored is stored.
        let _ = self.reply.send(outcome);
    }
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
