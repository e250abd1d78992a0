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

// From a process to sockets: listeners, handshake, background tasks, drain.
pub mod server;

// Which pages a browser may connect from.
pub mod origins;

// How much each kind of stranger may use.
pub mod bounds;

// One connection: requests in, replies and events out.
pub mod session;

// From a token to the user for whom it speaks …
pub mod auth;

// … unless the user was disconnected since.
pub mod cutoffs;

// The inbound line, top to bottom.
pub mod ingress;

// A command becomes one that a participant may carry out …
pub mod authorize;

// … and one that every plugin let through.
pub mod screen;

// Group commit.
pub mod batch;

// How far users have read, and who hears of it.
pub mod read_marks;

// All SQL of the gateway.
pub mod store;

// The hint to workers after a commit.
pub mod wake;

// What was committed, on its way to sockets.
pub mod fanout;

// What plugins kept from being stored, noted for operators.
pub mod audit;

// What plugins failed on goes with what was deleted.
mod failure_records;

// `/v1`: what backend services ask for over HTTP, by the same inbound line.
pub mod api;

// Routes for operators.
pub mod admin;

// `arcyou-gateway held …`.
pub mod held;

// `arcyou-gateway key …`.
pub mod api_keys;

// `arcyou-gateway migrate`.
pub mod migrate;

// `arcyou-gateway dev`.
pub mod dev;

// The environment, read.
pub mod config;
