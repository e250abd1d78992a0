//! PostgreSQL, usually through PgBouncer in transaction mode.
//!
//! Through PgBouncer, nothing may outlive a transaction on the server. Use the typed calls (`query_typed`,
//! `execute_typed`), which prepare no named statement, and `SET LOCAL`. `LISTEN`, session settings and session locks do
//! not work.
//!
//! - [`DatabaseUrl`]: where the database is, and how to connect to it.
//! - [`pool()`]: connections with time-outs.
//! - [`Lease`]: a connection that goes back to its pool only when it is clean.
//! - [`Fault`]: what an error means for the caller.
//! - [`Needs`]: what a program needs of the schema, and [`look`], which says what is missing of it.

mod describe;
mod fault;
mod lease;
mod needs;
mod pool;
mod tls_mode;
mod url;

pub use self::describe::{describe, describe_pool};
pub use self::fault::Fault;
pub use self::lease::Lease;
pub use self::needs::{ENCODING, Lack, LookError, Needs, TableNeed, look};
pub use self::pool::{PoolSetupError, pool};
pub use self::url::{DatabaseUrl, DatabaseUrlError};
