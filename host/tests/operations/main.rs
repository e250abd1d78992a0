//! What operators do and go through: a gateway on their own machine, the end of a process, held messages, roles of
//! least rights, and servers that fail.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod balancers;
mod dev;
mod drain;
mod environment;
mod files;
mod keys;
mod logs;
mod metrics;
mod outages;
mod playground;
mod readiness;
mod review;
mod rights;
#[path = "../support/mod.rs"]
mod support;
