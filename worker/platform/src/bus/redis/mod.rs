//! Redis Pub/Sub: over one Redis, or as sharded channels over the nodes of a Redis Cluster.
//!
//! - [`RedisBus`] publishes with `publisher` and subscribes with `subscriber`.
//! - [`ShardedRedisBus`] (`sharded`) does the same with each node of a cluster.
//! - [`RedisClient`] sends other commands.
//! - `connection` is what publishers and [`RedisClient`] use: one connection that is replaced when it dies.
//! - `server` says where it leads: to one Redis, or to the one that `sentinels` name.

mod address;
mod bus;
mod client;
mod connection;
mod describe;
mod options;
mod publisher;
mod sentinels;
mod server;
mod sharded;
mod status;
mod subscriber;
mod url;

pub use self::bus::RedisBus;
pub use self::client::{RedisClient, RedisCommandError};
pub use self::options::RedisOptions;
pub use self::sharded::ShardedRedisBus;
pub use self::url::{RedisUrl, RedisUrlError};
