//! What a run leaves behind: the logs of the clients, and what stands in the database at its end.

use std::collections::{BTreeMap, BTreeSet};
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
    pub changes: Vec<Change>,
    pub streams: Vec<Stream>,
    pub pages: Vec<Page>,
    pub absences: Vec<Absence>,
    pub messages: Vec<Message>,
    pub made: Vec<Made>,
    /// The conversations as the clients had them at the end.
    pub rooms: Vec<Room>,
    /// Texts of deleted messages that a dump of the database had.
    pub leaks: Vec<String>,
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
    /// The message that it replies to.
    pub reply_to: Option<i64>,
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

/// A change of a message that a client wanted, and what came of each try.
#[derive(Debug, Clone)]
pub struct Change {
    pub user: Uuid,
    pub conversation: Uuid,
    pub message: i64,
    pub ask: Ask,
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Edit { key: String, body: Value, verdict: Verdict },
    Delete,
    React { reaction: String, remove: bool },
}

impl Ask {
    /// The type of the event that tells of it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Edit { .. } => "message.edited",
            Self::Delete => "message.deleted",
            Self::React { remove: false, .. } => "reaction.added",
            Self::React { remove: true, .. } => "reaction.removed",
        }
    }
}

/// A change as a client saw it, or a message on a page.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: At,
    /// Of the change; on a page the message's place.
    pub seq: Seq,
    /// The message's.
    pub id: i64,
    /// Null if it tells no text.
    pub body: Value,
    pub told: Told,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The message with this version, which stood when it was read; its place, and what it replies to.
    Message { kind: String, version: i64, place: Seq, reply_to: Option<i64> },
    /// Who has given or taken away which reaction.
    Reaction { kind: String, user: Uuid, reaction: String },
    /// Nothing, since a later change has overtaken it.
    Overtaken { kind: String },
}

impl Told {
    /// A message as it was sent.
    pub fn created(place: Seq) -> Self {
        Self::Message { kind: "message.created".to_owned(), version: 1, place, reply_to: None }
    }

    pub fn kind(&self) -> &str {
        match self {
            Self::Message { kind, .. } | Self::Reaction { kind, .. } | Self::Overtaken { kind } => kind,
        }
    }
}

/// Reactions: who has given which.
pub type Reactions = BTreeSet<(Uuid, String)>;

/// A conversation as a client has it.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub user: Uuid,
    pub conversation: Uuid,
    /// It has every message after this place.
    pub base: Seq,
    pub messages: BTreeMap<i64, Seen>,
}

/// A message as a client has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub place: Seq,
    pub reply_to: Option<i64>,
    pub version: i64,
    pub body: Value,
    pub reactions: Reactions,
}

impl Room {
    /// Takes an event as the documentation tells clients to.
    pub fn apply(&mut self, event: &Event) {
        match &event.told {
            Told::Message { version, place, reply_to, .. } if *place > self.base => {
                let (place, reply_to) = (*place, *reply_to);
                let fresh = Seen { place, reply_to, version: 0, body: Value::Null, reactions: Reactions::new() };
                let seen = self.messages.entry(event.id).or_insert(fresh);
                if *version > seen.version {
                    (seen.version, seen.body) = (*version, event.body.clone());
                    if event.body.is_null() {
                        seen.reactions.clear();
                    }
                }
            }
            Told::Reaction { kind, user, reaction } => {
                let Some(seen) = self.messages.get_mut(&event.id).filter(|seen| !seen.body.is_null()) else { return };
                let given = (*user, reaction.clone());
                if kind == "reaction.added" {
                    seen.reactions.insert(given);
                } else {
                    seen.reactions.remove(&given);
                }
            }
            Told::Message { .. } | Told::Overtaken { .. } => {}
        }
    }
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
    pub reply_to: Option<i64>,
    /// Null if it is deleted.
    pub body: Value,
    pub version: i64,
    pub reactions: Reactions,
    /// When its transaction began.
    pub created: At,
}

/// A change that is stored.
#[derive(Debug, Clone)]
pub struct Made {
    pub conversation: Uuid,
    pub seq: Seq,
    pub kind: String,
    pub message: i64,
    pub user: Uuid,
    pub key: Option<String>,
    pub version: Option<i64>,
    /// None also once the message is deleted.
    pub reaction: Option<String>,
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
