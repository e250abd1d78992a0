//! Environment → [`Config`], every error at once.

mod identity;
mod issuers;
mod variables;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use arcyou_platform::admin::AdminConfig;
use arcyou_platform::bus::RedisUrl;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::env::{Errors, Reader, Source};
use arcyou_platform::telemetry::{LogFilter, LogFormat};
use arcyou_plugin_host::default_records_dir;
use arcyou_protocol::FrameLimits;
use arcyou_protocol::body::BodyLimits;

use crate::api::ApiConfig;
use crate::audit::AuditConfig;
use crate::auth::Authenticator;
use crate::bounds::connections::ConnectionLimits;
use crate::bounds::trusted_proxies::TrustedProxies;
use crate::bounds::users::{Rate, UserLimits};
use crate::fanout::FanoutConfig;
use crate::origins::Origins;
use crate::session::shared::{SessionLimits, max_join_list};
use crate::store::ChangeRules;

pub use self::variables::VARIABLES;

/// What this program reads, and what the worker reads, which may be set for both.
const KNOWN: &[&[arcyou_platform::env::Variable]] = &[VARIABLES, arcyou_outbox_worker::VARIABLES];

/// Which command reads the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A deployment: databases and keys must be named.
    Serve,
    /// One process for development: what is not named is provided.
    Dev,
}

/// Everything that the environment says.
#[derive(Debug)]
pub struct Config {
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// `MIGRATE_DATABASE_URL`, or `DATABASE_URL`.
    pub migrate_database: DatabaseUrl,
    /// `DATABASE_POOL_SIZE`.
    pub pool_size: usize,
    /// `REDIS_URL`; without one (in `dev` only) events stay inside the process.
    pub redis_url: Option<RedisUrl>,
    /// `PLUGIN_KV_URL`: where plugins keep values, if not in that Redis.
    pub plugin_kv_url: Option<RedisUrl>,
    /// `PUBSUB_MODE`; the rest is not configured by the environment.
    pub fanout: FanoutConfig,
    /// `BIND_ADDR`; none: all interfaces.
    pub bind: Option<IpAddr>,
    /// `PORT`.
    pub port: u16,
    /// `ADMIN_ADDR`, `ADMIN_HOSTS` and `ADMIN_TOKEN`.
    pub admin: AdminConfig,
    /// Whose tokens are believed: all that `identity` reads.
    pub authenticator: Authenticator,
    /// `PLUGINS_DIR`, or `./plugins` where that has plugins.
    pub plugins_dir: Option<PathBuf>,
    /// `PLUGIN_RECORDS_DIR`; none: what plugins fail on is not kept.
    pub records_dir: Option<PathBuf>,
    /// `PLUGIN_AUDIT` and `AUDIT_RETENTION_DAYS`.
    pub audit: AuditConfig,
    /// `DELETE_ROLES` and `EDIT_WINDOW_SECONDS`.
    pub change_rules: ChangeRules,
    /// `RELAY_LAG_TARGET_MS`; none: sends are accepted however late they are delivered.
    pub relay_lag: Option<Duration>,
    /// `API_ADDR`, `API_ALLOWED_ORIGINS` and `MAX_EXPORTS`.
    pub api: ApiConfig,
    /// What one socket may do and cost.
    pub limits: SessionLimits,
    /// What one user may do and cost over all sockets.
    pub users: UserLimits,
    /// What gateway and client address may have open, and `ALLOWED_ORIGINS`.
    pub accept: AcceptLimits,
    /// `DRAIN_DELAY_SECONDS`: how long new sockets are accepted after the signal to stop.
    pub drain_delay: Duration,
    /// `DRAIN_SECONDS`.
    pub drain: Duration,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// What is no error, and what whoever set the variables should know.
    pub notes: Vec<String>,
}

/// Which connections become sockets.
#[derive(Debug, Clone)]
pub struct AcceptLimits {
    /// How many, of the gateway and of one client address.
    pub connections: ConnectionLimits,
    /// Pages that browsers may connect from.
    pub origins: Origins,
}

impl Config {
    /// Reads `source`; every error is reported, none shows a secret.
    pub fn from_source(source: &dyn Source, mode: Mode) -> Result<Self, Errors> {
        let mut reader = Reader::new(source);
        let database: Option<DatabaseUrl> = reader.required("DATABASE_URL", "where PostgreSQL or PgBouncer is");
        let migrate_database = reader.optional("MIGRATE_DATABASE_URL").or_else(|| database.clone());
        let pool_size = reader.within("DATABASE_POOL_SIZE", 10, 2..=1000);
        let redis_url = match mode {
            Mode::Serve => reader.required("REDIS_URL", "where Redis is"),
            Mode::Dev => reader.optional("REDIS_URL"),
        };
        let plugin_kv_url = reader.optional("PLUGIN_KV_URL");
        let fanout = FanoutConfig::new(reader.or("PUBSUB_MODE", PubSubMode::Global));
        let bind =
            reader.expecting("BIND_ADDR", "an IP address, such as 127.0.0.1 (0.0.0.0: every one of this machine)");
        let port = reader.within("PORT", 8080, 1..=65_535);
        let admin = AdminConfig::read(&mut reader, SocketAddr::from(([127, 0, 0, 1], 9090)));
        let is_dev = mode == Mode::Dev;
        let may_believe = reader.or("ALLOW_INSECURE_AUTH", Flag(false)).0 || is_dev;
        let authenticator = identity::authenticator(&mut reader, may_believe, is_dev, bind, admin.address);
        let plugins_dir = plugins_dir(&mut reader);
        let records_dir = records_dir(&mut reader);
        let audit = audit(&mut reader);
        let frames = frame_rate(&mut reader);
        let (limits, users, accept) = (limits(&mut reader, frames), users(&mut reader, frames), accept(&mut reader));
        let change_rules = change_rules(&mut reader);
        let relay_lag = match reader.within("RELAY_LAG_TARGET_MS", 200, 0..=60_000) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        let api = ApiConfig {
            address: reader.expecting("API_ADDR", "an address and a port, such as 127.0.0.1:8081"),
            origins: reader.optional("API_ALLOWED_ORIGINS"),
            // Each reads all messages of the database.
            max_exports: reader.within("MAX_EXPORTS", 2, 1..=100),
        };
        // As long as balancers take to notice: haproxy asks every two seconds, Kubernetes every few, and both twice or
        // more.
        let drain_delay = Duration::from_secs(reader.within("DRAIN_DELAY_SECONDS", 5, 0..=600));
        let drain = Duration::from_secs(reader.within("DRAIN_SECONDS", 20, 0..=3600));
        let log_format = log_format(&mut reader);
        reader.note_look_alikes(KNOWN);
        let notes = reader.notes();
        reader.finish_with(|| {
            Some(Self {
                database: database?,
                migrate_database: migrate_database?,
                pool_size,
                redis_url,
                plugin_kv_url,
                fanout,
                bind,
                port,
                admin,
                authenticator: authenticator?,
                plugins_dir,
                records_dir,
                audit,
                change_rules,
                relay_lag,
                api,
                limits,
                users,
                accept,
                drain_delay,
                drain,
                log_format,
                notes,
            })
        })
    }
}

/// `LOG_FORMAT`. `RUST_LOG` is read again where logging is set up; an error in it is reported with the others.
fn log_format(reader: &mut Reader<'_>) -> LogFormat {
    reader.optional::<LogFilter>("RUST_LOG");
    reader.or("LOG_FORMAT", LogFormat::Text)
}

/// Where `held` works, and how it logs. It needs nothing else.
pub fn review(source: &dyn Source) -> Result<(DatabaseUrl, LogFormat), Errors> {
    let mut reader = Reader::new(source);
    let database = reader.required("DATABASE_URL", "where PostgreSQL or PgBouncer is");
    let log_format = log_format(&mut reader);
    reader.note_look_alikes(KNOWN);
    reader.finish_with(|| Some((database?, log_format)))
}

/// Where `migrate` works: `MIGRATE_DATABASE_URL`, or `DATABASE_URL`. It needs nothing else.
pub fn migration_database(source: &dyn Source) -> Result<DatabaseUrl, Errors> {
    let mut reader = Reader::new(source);
    let database = match reader.optional("MIGRATE_DATABASE_URL") {
        None => reader.required("DATABASE_URL", "where PostgreSQL or PgBouncer is"),
        some => some,
    };
    reader.note_look_alikes(KNOWN);
    reader.finish_with(|| database)
}

/// A folder that was named must be there; the default one may be absent, or hold sources as in this project's
/// repository.
fn plugins_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    match reader.optional::<PathBuf>("PLUGINS_DIR") {
        Some(dir) if dir.is_dir() => {
            if !holds_plugins(&dir) {
                reader.note("PLUGINS_DIR holds no .wasm files: until some are there, every message stands as it comes");
            }
            Some(dir)
        }
        Some(dir) => {
            reader.reject("PLUGINS_DIR", format_args!("names no directory: {}", dir.display()));
            None
        }
        None => Some(PathBuf::from("plugins")).filter(|dir| holds_plugins(dir)),
    }
}

/// What plugins fail on is kept in a directory, or not at all.
fn records_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    match reader.optional::<String>("PLUGIN_RECORDS_DIR").as_deref() {
        None => default_records_dir(),
        Some("off") => None,
        Some(other) => {
            // They would become directories of these names.
            if ["off", "on", "none", "no", "false", "0"].iter().any(|word| other.eq_ignore_ascii_case(word)) {
                reader.reject("PLUGIN_RECORDS_DIR", "must be a directory, or off to keep no records");
            }
            Some(PathBuf::from(other))
        }
    }
}

/// A directory that is there and cannot be read may hold some: loading it says what is wrong.
fn holds_plugins(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wasm"))
        }
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn audit(reader: &mut Reader<'_>) -> AuditConfig {
    let days: u64 = reader.within("AUDIT_RETENTION_DAYS", 30, 0..=36_500);
    let enabled = reader.or("PLUGIN_AUDIT", Switch::On) == Switch::On;
    AuditConfig { enabled, keep: (days > 0).then(|| Duration::from_secs(days * 24 * 3600)) }
}

fn change_rules(reader: &mut Reader<'_>) -> ChangeRules {
    let RoleList(delete_roles) = reader.or("DELETE_ROLES", RoleList(ChangeRules::default().delete_roles));
    let seconds: u64 = reader.within("EDIT_WINDOW_SECONDS", 0, 0..=3_153_600_000);
    ChangeRules { delete_roles, edit_within: (seconds > 0).then(|| Duration::from_secs(seconds)) }
}

/// Roles, with commas between; `none`: no role.
struct RoleList(Vec<String>);

impl FromStr for RoleList {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let roles: Vec<String> = text.split(',').map(|role| role.trim().to_owned()).collect();
        let is_none = |role: &String| role == "none" || role.is_empty();
        if roles.iter().any(|role| is_none(role) || role.contains(|c: char| c.is_whitespace() || ";*".contains(c))) {
            return Err("it is a list of roles as in participants.role, with commas between, or none alone");
        }
        Ok(Self(roles))
    }
}

/// `on` or `off`.
#[derive(PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("it is on or off"),
        }
    }
}

/// `1` or `0`.
struct Flag(bool);

impl FromStr for Flag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" => Ok(Self(true)),
            "0" => Ok(Self(false)),
            _ => Err("it is 1 or 0"),
        }
    }
}

fn frame_rate(reader: &mut Reader<'_>) -> Option<Rate> {
    let per_second = NonZeroU32::new(reader.within("RATE_LIMIT_PER_SECOND", 50, 0..=1_000_000));
    let burst = NonZeroU32::new(reader.within("RATE_LIMIT_BURST", 200, 1..=1_000_000)).unwrap_or(NonZeroU32::MIN);
    per_second.map(|per_second| Rate { per_second, burst })
}

fn users(reader: &mut Reader<'_>, frames: Option<Rate>) -> UserLimits {
    UserLimits {
        // Enough for a few devices with a few windows each, and for what is left of connections that broke.
        max_sockets: reader.within("MAX_SOCKETS_PER_USER", 50, 1..=10_000_000),
        frames,
        // What a good line carries. A database reads it in a small part of a second.
        reads: Rate::of_reads(reader.within("READ_BYTES_PER_SECOND", 4 * 1024 * 1024, 0..=1024 * 1024 * 1024)),
    }
}

fn limits(reader: &mut Reader<'_>, rate: Option<Rate>) -> SessionLimits {
    let max_frame_bytes = reader.within("MAX_FRAME_BYTES", 64 * 1024, 1024..=16 * 1024 * 1024);
    let max_body_bytes = reader.within("MAX_BODY_BYTES", BodyLimits::default().max_bytes, 64..=8 * 1024 * 1024);
    if max_body_bytes >= max_frame_bytes {
        reader.reject("MAX_BODY_BYTES", "must be smaller than MAX_FRAME_BYTES: a body comes inside a frame");
    }
    let queue_bytes = reader.within("MAX_QUEUE_BYTES", 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024);
    if queue_bytes < 2 * max_body_bytes {
        let text = "must be at least twice MAX_BODY_BYTES: else two messages at once close those who read them";
        reader.reject("MAX_QUEUE_BYTES", text);
    }
    SessionLimits {
        max_frame_bytes,
        frame: FrameLimits {
            body: BodyLimits { max_bytes: max_body_bytes, ..BodyLimits::default() },
            max_join_list: max_join_list(rate),
        },
        max_joined: reader.within("MAX_JOINED", 1000, 1..=100_000),
        queue_bytes,
        // Enough for a client to fetch a token; a socket without one costs something and pays nothing.
        auth_within: Duration::from_secs(reader.within("AUTH_SECONDS", 15, 1..=3600)),
        // Below the minute after which many load balancers forget a silent connection.
        ping_after: Duration::from_secs(reader.within("PING_SECONDS", 20, 1..=3600)),
        rate,
    }
}

fn accept(reader: &mut Reader<'_>) -> AcceptLimits {
    let per_minute = reader.within("MAX_REFUSED_TOKENS_PER_MINUTE", 60, 1..=1_000_000);
    let connections = ConnectionLimits {
        max_connections: reader.within("MAX_CONNECTIONS", 16_000, 1..=10_000_000),
        // A large office behind one address has hundreds of people; more are most often a load balancer.
        per_address: reader.within("MAX_CONNECTIONS_PER_ADDRESS", 1000, 1..=10_000_000),
        unauthenticated_per_address: reader.within("MAX_UNAUTHENTICATED_PER_ADDRESS", 100, 1..=10_000_000),
        // Several processes with pools of a hundred; a service that leaks connections takes no more of the places.
        per_key: reader.within("MAX_CONNECTIONS_PER_KEY", 500, 1..=10_000_000),
        // With as many unfinished requests, 64 MiB.
        handshakes: reader.within("MAX_HANDSHAKES", 4096, 16..=1_000_000),
        refused_tokens_per_minute: NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN),
        trusted_proxies: reader.or("TRUSTED_PROXIES", TrustedProxies::default()),
    };
    AcceptLimits { connections, origins: reader.or("ALLOWED_ORIGINS", Origins::Any) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
