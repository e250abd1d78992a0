//! How the address of one server is read, a Redis or a sentinel, and what is said of one that cannot be.

use redis::{ConnectionInfo, IntoConnectionInfo};

/// The text is not the address of a Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected redis://[user:password@]host[:port][/db], or rediss:// for TLS, or \
     redis+sentinel://[user:password@]host[:port],…/name[/db] ({0})"
)]
pub struct RedisUrlError(pub(super) String);

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

/// The address of one server. The library is not to tell it its name: that is of no use to anybody here, and would need
/// a right of its own.
pub(super) fn read(text: &str) -> Result<ConnectionInfo, RedisUrlError> {
    let info = text.into_connection_info().map_err(RedisUrlError::of)?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings))
}
