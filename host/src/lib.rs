//! A chat gateway: JSON over WebSocket, a chain of sandboxed plugins, one transaction per batch of messages, and fan-out.
//!
//! Data walks three lines, each one way:
//!
//! 1. **Inbound**: [`http`] → [`session`] → [`protocol`] → [`ingress`]: [`authorize`] → [`plugins`] → [`batch`] →
//!    [`store`] → ack. Each step changes the type of what it carries (`ClientFrame` → `Submitted` → `Permitted` →
//!    `Screened` → `Committed`), with private constructors, so that none can be skipped.
//! 2. **Outbox**: wake → claim → publish → mark. That is the worker's line, in `arcyou_outbox_worker`; the gateway only
//!    hints at it ([`wake`]).
//! 3. **Outbound**: [`fanout`]: subscriber → resequence → room → [`session::outbound`] → socket.

pub mod audit;
pub mod auth;
pub mod authorize;
pub mod batch;
pub mod config;
pub mod dev;
pub mod fanout;
pub mod gateway;
pub mod http;
pub mod ingress;
pub mod migrate;
pub mod origins;
pub mod plugins;
pub mod protocol;
pub mod review;
pub mod run;
pub mod serve;
pub mod session;
pub mod store;
pub mod wake;
