//! The wire: what clients may say, what they are told in reply, and the events that they hear. Pure: no socket, no
//! database, no clock.
//!
//! A request is read by [`parse`]; its [`body`] is made canonical. A [`Reply`] or a [`Failure`] (with its
//! [`ErrorCode`]) answers it. [`event`] writes the frames that nobody asked for, and a [`CloseCode`] is the last word.

#[macro_use]
mod wire_enum;

pub mod body;
mod client;
mod close;
mod code;
pub mod event;
mod ids;
mod server;
mod text;

pub use client::{
    Action, ClientFrame, Command, Echo, FrameError, FrameLimits, HistoryFrom, Op, Operation, ResumeFrom, UserOperation,
    parse,
};
pub use close::CloseCode;
pub use code::ErrorCode;
pub use ids::{Seq, StoredIds};
pub use server::{Failure, Reply, SendStatus};
