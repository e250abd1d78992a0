//! The bus over one Redis.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::describe::describe;
use super::options::RedisOptions;
use super::publisher::{ChannelKind, PublishOutcome, Publisher};
use super::server::Server;
use super::subscriber::RedisSubscriber;
use super::url::{RedisUrl, RedisUrlError};
use crate::bus::interface::{Bus, BusUnavailable, Publication, PublishError, Subscriber};
use crate::health::{Health, Part};
use crate::tls;

/// A bus over one Redis, with one connection for publishing and one for each subscriber.
///
/// Its parts in [`Health`] are `redis_publish` and `redis_subscribe`; the latter is up when a subscriber is connected.
/// Both are checked also while nothing is published.
pub struct RedisBus {
    publisher: Arc<Publisher>,
    server: Server,
    options: RedisOptions,
    subscribe_part: Part,
    _keep_connected: AbortOnDropHandle<()>,
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").field("options", &self.options).finish_non_exhaustive()
    }
}

impl RedisBus {
    /// A bus that connects and reconnects by itself. Needs a Tokio runtime.
    pub fn new(url: &RedisUrl, health: &Health) -> Result<Self, RedisUrlError> {
        Self::with_options(url, health, RedisOptions::default())
    }

    /// A bus with other time-outs and sizes.
    pub fn with_options(url: &RedisUrl, health: &Health, options: RedisOptions) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let server = url.server()?;
        let status = Box::new(health.part("redis_publish"));
        let publisher = Arc::new(Publisher::new(server.clone(), options, ChannelKind::Plain, status));
        let keep_connected = tokio::spawn(Arc::clone(&publisher).keep_connected());
        let subscribe_part = health.part("redis_subscribe");
        Ok(Self { publisher, server, options, subscribe_part, _keep_connected: AbortOnDropHandle::new(keep_connected) })
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable> {
        let outcomes = self.publisher.publish(batch).await?;
        let result = |outcome| match outcome {
            PublishOutcome::Published => Ok(Ok(())),
            PublishOutcome::Rejected(rejected) => Ok(Err(rejected.into())),
            PublishOutcome::Moved(answer) => Err(BusUnavailable(describe(&answer.into()))),
        };
        outcomes.into_iter().map(result).collect()
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        Box::new(RedisSubscriber::start(self.server.clone(), self.options, self.subscribe_part.clone()))
    }
}
