//! Sharded Pub/Sub: each node of a Redis Cluster carries the channels whose names hash to its slots. A single Redis is
//! treated as one node with all slots.
//!
//! - [`slot_map`]: which node has which slot, as one node reported it (pure).
//! - [`topology`]: the current slot map; asks the nodes again when someone finds it wrong.
//! - [`publisher`]: sends each node its share of a batch.
//! - [`subscriber`]: keeps a connection to each node ([`node_connection`]) and tells each which channels to subscribe,
//!   according to [`channel_table`] (pure). [`subscriber_state`] is what these connections share.
//! - [`node_status`]: one health part for all nodes.
//!
//! The client library's own cluster connection is not used: it hides its resubscriptions, and an owner must learn of
//! each.

mod bus;
mod channel_table;
mod node_connection;
mod node_status;
mod publisher;
mod slot_map;
mod subscriber;
mod subscriber_state;
mod topology;

pub use self::bus::ShardedRedisBus;
