//! What clients may ask for. `parse` reads it from text.

use uuid::Uuid;

use crate::body::{Body, BodyLimits};
use crate::code::ErrorCode;

/// Limits for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Limits for the body of a `send` or an `edit`.
    pub body: BodyLimits,
    /// Conversations in one `join`.
    pub max_join_list: usize,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFrame {
    /// What the reply repeats.
    pub echo: Echo,
    pub operation: Operation,
}

/// The values that a reply repeats, so that a client can match it to its request. Raw JSON: a string or a number each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echo {
    /// The request's `ref`.
    pub reference: Option<Box<str>>,
    /// The request's `temp_id`.
    pub temp_id: Option<Box<str>>,
}

wire_enum! {
    /// The names of the requests, as in their field `op`.
    Op: &'static str {
        /// Authenticates the socket.
        Auth = "auth",
        /// Does nothing; always answered.
        Ping = "ping",
        /// Subscribes to a conversation's events.
        Join = "join",
        /// Unsubscribes from a conversation's events.
        Leave = "leave",
        /// Stores a message.
        Send = "send",
        /// Replaces the body of a message.
        Edit = "edit",
        /// Deletes a message.
        Delete = "delete",
        /// Adds a reaction to a message, or takes it away.
        React = "react",
        /// Marks messages as read.
        Ack = "ack",
        /// Reads stored messages.
        History = "history",
    }
}

/// A valid request, without the values to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Authenticates the socket.
    Auth {
        /// A JWT, or in development a user's UUID.
        token: String,
    },
    /// A no-op that is always answered, for clients that cannot send WebSocket pings, such as browsers.
    Ping,
    /// A request that needs an authenticated socket.
    User(UserOperation),
}

/// The requests of an authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserOperation {
    /// Subscribe to a conversation's events.
    Join(JoinTarget),
    /// The same for several conversations, which are different ones; answered by one frame.
    JoinList(Vec<JoinTarget>),
    /// Unsubscribe from a conversation's events.
    Leave {
        conversation: Uuid,
    },
    Command(Command),
    /// Mark messages as read.
    Ack {
        conversation: Uuid,
        /// The newest message that was read.
        last_read_id: i64,
    },
    History {
        conversation: Uuid,
        from: HistoryFrom,
        /// Only this message and the replies to it.
        thread: Option<i64>,
        /// The maximum number of messages.
        limit: u32,
    },
}

/// A conversation to join, from now on or from where an earlier socket stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTarget {
    pub conversation: Uuid,
    /// The last message that the client has.
    pub resume: Option<ResumeFrom>,
}

/// A change of a conversation, independent of how the request arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub conversation: Uuid,
    /// Identifies a retry: for the same sender, conversation and key, the change is made once.
    pub idempotency_key: Option<Box<str>>,
    pub action: Action,
}

/// The kinds of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store a message and publish it to the conversation.
    Send {
        body: Body,
        /// The message that it replies to.
        reply_to: Option<i64>,
    },
    /// Replace the body of a message of one's own.
    Edit {
        message_id: i64,
        body: Body,
        /// The version that is to be replaced; none: whichever stands.
        if_version: Option<i32>,
    },
    /// Take a message away for good. It keeps its place.
    Delete {
        message_id: i64,
        /// The version that is to be deleted; none: whichever stands.
        if_version: Option<i32>,
    },
    React {
        message_id: i64,
        /// 1 to 64 characters without spaces and control characters.
        reaction: Box<str>,
        /// Whether it is taken away again.
        remove: bool,
    },
}

impl Operation {
    /// The request's name, which the reply repeats.
    pub const fn op(&self) -> Op {
        match self {
            Self::Auth { .. } => Op::Auth,
            Self::Ping => Op::Ping,
            Self::User(operation) => operation.op(),
        }
    }
}

impl UserOperation {
    const fn op(&self) -> Op {
        match self {
            Self::Join(_) | Self::JoinList(_) => Op::Join,
            Self::Leave { .. } => Op::Leave,
            Self::Command(Command { action, .. }) => action.op(),
            Self::Ack { .. } => Op::Ack,
            Self::History { .. } => Op::History,
        }
    }
}

impl Action {
    /// The request's name, which the reply repeats.
    pub const fn op(&self) -> Op {
        match self {
            Self::Send { .. } => Op::Send,
            Self::Edit { .. } => Op::Edit,
            Self::Delete { .. } => Op::Delete,
            Self::React { .. } => Op::React,
        }
    }
}

/// The last message that a resuming client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// By its position in the conversation.
    Seq(i64),
    /// By its id; 0 is before the first message.
    Id(i64),
}

/// Where a page of history starts, and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// At the newest message, newest first.
    Newest,
    /// Below this `seq`, newest first.
    Before(i64),
    /// Above this `seq`, oldest first.
    After(i64),
    /// On both sides of this `seq`, oldest first.
    Around(i64),
}

/// An invalid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameError {
    /// The request's `op` if it is known, otherwise `error`.
    pub op: &'static str,
    /// What the reply repeats.
    pub echo: Echo,
    pub code: ErrorCode,
    /// A sentence for people.
    pub text: String,
}
