//! How consumers reach the outbox: transactions whose every step has a time-out, and their errors. Each consumer has
//! its own statements.

mod error;
mod sql;
mod transaction;

pub use self::error::OutboxError;
pub(crate) use self::transaction::{Param, Transaction};
