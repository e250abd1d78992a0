//! The worker's configuration, from its environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use arcyou_platform::backoff::Backoff;
use arcyou_platform::bus::RedisUrl;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::env::{Errors, Reader, Source};
use arcyou_platform::telemetry::LogFormat;

/// Everything that a worker process needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`
    pub database_url: DatabaseUrl,
    /// `REDIS_URL`
    pub redis_url: RedisUrl,
    pub relay: RelayConfig,
    /// `ADMIN_ADDR`
    pub admin_addr: SocketAddr,
    /// `DATABASE_POOL_SIZE`
    pub pool_size: usize,
    /// `LOG_FORMAT`
    pub log_format: LogFormat,
}

/// How to relay.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Which channels events travel on; the gateways' setting must be the same.
    pub mode: PubSubMode,
    /// How often to look without having been woken.
    pub poll_interval: Duration,
    /// Rows claimed at once.
    pub batch_size: i64,
    /// A row that failed so often by its own fault is parked.
    pub max_retries: u32,
    /// Between a row's tries.
    pub backoff: Backoff,
    /// A row with a larger payload cannot be published.
    pub max_payload_bytes: i64,
    /// How long processed rows are kept; None keeps them for ever.
    pub retention: Option<Duration>,
    /// How often rows are pruned.
    pub prune_interval: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            mode: PubSubMode::Global,
            // The longest that an event waits when no hint arrives.
            poll_interval: Duration::from_secs(1),
            // A commit costs about as much as relaying a hundred rows; a batch takes some ten milliseconds.
            batch_size: 500,
            max_retries: 5,
            backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) },
            // Gateways write 32 KiB at most; other services may write more.
            max_payload_bytes: 1024 * 1024,
            // Gateways catch up on other events than messages from here after an outage.
            retention: Some(Duration::from_secs(72 * 3_600)),
            prune_interval: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Reads every variable; the error names all that are wrong.
    pub fn from_env(source: &dyn Source) -> Result<Self, Errors> {
        let mut env = Reader::new(source);
        let database_url = env.required("DATABASE_URL", "postgres://user:password@host:port/name");
        let redis_url = env.required("REDIS_URL", "redis://user:password@host:port");
        let relay = RelayConfig::read(&mut env);
        let admin_addr = env.or("ADMIN_ADDR", SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)));
        let pool_size = pool_size(&mut env);
        let log_format = env.or("LOG_FORMAT", LogFormat::Text);
        // Read again where logging is set up; here so that a mistake is told together with the others.
        env.optional::<tracing_subscriber::EnvFilter>("RUST_LOG");
        env.finish_with(|| {
            Some(Self { database_url: database_url?, redis_url: redis_url?, relay, admin_addr, pool_size, log_format })
        })
    }
}

/// The relay's own task, gauges and pruning use a connection each, now and then.
fn pool_size(env: &mut Reader<'_>) -> usize {
    env.within("DATABASE_POOL_SIZE", 4, 2..=100)
}

impl RelayConfig {
    /// Reads `PUBSUB_MODE`, `POLL_INTERVAL_MS`, `BATCH_SIZE`, `MAX_RETRIES`, `MAX_PAYLOAD_BYTES` and
    /// `OUTBOX_RETENTION_HOURS`.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let hours = env.within("OUTBOX_RETENTION_HOURS", 72, 0..=87_600);
        Self {
            mode: env.or("PUBSUB_MODE", default.mode),
            poll_interval: Duration::from_millis(env.within("POLL_INTERVAL_MS", 1_000, 10..=60_000)),
            batch_size: env.within("BATCH_SIZE", default.batch_size, 1..=10_000),
            max_retries: env.within("MAX_RETRIES", default.max_retries, 1..=100),
            max_payload_bytes: env.within("MAX_PAYLOAD_BYTES", default.max_payload_bytes, 1_024..=64 * 1024 * 1024),
            retention: (hours > 0).then(|| Duration::from_secs(hours * 3_600)),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    const URLS: [(&str, &str); 2] = [("DATABASE_URL", "postgres://u:hunter2@h/d"), ("REDIS_URL", "redis://:hunter2@h")];

    #[test]
    fn two_addresses_are_enough() {
        let config = Config::from_env(&HashMap::from(URLS)).unwrap();
        assert_eq!(config.relay.mode, PubSubMode::Global);
        assert_eq!(config.relay.poll_interval, Duration::from_secs(1));
        assert_eq!(config.admin_addr.to_string(), "127.0.0.1:9091");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let source = HashMap::from([
            ("DATABASE_URL", "mysql://u:hunter2@h/d"),
            ("PUBSUB_MODE", "hunter2"),
            ("BATCH_SIZE", "0"),
            ("ADMIN_ADDR", "9091"),
            ("RUST_LOG", "arcyou=loud"),
        ]);
        let text = Config::from_env(&source).unwrap_err().to_string();
        for name in ["DATABASE_URL", "REDIS_URL", "PUBSUB_MODE", "BATCH_SIZE", "ADMIN_ADDR", "RUST_LOG"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn no_retention_keeps_everything() {
        let mut source = HashMap::from(URLS);
        source.insert("OUTBOX_RETENTION_HOURS", "0");
        assert_eq!(Config::from_env(&source).unwrap().relay.retention, None);
    }
}
