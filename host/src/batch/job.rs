//! A message on its way to the store, and what may become of it.

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::store::{Committed, NewChange};

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

/// A message on its way, and whoever waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) change: NewChange,
    pub(super) deadline: Instant,
    /// An attempt's answer was lost: nothing may claim any more that the message is not stored.
    pub(super) in_doubt: bool,
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl Job {
    pub(super) fn answer(self, outcome: Outcome) {
        // Whoever asked may be gone; what is stored is stored.
        let _ = self.reply.send(outcome);
    }
}
