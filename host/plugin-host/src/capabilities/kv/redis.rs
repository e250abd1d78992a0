//! Values in Redis, which all gateways share.

use std::time::Duration;

use arcyou_platform::bus::{RedisClient, RedisCommandError, RedisUrl, RedisUrlError};
use async_trait::async_trait;
use redis::{FromRedisValue, Pipeline, RedisError};

use super::store::{KvError, KvStore};

/// How long a reply of Redis may take. A plugin waits for it, and a sender waits for the plugin.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// Values in a single Redis. A Redis Cluster does not work, since it spreads keys over nodes.
pub struct RedisKv(RedisClient);

impl RedisKv {
    /// Connects on first use, and reconnects when necessary.
    pub fn new(url: &RedisUrl) -> Result<Self, RedisUrlError> {
        RedisClient::new(url, "plugins' values", REPLY_TIMEOUT).map(Self)
    }

    async fn query<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, KvError> {
        self.0.query(pipeline).await.map_err(|error| match error {
            RedisCommandError::Rejected(error) if is_number_error(&error) => KvError::NotANumber,
            RedisCommandError::Rejected(error) => KvError::Unavailable(error.to_string()),
            RedisCommandError::Unavailable(reason) => KvError::Unavailable(reason),
        })
    }
}

/// Redis has no error code for this case, so the error's text must tell.
fn is_number_error(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    let texts = errors.iter().flat_map(|errors| errors.iter()).filter_map(|(_, error)| error.details());
    texts.into_iter().any(|text| text.contains("not an integer") || text.contains("would overflow"))
}

fn ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl KvStore for RedisKv {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        let (found,) = self.query(redis::pipe().cmd("GET").arg(key)).await?;
        Ok(found)
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), KvError> {
        self.query(redis::pipe().cmd("SET").arg(key).arg(value).arg("PX").arg(ms(ttl)).ignore()).await
    }

    async fn delete(&self, key: &str) -> Result<bool, KvError> {
        let (found,): (u64,) = self.query(redis::pipe().cmd("DEL").arg(key)).await?;
        Ok(found > 0)
    }

    // The first command creates the key with its time to live if it does not exist. The second one does not change the
    // time to live.
    async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, KvError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("SET").arg(key).arg(0).arg("PX").arg(ms(ttl)).arg("NX").ignore();
        let (sum,) = self.query(pipeline.cmd("INCRBY").arg(key).arg(by)).await?;
        Ok(sum)
    }
}
