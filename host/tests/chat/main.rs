//! What clients see: everything that stands in the protocol, by way of real gateways, workers and servers.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod addresses;
mod announced;
mod changes;
mod conversations;
mod fanout;
mod hostile;
mod javascript_client;
mod joining;
mod one_message;
mod other_services;
mod own_changes;
mod partitions;
mod refusals;
mod sharded;
mod slow_readers;
mod storage;
#[path = "../support/mod.rs"]
mod support;
mod users;
mod walkthrough;
