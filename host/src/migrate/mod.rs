//! `arcyou-gateway migrate`.
//!
//! - [`existing`]: what stands where this gateway's tables belong.
//! - [`schema`]: brings the schema up to date; gateways that start do the same.
//! - [`adopt`]: takes over the tables of the system before this one. Only the command does.

mod adopt;
mod existing;
mod schema;

pub use self::adopt::{AdoptError, AdoptOptions, Adopter, Progress};
pub use self::schema::{MigrateError, Rights, grant_at, migrate, migrate_at, pending};
