//! Identity as teams have it: real issuers that publish and rotate keys, several of them, users with ids of their own,
//! and users who are disconnected.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod claims;
mod disconnecting;
mod failing_issuers;
mod issuer;
mod issuers;
mod lookup;
mod rotation;
#[allow(dead_code)]
#[path = "../api/service.rs"]
mod service;
