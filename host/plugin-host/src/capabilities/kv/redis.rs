//! Values in Redis, which all gateways share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcyou_platform::bus::{RedisClient, RedisCommandError, RedisUrl, RedisUrlError};
use async_trait::async_trait;
use redis::{FromRedisValue, Pipeline, RedisError, Value};

use super::store::{KvError, KvStore};

/// How long a reply of Redis may take. A plugin waits for it, and a sender waits for the plugin.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a probe's key may be left behind.
const PROBE_TTL: Duration = Duration::from_secs(5);

/// What the log says that the connection is for.
const USED_FOR: &str = "plugins' values";

/// Values in a single Redis, where other installations may keep theirs. A Redis Cluster does not work, since it spreads
/// keys over nodes.
pub struct RedisKv {
    client: RedisClient,
    /// Which installation's they are. Nothing is read or written before it is known.
    installation: Arc<OnceLock<String>>,
}

impl RedisKv {
    /// Connects on first use, and reconnects when necessary.
    pub fn new(url: &RedisUrl, installation: Arc<OnceLock<String>>) -> Result<Self, RedisUrlError> {
        Ok(Self { client: RedisClient::new(url, USED_FOR, REPLY_TIMEOUT)?, installation })
    }

    fn key(&self, key: &str) -> Result<String, KvError> {
        match self.installation.get() {
            Some(installation) => Ok(format!("arcyou:kv:{installation}:{key}")),
            None => Err(KvError::Unavailable("the database has not yet told whose values these are".to_owned())),
        }
    }

    /// Does all that plugins may do, with a key that is none of theirs. A Redis that only answers is not enough.
    pub async fn probe(&self) -> Result<(), KvError> {
        let key = format!(":{}", uuid::Uuid::new_v4());
        self.increment(&key, 1, PROBE_TTL).await?;
        self.set(&key, b"1", PROBE_TTL).await?;
        self.get(&key).await?;
        self.delete(&key).await?;
        Ok(())
    }

    async fn query<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, KvError> {
        self.client.query(pipeline).await.map_err(|error| match error {
            RedisCommandError::Rejected(error) if is_number_error(&error) => KvError::NotANumber,
            other => KvError::Unavailable(other.to_string()),
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
        let (found,) = self.query(redis::pipe().cmd("GET").arg(self.key(key)?)).await?;
        Ok(found)
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), KvError> {
        self.query(redis::pipe().cmd("SET").arg(self.key(key)?).arg(value).arg("PX").arg(ms(ttl)).ignore()).await
    }

    async fn delete(&self, key: &str) -> Result<bool, KvError> {
        let (found,): (u64,) = self.query(redis::pipe().cmd("DEL").arg(self.key(key)?)).await?;
        Ok(found > 0)
    }

    // In one transaction, the first command creates the key with its time to live if it does not exist; the second one
    // does not change the time to live. The client library's own transactions cannot be used: it fails to count where
    // MULTI itself is refused.
    async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, KvError> {
        let key = self.key(key)?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("MULTI").ignore();
        pipeline.cmd("SET").arg(&key).arg(0).arg("PX").arg(ms(ttl)).arg("NX").ignore();
        pipeline.cmd("INCRBY").arg(&key).arg(by).ignore();
        let ((_, sum),): ((Value, i64),) = self.query(pipeline.cmd("EXEC")).await?;
        Ok(sum)
    }
}
