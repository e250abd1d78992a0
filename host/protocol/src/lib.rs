//! The wire protocol: clients' requests, the gateway's replies, and events. Pure: no socket, no database, no clock.
//!
//! [`parse`] reads a request into an [`Operation`], whose parts pass [`checks`]; a message's [`body`] is made
//! canonical. A [`Reply`], or a [`Failure`] with its [`ErrorCode`], answers the request. [`event`] writes the frames
//! that clients get without a request. A [`CloseCode`] says why a socket is closed.

#[macro_use]
mod wire_enum;

pub mod body;
pub mod checks;
mod client;
mod close;
mod code;
pub mod event;
mod fields;
mod frame;
mod ids;
mod numbers;
mod parse;
mod server;
mod text;

pub use client::{
    Action, ClientFrame, Command, Echo, FrameError, FrameLimits, HistoryFrom, JoinTarget, Op, Operation, ResumeFrom,
    UserOperation,
};
pub use close::CloseCode;
pub use code::ErrorCode;
pub use ids::{Seq, StoredChange, StoredIds};
pub use parse::parse;
pub use server::{EditStatus, Failure, HistoryPage, Joined, Reply, SendStatus, SocketLimits};
