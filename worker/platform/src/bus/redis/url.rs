//! The address of Redis.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// The address of a Redis. `Debug` shows no secret.
#[derive(Clone)]
pub struct RedisUrl(pub(super) ConnectionInfo);

/// The text is not the address of a Redis.
#[derive(Debug, thiserror::Error)]
#[error("expected redis://[user:password@]host[:port][/db], or rediss:// for TLS ({0})")]
pub struct RedisUrlError(pub(super) String);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let info = text.into_connection_info().map_err(RedisUrlError::of)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                Err(RedisUrlError("certificates are always verified: #insecure is not supported".to_owned()))
            }
            address if address.is_supported() => {
                // Its name is of no use to anybody here, and setting it would need a right of its own.
                let settings = info.redis_settings().clone().set_skip_set_lib_name();
                Ok(Self(info.set_redis_settings(settings)))
            }
            _ => Err(RedisUrlError("this kind of address is not supported".to_owned())),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisUrl").field(&self.0.addr().to_string()).finish()
    }
}

impl RedisUrl {
    /// A client of this Redis, which connects when it is used.
    pub(super) fn client(&self) -> Result<redis::Client, RedisUrlError> {
        redis::Client::open(self.0.clone()).map_err(RedisUrlError::of)
    }
}

impl RedisUrlError {
    fn of(error: redis::RedisError) -> Self {
        // The category names the part that is wrong, and not its content.
        Self(error.category().to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
