//! Where a connection leads: always to the same Redis, or to the one that sentinels name at that moment.

use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, Value};

use super::sentinels::{Address, Sentinels};

/// The Redis to talk to.
#[derive(Clone)]
pub(super) enum Server {
    /// This one.
    Fixed(Box<Client>),
    /// The one that leads. Sentinels are asked anew at each connect.
    Watched(Arc<Sentinels>),
}

/// The Redis that a connection was opened to.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    /// As the sentinels named it; none: there is no other.
    address: Option<Address>,
}

impl Server {
    /// The server as it is now. Asking for it takes at most `limit`.
    pub(super) async fn place(&self, limit: Duration) -> RedisResult<Place> {
        match self {
            Self::Fixed(client) => Ok(Place { client: Client::clone(client), address: None }),
            Self::Watched(sentinels) => {
                let asking = async {
                    let address = sentinels.leader(limit).await?;
                    let client = Client::open(sentinels.connection_info(&address))?;
                    confirm(&client, limit).await?;
                    Ok(Place { client, address: Some(address) })
                };
                let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
                tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| late())
            }
        }
    }

    /// Why a connection to `place` must be given up although it works: another Redis leads by now. What is published to
    /// one that no longer leads reaches nobody, and is no error. If no sentinel answers, nothing is known.
    pub(super) async fn left(&self, place: &Place, limit: Duration) -> Option<String> {
        let (Self::Watched(sentinels), Some(address)) = (self, &place.address) else { return None };
        let leader = sentinels.leader(limit).await.ok()?;
        (leader != *address).then(|| format!("the sentinels name another Redis by now, {leader}"))
    }
}

/// Fails unless this Redis itself says that it leads: sentinels hear of a change a moment later.
async fn confirm(client: &Client, limit: Duration) -> RedisResult<()> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(RedisError::from(std::io::Error::other("the Redis that the sentinels name follows another one"))),
    }
}
