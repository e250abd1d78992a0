//! The way from workers to gateways: publish and subscribe, over Redis or inside one process. A bus stores nothing.
//!
//! What every bus promises, and what not:
//!
//! - *Order.* A subscriber receives a channel's messages in the order of one [`Bus::publish`] call, and of calls that
//!   follow each other.
//! - *At most once.* Whoever is not subscribed, or has lost the connection, misses messages. A [`Subscriber`] reports
//!   that: first [`Signal::Lost`] or [`Signal::Interrupted`], then [`Signal::Subscribed`] when it receives again. What
//!   was published in between must be read from the database.
//! - *Bounded memory.* A subscriber that does not call [`Subscriber::next`] loses messages, reported in the same way.
//!
//! `interface` has the traits; [`LocalBus`], [`RedisBus`] and [`ShardedRedisBus`] implement them; [`open()`] chooses
//! one.

mod inbox;
mod interface;
mod local;
mod open;
mod redis;

pub use self::interface::{Bus, BusUnavailable, MessageRejected, Publication, PublishError, Signal, Subscriber};
pub use self::local::LocalBus;
pub use self::open::open;
pub use self::redis::{
    RedisBus, RedisClient, RedisCommandError, RedisOptions, RedisUrl, RedisUrlError, ShardedRedisBus,
};
