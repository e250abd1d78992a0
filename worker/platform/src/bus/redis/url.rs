//! The address of Redis.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use redis::{ConnectionAddr, ConnectionInfo};

use super::address::read;
use super::sentinels::Sentinels;
use super::server::Server;

pub use super::address::RedisUrlError;

/// The address of a Redis, or of the sentinels that know it. `Debug` shows no secret.
#[derive(Clone)]
pub struct RedisUrl(Target);

#[derive(Clone)]
enum Target {
    Server(Box<ConnectionInfo>),
    Watched(Arc<Sentinels>),
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        if text.contains("+sentinel://") {
            return Ok(Self(Target::Watched(Arc::new(text.parse()?))));
        }
        let info = read(text)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                Err(RedisUrlError("certificates are always verified: #insecure is not supported".to_owned()))
            }
            address if address.is_supported() => Ok(Self(Target::Server(Box::new(info)))),
            _ => Err(RedisUrlError("this kind of address is not supported".to_owned())),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Server(info) => f.debug_tuple("RedisUrl").field(&info.addr().to_string()).finish(),
            Target::Watched(sentinels) => f.debug_tuple("RedisUrl").field(sentinels).finish(),
        }
    }
}

impl RedisUrl {
    /// Where connections to this Redis lead.
    pub(super) fn server(&self) -> Result<Server, RedisUrlError> {
        Ok(match &self.0 {
            Target::Server(_) => Server::Fixed(Box::new(redis::Client::open(self.node()?).map_err(RedisUrlError::of)?)),
            Target::Watched(sentinels) => Server::Watched(Arc::clone(sentinels)),
        })
    }

    /// How to connect to the one Redis, or cluster node, that the URL names.
    pub(super) fn node(&self) -> Result<ConnectionInfo, RedisUrlError> {
        match &self.0 {
            Target::Server(info) => Ok(ConnectionInfo::clone(info)),
            Target::Watched(_) => {
                let reason = "sentinels watch one Redis; for PUBSUB_MODE=sharded name a node of the cluster";
                Err(RedisUrlError(reason.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_plain_words() {
        for (bad, told) in [
            ("redis://h/abc", "a database's number, as in /2"),
            ("http://h", "begin with redis://"),
            ("h:6379", "begin with redis://"),
            ("redis://", "host"),
        ] {
            let text = bad.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(text.contains(told), "{bad}: {text}");
        }
    }

    #[test]
    fn addresses_are_read_and_no_secret_is_shown() {
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
