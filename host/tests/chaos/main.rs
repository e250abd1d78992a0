//! Nothing lost, nothing twice, nothing out of order, whatever is killed: the real programs under a schedule of faults that is
//! drawn from a seed, and a checker that reads the logs of all clients afterwards.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod checker;
#[cfg(test)]
mod checker_tests;
mod history;
