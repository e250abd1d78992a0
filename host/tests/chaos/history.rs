//! What a run leaves behind: the logs of the clients, and what stands in the database at its end.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

pub type Seq = i64;
/// Time since the start of the run, by one clock for everybody.
pub type At = Duration;

/// Everything that the checker looks at.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub sends: Vec<Send>,
    pub streams: Vec<Stream>,
    pub pages: Vec<Page>,
    pub absences: Vec<Absence>,
    pub messages: Vec<Message>,
    pub held: Vec<Held>,
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
    pub verdict: Verdict,
    pub attempts: Vec<Attempt>,
}

/// What the plugins must make of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Stored, with this body.
    Store(Value),
    /// Kept for review, with this body.
    Hold(Value),
    Discard,
    Reject,
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
    Held,
    Discarded,
    /// By a plugin.
    Rejected,
    /// An answer which says that nothing was stored, for another reason.
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

/// A message as a client saw it.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: At,
    pub seq: Seq,
    pub id: i64,
    pub body: Value,
}

/// A page of `history`.
#[derive(Debug, Clone)]
pub struct Page {
    pub user: Uuid,
    pub conversation: Uuid,
    pub asked: At,
    pub answered: At,
    pub window: Window,
    pub messages: Vec<Event>,
    pub has_more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// From the end backwards.
    Newest,
    Before(Seq),
    After(Seq),
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
    pub body: Value,
    /// When its transaction began.
    pub created: At,
}

#[derive(Debug, Clone)]
pub struct Held {
    pub conversation: Uuid,
    pub sender: Uuid,
    pub key: Option<String>,
    pub body: Value,
    pub created: At,
}

#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub id: i64,
    pub kind: String,
    pub processed: bool,
    pub parked: bool,
}
