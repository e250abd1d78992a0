//! Sandboxed plugins of the chat gateway. Before the gateway stores a message or an edit, or lets a user join a
//! conversation, a chain of WebAssembly components may accept, change, hold, discard or reject it.
//!
//! A [`PluginHost`] loads a directory of plugins and gives the gateway its current [`Chain`]. The chain returns a
//! [`Decision`] about a message or an [`Admission`] for a join.
//!
//! The modules build on one another. Each one uses only those above it:
//!
//! - [`bindings`]: the only bindings to the plugin interface (WIT).
//! - [`capabilities`]: what a plugin may be granted (`log`, `clock`, `random`, `kv`, `http`).
//! - [`runtime`]: instances of plugins, and the limits within which they run.
//! - [`manifest`]: `plugins.toml`, which lists plugins with their order, limits and configuration.
//! - [`chain`]: the rules that lead from the plugins' judgements to a decision, and what happens when a plugin fails.
//! - [`loading`]: from a directory to a chain: read, compile or take from the cache, start, run the cases.
//! - [`lifecycle`]: reloads, versions, rollback.
//! - [`tool`]: the command `arcyou-gateway plugin …` for authors.
//!
//! A plugin can only return judgements, log, and use what it is granted. If it fails, only the message or the join in
//! question is affected, as its `on_error` says.

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
mod unwritable;

pub use capabilities::{KvError, KvStore, MemoryKv, RedisKv};
pub use chain::breaker::BreakerState;
pub use chain::evaluation::{Decision, Disposition, Rejection, Replacement};
pub use chain::pipeline::{Admission, Candidate, Chain, Edited};
pub use chain::plugin::Clock;
pub use chain::preview::Preview;
pub use chain::provenance::Provenance;
pub use chain::record::{KeptRecord, default_records_dir, kept_records};
pub use chain::status::{PluginStatus, RolledBack};
pub use lifecycle::host::{Options, PluginHost};
pub use lifecycle::refusal::{Change, RefusedReload, WaitingPlugin};
pub use lifecycle::supervise::supervise;
pub use lifecycle::watch::DirectoryWatch;
pub use loading::cache::default_cache_dir;
pub use loading::cases::CaseFailure;
pub use loading::error::LoadError;
