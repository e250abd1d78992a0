//! `/v1`: what backend services ask for over HTTP, by a client of another author, against real gateways.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod conversations;
mod document;
mod erase;
mod export;
mod keys;
mod least_rights;
mod listeners;
mod messages;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod users;
