//! The configuration of a worker, read from its environment.

mod variables;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use arcyou_platform::admin::AdminConfig;
use arcyou_platform::backoff::Backoff;
use arcyou_platform::bus::RedisUrl;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::env::{Errors, Reader, Source};
use arcyou_platform::telemetry::{LogFilter, LogFormat};

pub use self::variables::VARIABLES;

/// Everything that a worker process needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`
    pub database_url: DatabaseUrl,
    /// `REDIS_URL`
    pub redis_url: RedisUrl,
    pub worker: WorkerConfig,
    /// `ADMIN_ADDR`, `ADMIN_HOSTS` and `ADMIN_TOKEN`
    pub admin: AdminConfig,
    /// `DATABASE_POOL_SIZE`
    pub pool_size: usize,
    /// `LOG_FORMAT`
    pub log_format: LogFormat,
    /// What is no error, and what whoever set the variables should know.
    pub notes: Vec<String>,
}

/// What [`run`](crate::run) does: the settings of each consumer, and of pruning.
#[derive(Debug, Clone, Default)]
pub struct WorkerConfig {
    pub relay: RelayConfig,
    pub prune: PruneConfig,
}

/// How rows are relayed to the bus.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Which channels events are published on. The setting of the gateways must be the same.
    pub mode: PubSubMode,
    /// How long the relay waits for a hint before it claims without one.
    pub poll_interval: Duration,
    /// The most rows of one claim.
    pub batch_size: i64,
    /// A row is parked after this many failures by its own fault.
    pub max_retries: u32,
    /// Between the tries of a row.
    pub backoff: Backoff,
    /// The largest payload that can be published, in bytes of JSON text.
    pub max_payload_bytes: i64,
}

/// How old rows are deleted.
#[derive(Debug, Clone)]
pub struct PruneConfig {
    /// How long a row is kept after every consumer has finished with it; None keeps rows for ever.
    pub retention: Option<Duration>,
    /// The pause after a pass over the outbox.
    pub interval: Duration,
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
        }
    }
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self {
            // After an outage, gateways catch up from the outbox on events that are not messages.
            retention: Some(Duration::from_secs(72 * 3_600)),
            interval: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Reads every variable. The error names all that are wrong.
    pub fn from_env(source: &dyn Source) -> Result<Self, Errors> {
        let mut env = Reader::new(source);
        let database_url = env.required("DATABASE_URL", "postgres://user:password@host:port/name");
        let redis_url = env.required("REDIS_URL", "redis://user:password@host:port");
        let worker = WorkerConfig { relay: RelayConfig::read(&mut env), prune: PruneConfig::read(&mut env) };
        let admin = AdminConfig::read(&mut env, SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)));
        // The relay, its gauges, pruning and purging use one connection each.
        let pool_size = env.within("DATABASE_POOL_SIZE", 4, 2..=100);
        let log_format = env.or("LOG_FORMAT", LogFormat::Text);
        // Read again where logging is set up; read here too so that an error in it is reported with the others.
        env.optional::<LogFilter>("RUST_LOG");
        env.note_look_alikes(&[VARIABLES]);
        let notes = env.notes();
        env.finish_with(|| {
            Some(Self {
                database_url: database_url?,
                redis_url: redis_url?,
                worker,
                admin,
                pool_size,
                log_format,
                notes,
            })
        })
    }
}

impl RelayConfig {
    /// Reads `PUBSUB_MODE`, `POLL_INTERVAL_MS`, `BATCH_SIZE`, `MAX_RETRIES` and `MAX_PAYLOAD_BYTES`.
    fn read(env: &mut Reader<'_>) -> Self {
        let default = Self::default();
        Self {
            mode: env.or("PUBSUB_MODE", default.mode),
            poll_interval: Duration::from_millis(env.within("POLL_INTERVAL_MS", 1_000, 10..=60_000)),
            batch_size: env.within("BATCH_SIZE", default.batch_size, 1..=10_000),
            max_retries: env.within("MAX_RETRIES", default.max_retries, 1..=100),
            max_payload_bytes: env.within("MAX_PAYLOAD_BYTES", default.max_payload_bytes, 1_024..=64 * 1024 * 1024),
            ..default
        }
    }
}

impl PruneConfig {
    /// Reads `OUTBOX_RETENTION_HOURS`; 0 keeps rows for ever.
    fn read(env: &mut Reader<'_>) -> Self {
        let hours = env.within("OUTBOX_RETENTION_HOURS", 72, 0..=87_600);
        Self { retention: (hours > 0).then(|| Duration::from_secs(hours * 3_600)), ..Self::default() }
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
        assert_eq!(config.worker.relay.mode, PubSubMode::Global);
        assert_eq!(config.worker.relay.poll_interval, Duration::from_secs(1));
        assert_eq!(config.admin.address.to_string(), "127.0.0.1:9091");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let source = HashMap::from([
            ("DATABASE_URL", "mysql://u:hunter2@h/d"),
            ("PUBSUB_MODE", "hunter2"),
            ("BATCH_SIZE", "0"),
            ("ADMIN_ADDR", "9091"),
            ("ADMIN_TOKEN", "hunter2"),
            ("ADMIN_HOSTS", "http://worker"),
            ("RUST_LOG", "arcyou=loud"),
        ]);
        let text = Config::from_env(&source).unwrap_err().to_string();
        for name in [
            "DATABASE_URL",
            "REDIS_URL",
            "PUBSUB_MODE",
            "BATCH_SIZE",
            "ADMIN_ADDR",
            "ADMIN_TOKEN",
            "ADMIN_HOSTS",
            "RUST_LOG",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn no_retention_keeps_everything() {
        let mut source = HashMap::from(URLS);
        source.insert("OUTBOX_RETENTION_HOURS", "0");
        assert_eq!(Config::from_env(&source).unwrap().worker.prune.retention, None);
    }
}
