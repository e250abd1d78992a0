//! The worker against real servers, in its own process and in the test's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
mod clocks;
mod database;
mod failures;
mod metrics;
mod process;
mod relay;
mod support;
