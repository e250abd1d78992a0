//! A chat gateway: JSON over WebSocket, a chain of sandboxed plugins, one transaction per batch of messages, and
//! fan-out.
//!
//! Data walks three lines, each one way. The modules stand in the order in which data meets them.
//!
//! 1. **Inbound**: [`server`] → [`session`] → [`ingress`]: [`authorize`] → [`screen`] → [`batch`] → [`store`] → ack.
//!    Each step changes the type of what it carries (`Command` → `Submitted` → `Permitted` → `Screened` → `Committed`),
//!    with private constructors, so that none can be skipped.
//! 2. **Outbox**: wake → claim → publish → mark. That is the worker's line, in `arcyou_outbox_worker`; the gateway only
//!    hints at it ([`wake`]).
//! 3. **Outbound**: [`fanout`]: subscriber → resequence → room → outbound → socket.
//!
//! Frames are in `arcyou_protocol`, plugins in `arcyou_plugin_host`, what the worker shares in `arcyou_platform`.

/// What plugins kept from being stored, noted for operators.
pub mod audit;
/// From a token to the user for whom it speaks.
pub mod auth;
/// A command becomes one that a participant may carry out …
pub mod authorize;
/// Group commit.
pub mod batch;
/// What was committed, on its way to sockets.
pub mod fanout;
/// The inbound line, top to bottom.
pub mod ingress;
/// … and one that every plugin let through.
pub mod screen;
/// From a process to sockets: listeners, handshake, background tasks, drain.
pub mod server;
/// One connection: requests in, replies and events out.
pub mod session;
/// All SQL of the gateway.
pub mod store;
/// The hint to workers after a commit.
pub mod wake;

/// Routes for operators.
pub mod admin;
/// The environment, read.
pub mod config;
/// `arcyou-gateway dev`.
pub mod dev;
/// `arcyou-gateway held …`.
pub mod held;
/// `arcyou-gateway migrate`.
pub mod migrate;
