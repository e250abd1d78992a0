//! What a run leaves behind: the logs of the clients, and what stands in the database at its end.

use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

pub type Seq = i64;
/// Time since the start of the run, by one clock for everybody.
pub type At = Duration;

/// Everything that the checker looks at.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub sends: Vec<Send>,
    pub streams: Vec<Stream>,
    pub absences: Vec<Absence>,
    pub messages: Vec<Message>,
    pub outbox: Vec<OutboxRow>,
    /// What a client met that the protocol does not allow, in words.
    pub unexpected: Vec<String>,
    /// When something was broken, or recovering from it.
    pub disturbed: Vec<Range<At>>,
    /// How much undisturbed time a removal may take to reach the sockets.
    pub removal_within: Duration,
}

/// A message that a client wanted to send, by its idempotency key, and what came of each try.
#[derive(Debug, Clone)]
pub struct Send {
    pub user: Uuid,
    pub conversation: Uuid,
    pub key: String,
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub asked: At,
    pub ended: At,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Stored {
        id: i64,
        seq: Seq,
        duplicate: bool,
    },
    /// An answer which says that nothing was stored.
    Refused,
    /// No answer, or one which says that it is not known.
    Unknown,
}

/// A conversation on one socket, from a successful join to its end.
#[derive(Debug, Clone)]
pub struct Stream {
    pub user: Uuid,
    pub conversation: Uuid,
    pub socket: u64,
    pub asked: At,
    pub joined: At,
    /// The events begin after this place.
    pub from: Seq,
    pub events: Vec<Event>,
    /// Still joined when the run had become quiet: it must have everything.
    pub open: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub at: At,
    pub seq: Seq,
    pub id: i64,
}

/// A user who is no participant: surely from `from`, perhaps no longer from `until`.
#[derive(Debug, Clone)]
pub struct Absence {
    pub user: Uuid,
    pub conversation: Uuid,
    pub from: At,
    pub until: Option<At>,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: i64,
    pub conversation: Uuid,
    pub seq: Seq,
    pub sender: Uuid,
    pub key: Option<String>,
    /// When its transaction began.
    pub created: At,
}

#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub id: i64,
    pub kind: String,
    pub processed: bool,
    pub parked: bool,
}
