//! `kv`: values that a plugin keeps for longer than an instance lives.
//!
//! An instance has an [`access`], which counts and bounds its calls; the values are in a [`store`]: in this process
//! ([`memory`]) or in Redis ([`redis`]).

mod access;
mod memory;
mod redis;
mod store;

pub(crate) use self::access::KvLimits;
pub(super) use self::access::{KvAccess, KvResource};
pub use self::memory::MemoryKv;
pub use self::redis::RedisKv;
pub use self::store::{KvError, KvStore};
