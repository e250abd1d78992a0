//! The services against the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod orphans;
mod pool_and_bus;
mod postgres;
mod program;
mod support;
