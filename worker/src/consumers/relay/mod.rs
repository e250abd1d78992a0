//! The relay: claim → publish → mark. Publishes the rows of the outbox to Redis, for gateways.
//!
//! - [`task`]: the loop, from a wake hint to the next one.
//! - [`claim_watermark`]: from which id on to claim (pure).
//! - [`claim`]: rows that are this worker's until its transaction ends.
//! - [`mark`]: records what became of them.
//! - [`retry`]: retry or park (pure).
//! - [`parked`]: what operators do with parked rows.
//! - [`gauges`]: the relay's backlog, as metrics.
//! - [`sql`]: all statements.
//!
//! Its progress is in columns of the outbox itself: `processed` and `processed_at`, set after a row was published;
//! `retry_count`, `error`, `next_attempt_at` and `parked_at` for its failures. Delivery is at least once: whatever
//! fails between publishing and marking is published again.

mod claim;
mod claim_watermark;
mod gauges;
mod mark;
pub mod parked;
mod retry;
mod sql;
mod task;

pub(crate) use self::sql::RELEASED;
pub(crate) use self::task::Relay;
