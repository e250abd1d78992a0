//! Replies and failures. `frame` writes them; events are in `event`.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::body::Body;
use crate::code::ErrorCode;
use crate::ids::{Seq, StoredChange, StoredIds};

/// The reply to a request that succeeded.
#[derive(Debug)]
pub enum Reply {
    /// The socket is authenticated.
    Auth {
        user: Uuid,
        /// The user's id as the token has it, if it is another.
        subject: Option<String>,
        /// What it may do.
        limits: SocketLimits,
    },
    /// The gateway is alive.
    Ping,
    /// The socket is subscribed to the conversation.
    Join(Joined),
    /// The answer to a list, in its order: to what the socket is subscribed, and why it is not to the others.
    JoinList(Vec<Result<Joined, Failure>>),
    /// The socket is unsubscribed from the conversation.
    Leave {
        conversation: Uuid,
    },
    /// The message was accepted.
    Send {
        status: SendStatus,
        /// Whether an earlier send with the same key was accepted already.
        duplicate: bool,
        /// The body as it is stored, if a plugin replaced the one that was sent.
        body: Option<Body>,
    },
    /// The edit was accepted.
    Edit {
        conversation: Uuid,
        message_id: i64,
        status: EditStatus,
        /// Whether an earlier edit with the same key was accepted already.
        duplicate: bool,
        /// The body as it is stored, if a plugin replaced the one that was sent.
        body: Option<Body>,
    },
    /// The message is deleted.
    Delete {
        conversation: Uuid,
        message_id: i64,
        change: StoredChange,
        /// Whether it was deleted before.
        duplicate: bool,
    },
    /// The reaction is there, or not any more.
    React {
        conversation: Uuid,
        message_id: i64,
        reaction: Box<str>,
        /// How often the message has it now.
        count: i32,
        /// Of the change that made it so; none if it was never there.
        seq: Option<Seq>,
        /// Whether it was so before.
        duplicate: bool,
    },
    Ack {
        conversation: Uuid,
        last_read_id: i64,
    },
    /// A page of messages.
    History(HistoryPage),
}

/// A page of messages, as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    pub conversation: Uuid,
    /// The messages' JSON texts, in the requested order.
    pub messages: Vec<String>,
    /// Every change up to this one is in them, and perhaps later ones.
    pub as_of_seq: Seq,
    /// Whether there are more messages in that direction; around a place: after these.
    pub has_more: bool,
    /// Around a place: whether there are more before these.
    pub has_more_before: Option<bool>,
}

/// What a client may do, so that it need not find out by refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SocketLimits {
    /// Frames of the user; 0: unlimited.
    pub frames_per_second: u32,
    /// Frames of the user at once, after a pause; 0: unlimited.
    pub frames_burst: u32,
    /// Bytes of a frame.
    pub max_frame_bytes: usize,
    /// Bytes of a body's canonical text.
    pub max_body_bytes: usize,
    /// Conversations that a socket may have joined.
    pub max_joined: usize,
    /// Conversations in one `join`.
    pub max_join_list: usize,
    /// A `join` counts as a frame for so many conversations.
    pub joins_per_frame: usize,
}

/// A conversation that a socket has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub conversation: Uuid,
    /// The `seq` of the newest message.
    pub last_seq: Seq,
    pub last_read_id: i64,
    pub role: String,
    /// Whether every message after the client's last one follows. None if the client did not ask to resume.
    pub resumed: Option<bool>,
}

/// What happened to an accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendStatus {
    /// Stored, and about to be published.
    Stored(StoredIds),
    /// Held for review under this id, which is no message's id.
    Held(i64),
    Discarded,
}

/// What happened to an accepted edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditStatus {
    /// It stands, and is about to be published.
    Stored(StoredChange),
    /// Held for review under this id. The old body stands.
    Held(i64),
    /// The old body stands.
    Discarded,
}

/// The reply to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    /// A sentence for people that says what to do. It never contains SQL, paths or internals.
    pub text: String,
    /// When a retry makes sense, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The plugin that rejected the request or failed.
    pub plugin: Option<Arc<str>>,
    /// The plugin's own code.
    pub reject_code: Option<String>,
    /// The conversation, if the failure does not answer a request that names it.
    pub conversation: Option<Uuid>,
    /// The version of the message that stands, if it is not the one that was meant.
    pub version: Option<i32>,
}

impl Failure {
    /// A failure with only a code and a text.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            retry_after_ms: None,
            plugin: None,
            reject_code: None,
            conversation: None,
            version: None,
        }
    }

    /// An internal failure of the gateway. The log has the cause.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "the gateway failed; its operator finds the cause in its log")
    }
}
