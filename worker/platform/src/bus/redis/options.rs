//! Time-outs and sizes.

use std::time::Duration;

use crate::backoff::Backoff;

/// Time-outs and sizes of a bus over Redis.
#[derive(Debug, Clone, Copy)]
pub struct RedisOptions {
    /// The longest that connecting may take, including the login.
    pub connect_timeout: Duration,
    /// The longest that Redis may take to answer.
    pub response_timeout: Duration,
    /// How often an idle connection is checked with a `PING`.
    pub ping_interval: Duration,
    /// Between attempts to connect.
    pub backoff: Backoff,
    /// How many bytes a subscriber may leave unread before it loses messages.
    pub max_unread_bytes: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            backoff: Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) },
            max_unread_bytes: 16 * 1024 * 1024,
        }
    }
}
