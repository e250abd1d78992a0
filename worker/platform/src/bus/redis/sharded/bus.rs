//! The bus of sharded channels.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::node_status::NodesStatus;
use super::publisher::ShardedPublisher;
use super::subscriber::ShardedSubscriber;
use super::topology::Topology;
use crate::bus::interface::{Bus, BusUnavailable, Publication, PublishError, Subscriber};
use crate::bus::redis::options::RedisOptions;
use crate::bus::redis::url::{RedisUrl, RedisUrlError};
use crate::health::{Health, Part};
use crate::tls;

/// A bus of sharded channels, over the nodes of a Redis Cluster or over one Redis (7 or newer), with one connection to
/// each node for publishing, and one to each node for each subscriber.
///
/// A node that is unavailable interrupts only its own channels. The bus follows slots that move and replicas that take
/// over. Its parts in [`Health`] are those of a [`RedisBus`](crate::bus::RedisBus); each is up when all nodes are.
pub struct ShardedRedisBus {
    topology: Arc<Topology>,
    publisher: Arc<ShardedPublisher>,
    options: RedisOptions,
    subscribe_part: Part,
    _keep_connected: AbortOnDropHandle<()>,
}

impl fmt::Debug for ShardedRedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedRedisBus").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ShardedRedisBus {
    /// A bus that asks the node at `url` for the other nodes, and connects and reconnects by itself. Needs a Tokio
    /// runtime.
    pub fn new(url: &RedisUrl, health: &Health) -> Result<Self, RedisUrlError> {
        Self::with_options(url, health, RedisOptions::default())
    }

    /// A bus with other time-outs and sizes.
    pub fn with_options(url: &RedisUrl, health: &Health, options: RedisOptions) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let topology = Arc::new(Topology::new(url.node()?, options)?);
        let status = NodesStatus::new(health.part("redis_publish"));
        let publisher = Arc::new(ShardedPublisher::new(Arc::clone(&topology), options, status));
        let keep_connected = tokio::spawn(Arc::clone(&publisher).keep_connected());
        let subscribe_part = health.part("redis_subscribe");
        Ok(Self {
            topology,
            publisher,
            options,
            subscribe_part,
            _keep_connected: AbortOnDropHandle::new(keep_connected),
        })
    }
}

#[async_trait]
impl Bus for ShardedRedisBus {
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable> {
        self.publisher.publish(batch).await
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        let status = NodesStatus::new(self.subscribe_part.clone());
        Box::new(ShardedSubscriber::start(Arc::clone(&self.topology), self.options, status))
    }
}
