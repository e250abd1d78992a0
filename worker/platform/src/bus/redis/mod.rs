//! Redis Pub/Sub: over one Redis, or as sharded channels over the nodes of a Redis Cluster.

mod link;
mod publisher;
mod sharded;
mod subscriber;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use tokio_util::task::AbortOnDropHandle;

pub use self::link::{RedisAnswer, RedisLink};
use self::publisher::{Flavour, Publisher, Sent};
pub use self::sharded::ShardedRedisBus;
use self::subscriber::RedisSubscriber;
use super::{Bus, Publication, Subscriber, Unavailable, Unpublished};
use crate::backoff::Backoff;
use crate::health::{Health, Part};
use crate::tls;

/// Where Redis is, with its secrets; shows none of them.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

/// The text is no address of a Redis.
#[derive(Debug, thiserror::Error)]
#[error("expected redis://[user:password@]host[:port][/db], or rediss:// for TLS ({0})")]
pub struct RedisUrlError(String);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        // The client's own messages name the part that is wrong, not what it holds.
        let info = text.into_connection_info().map_err(|error| RedisUrlError(error.category().to_owned()))?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                Err(RedisUrlError("certificates are always verified: #insecure is not supported".to_owned()))
            }
            address if address.is_supported() => Ok(Self(info)),
            _ => Err(RedisUrlError("this kind of address is not supported".to_owned())),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisUrl").field(&self.0.addr().to_string()).finish()
    }
}

/// Times and sizes of a [`RedisBus`].
#[derive(Debug, Clone, Copy)]
pub struct RedisOptions {
    /// The longest that connecting may take, the login included.
    pub connect_timeout: Duration,
    /// The longest that Redis may take to answer.
    pub response_timeout: Duration,
    /// How often a connection is tried that may have nothing to say.
    pub ping_interval: Duration,
    /// Between tries to connect.
    pub backoff: Backoff,
    /// How many bytes a subscriber may leave unread.
    pub unread: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            backoff: Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) },
            unread: 16 * 1024 * 1024,
        }
    }
}

/// A bus over one Redis: a connection for publishing, and one for each subscriber.
///
/// Its parts in [`Health`] are `redis_publish` and `redis_subscribe`; the latter is up when a subscriber is connected.
/// Both are known to be up or down without anyone's traffic.
pub struct RedisBus {
    publisher: Arc<Publisher>,
    client: redis::Client,
    options: RedisOptions,
    subscribe_part: Part,
    _keeper: AbortOnDropHandle<()>,
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").field("options", &self.options).finish_non_exhaustive()
    }
}

impl RedisBus {
    /// A bus that connects by itself, now and whenever it has to. Needs a tokio runtime.
    pub fn new(url: &RedisUrl, health: &Health) -> Result<Self, RedisUrlError> {
        Self::with_options(url, health, RedisOptions::default())
    }

    /// The same with other times and sizes.
    pub fn with_options(url: &RedisUrl, health: &Health, options: RedisOptions) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let client = redis::Client::open(url.0.clone()).map_err(|error| RedisUrlError(error.category().to_owned()))?;
        let publisher =
            Arc::new(Publisher::new(client.clone(), options, Flavour::Plain, Box::new(health.part("redis_publish"))));
        let keeper = tokio::spawn(Arc::clone(&publisher).keep());
        let subscribe_part = health.part("redis_subscribe");
        Ok(Self { publisher, client, options, subscribe_part, _keeper: AbortOnDropHandle::new(keeper) })
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), Unpublished>>, Unavailable> {
        let sent = self.publisher.publish(batch).await?;
        let outcome = |sent| match sent {
            Sent::Published => Ok(Ok(())),
            Sent::Refused(refused) => Ok(Err(refused.into())),
            Sent::Moved(answer) => Err(Unavailable(describe(&answer.into()))),
        };
        sent.into_iter().map(outcome).collect()
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        Box::new(RedisSubscriber::start(self.client.clone(), self.options, self.subscribe_part.clone()))
    }
}

/// What Redis said or failed to say, in a line without secrets.
fn describe(error: &redis::RedisError) -> String {
    if error.is_timeout() {
        return "Redis did not answer in time".to_owned();
    }
    match error.code() {
        Some(code) => format!("Redis answered {code} {}", error.detail().unwrap_or_default()).trim_end().to_owned(),
        None => format!("Redis: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_and_secrets_not_shown() {
        let url: RedisUrl = "rediss://default:hunter2@cache.example:6380/2".parse().unwrap();
        let text = format!("{url:?}");
        assert!(text.contains("cache.example:6380") && !text.contains("hunter2"), "{text}");
        for bad in
            ["hunter2", "http://default:hunter2@x", "redis://:hunter2@host:port", "rediss://:hunter2@h/#insecure"]
        {
            let text = bad.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
