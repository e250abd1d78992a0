//! Sandboxed plugins: what a gateway asks before it stores a message or lets a user join.
//!
//! From the ground up:
//!
//! - [`bindings`] alone knows the interface (WIT); [`capabilities`] are what a plugin may be granted, each a unit with
//!   its own state.
//! - [`runtime`] runs instances within their limits.
//! - [`manifest`] is `plugins.toml`: which plugins, in which order, with which limits and configuration.
//! - [`chain`] judges a message: whom to ask next, what the answers come to, what becomes of a plugin that fails.
//! - [`loading`] leads from a directory to plugins that work: read, compile or take from the cache, start, hold to
//!   cases.
//! - [`lifecycle`] is what happens over time: reload, versions, rollback.
//! - [`tool`] is the command `arcyou-gateway plugin …`, for authors.
//!
//! A plugin can do nothing but answer, log, and use what it is granted. Whatever it does wrong harms one message, as
//! its `on_error` says.

mod bindings;
mod bounded;
mod capabilities;
mod chain;
mod digest;
mod lifecycle;
mod loading;
mod manifest;
mod private_dir;
mod runtime;
mod text;
pub mod tool;

pub use capabilities::{KvError, KvStore, MemoryKv, RedisKv};
pub use chain::breaker::BreakerState;
pub use chain::evaluation::{Decision, Disposition, Rejection, Replacement};
pub use chain::pipeline::{Admission, Candidate, Chain};
pub use chain::plugin::Clock;
pub use chain::preview::Preview;
pub use chain::provenance::Provenance;
pub use chain::record::default_records_dir;
pub use chain::status::{PluginStatus, RolledBack};
pub use lifecycle::host::{Options, PluginHost};
pub use lifecycle::supervise::supervise;
pub use lifecycle::watch::DirectoryWatch;
pub use loading::cache::default_cache_dir;
pub use loading::cases::CaseFailure;
pub use loading::loader::LoadError;
