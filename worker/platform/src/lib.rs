//! What gateway and worker share, in the order in which a process uses it.
//!
//! - Start: [`mod@env`] (environment variables), [`telemetry`] (logs, metrics), [`shutdown`] (the signal to stop),
//!   [`tls`].
//! - Connections: [`database`] (PostgreSQL, also through PgBouncer), [`bus`] (Redis Pub/Sub), [`backoff`].
//! - What both must agree on: [`contract`] (channels, the envelope of an event).
//! - Operators: [`health`] (the state of each part), [`admin`] (`/ready`, `/metrics`, and who may ask),
//!   [`terminal`] (output of commands).

pub mod admin;
pub mod backoff;
pub mod bus;
pub mod contract;
pub mod database;
pub mod env;
pub mod health;
mod log_origin;
pub mod outage_log;
pub mod shutdown;
pub mod telemetry;
pub mod terminal;
pub mod tls;
