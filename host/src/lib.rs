//! A chat gateway: JSON over WebSocket, a chain of sandboxed plugins, one transaction per batch of messages, and fan-out.
//!
//! Data walks three lines, each one way:
//!
//! 1. inbound: [`session`] → [`protocol`] → [`authorize`]
//!
//! Each step of the inbound line changes the type of what it carries, with private constructors, so that none can be
//! skipped.

pub mod auth;
pub mod authorize;
pub mod protocol;
pub mod session;
pub mod store;
