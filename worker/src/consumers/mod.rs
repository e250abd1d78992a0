//! Who reads the outbox.
//!
//! A consumer takes rows from the outbox and hands them to one kind of receiver. Consumers run side by side, in every
//! worker process, and share only the table, the connection pool and the wake hints. Each one is a module of its own.
//!
//! **What a consumer owes:**
//!
//! - *Progress of its own*, stored in the database and advanced only after its receiver has the row. Several workers
//!   may run, so it also makes sure that two of them do not take the same row at once.
//! - *Failures of its own.* It decides when a row is retried and when it is parked for an operator, and records that
//!   with its own progress. An outage of its receiver counts against no row.
//! - *A health part and metrics of its own.*
//! - *Bounded waits.* It waits for its receiver with a time-out, holds no lock that another consumer needs, and takes
//!   one connection at a time from the pool. Another consumer never waits for it.
//! - *An orderly end.* On shutdown it claims no more and finishes the batch in hand.
//! - *A condition for pruning*, added to [`RELEASED`].
//!
//! **What it may rely on:**
//!
//! - Ids are assigned in ascending order, but rows *commit in any order*: a row with a lower id can appear after one
//!   with a higher id was read. "Everything after the highest id seen" loses rows.
//! - `type`, `conversation_id` and `payload` of a row never change.
//! - A row stays until every consumer has released it, and for the retention time after that. The only exception is an
//!   operator who drops a row that the relay has parked: this deletes the row for every consumer.
//! - A wake hint may be missing, so a consumer also polls.
//! - Any row can be handed over twice: between handing it over and recording that, the process can end.

pub(crate) mod relay;

/// For each consumer, the SQL condition that a row of `outbox` is no longer needed by it and has not been for `$3`
/// seconds. A row is pruned when all of them hold.
pub(crate) const RELEASED: [&str; 1] = [relay::RELEASED];
