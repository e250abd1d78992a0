//! The address of Redis.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::sentinels::Sentinels;
use super::server::Server;

/// The address of a Redis, or of the sentinels that know it. `Debug` shows no secret.
#[derive(Clone)]
pub struct RedisUrl(Target);

#[derive(Clone)]
enum Target {
    Server(ConnectionInfo),
    Watched(Arc<Sentinels>),
}

/// The text is not the address of a Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected redis://[user:password@]host[:port][/db], or rediss:// for TLS, or \
     redis+sentinel://[user:password@]host[:port],…/name[/db] ({0})"
)]
pub struct RedisUrlError(pub(super) String);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        if text.contains("+sentinel://") {
            return Ok(Self(Target::Watched(Arc::new(text.parse()?))));
        }
        let info = text.into_connection_info().map_err(RedisUrlError::of)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                Err(RedisUrlError("certificates are always verified: #insecure is not supported".to_owned()))
            }
            address if address.is_supported() => Ok(Self(Target::Server(without_name(info)))),
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
            Target::Server(info) => Server::Fixed(redis::Client::open(info.clone()).map_err(RedisUrlError::of)?),
            Target::Watched(sentinels) => Server::Watched(Arc::clone(sentinels)),
        })
    }

    /// How to connect to the one Redis, or cluster node, that the URL names.
    pub(super) fn node(&self) -> Result<ConnectionInfo, RedisUrlError> {
        match &self.0 {
            Target::Server(info) => Ok(info.clone()),
            Target::Watched(_) => {
                let reason = "sentinels watch one Redis; for PUBSUB_MODE=sharded name a node of the cluster";
                Err(RedisUrlError(reason.to_owned()))
            }
        }
    }
}

/// The library's name is of no use to anybody here, and setting it would need a right of its own.
pub(super) fn without_name(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    info.set_redis_settings(settings)
}

impl RedisUrlError {
    pub(super) fn of(error: redis::RedisError) -> Self {
        // The first words of the text name the part that is wrong, and not its content.
        let text = error.to_string();
        Self(match text.split(" - ").next().unwrap_or_default() {
            "Redis URL did not parse" => {
                "it must begin with redis:// or rediss:// and name a host; special characters must be percent-encoded"
                    .to_owned()
            }
            "Invalid database number" => "after the host stands a database's number, as in /2, or nothing".to_owned(),
            "Missing hostname" => "the host is missing".to_owned(),
            other => other.to_owned(),
        })
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
