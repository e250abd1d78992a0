//! What operators do and go through: a gateway on their own machine, the end of a process, held messages, and servers
//! that fail.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod dev;
mod drain;
mod outages;
mod review;
#[path = "../support/mod.rs"]
mod support;
