//! Sharded Pub/Sub: each node of a Redis Cluster carries the channels whose names hash to its slots. A single Redis is
//! one node with all slots.
//!
//! [`topology`] knows which node has which slot, and finds it out anew when somebody meets trouble. [`publisher`] sends
//! each node its share of a batch. [`subscriber`] keeps a connection to each node ([`node`]) and tells each which
//! channels are its own ([`table`], pure). The client library's own cluster connection is not used: it hides its
//! resubscriptions, and whoever listens has to hear of each.

mod node;
mod publisher;
mod status;
mod subscriber;
mod table;
mod topology;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use self::publisher::ShardedPublisher;
use self::status::Status;
use self::subscriber::ShardedSubscriber;
use self::topology::Topology;
use super::{RedisOptions, RedisUrl, RedisUrlError};
use crate::bus::{Bus, Publication, Subscriber, Unavailable, Unpublished};
use crate::health::{Health, Part};
use crate::tls;

/// A bus of sharded channels, over the nodes of a Redis Cluster or over one Redis (7 or newer): for publishing a
/// connection to each node, and the same for each subscriber.
///
/// A node that is away takes its own channels with it, no others. Slots that move, and nodes that take over, are
/// followed. Its parts in [`Health`] are those of a [`RedisBus`](super::RedisBus); each is up when all nodes are.
pub struct ShardedRedisBus {
    topology: Arc<Topology>,
    publisher: Arc<ShardedPublisher>,
    options: RedisOptions,
    subscribe_part: Part,
    _keeper: AbortOnDropHandle<()>,
}

impl fmt::Debug for ShardedRedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedRedisBus").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ShardedRedisBus {
    /// A bus that finds the nodes by the one at `url`, and connects by itself, now and whenever it has to. Needs a
    /// tokio runtime.
    pub fn new(url: &RedisUrl, health: &Health) -> Result<Self, RedisUrlError> {
        Self::with_options(url, health, RedisOptions::default())
    }

    /// The same with other times and sizes.
    pub fn with_options(url: &RedisUrl, health: &Health, options: RedisOptions) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let topology = Arc::new(Topology::new(url.0.clone(), options)?);
        let status = Status::new(health.part("redis_publish"));
        let publisher = Arc::new(ShardedPublisher::new(Arc::clone(&topology), options, status));
        let keeper = tokio::spawn(Arc::clone(&publisher).keep());
        let subscribe_part = health.part("redis_subscribe");
        Ok(Self { topology, publisher, options, subscribe_part, _keeper: AbortOnDropHandle::new(keeper) })
    }
}

#[async_trait]
impl Bus for ShardedRedisBus {
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), Unpublished>>, Unavailable> {
        self.publisher.publish(batch).await
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        let status = Status::new(self.subscribe_part.clone());
        Box::new(ShardedSubscriber::start(Arc::clone(&self.topology), self.options, status))
    }
}
