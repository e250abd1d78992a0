//! Plugins: how they are built, loaded, called, rolled out and rolled back, and what a gateway's clients notice of
//! them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod authors;
mod bodies;
mod capabilities;
mod check;
mod crashed;
mod edits;
mod gateway;
mod host;
mod hostile;
mod kv_store;
mod reload;
mod rollout;
mod scripted;
mod shipped;
#[path = "../support/mod.rs"]
mod support;
mod versions;
mod watch;
