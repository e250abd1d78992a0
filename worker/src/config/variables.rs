//! Every variable of the worker: what `--help` lists, and what docs/configuration.md must have.

use arcyou_platform::env::Variable;

/// The variables, in the order of the documentation.
pub const VARIABLES: &[Variable] = &[
    Variable::required(
        "DATABASE_URL",
        "PostgreSQL, normally through PgBouncer: postgres://user:password@host:port/name",
    ),
    Variable::required("REDIS_URL", "Redis: redis://user:password@host:port, or rediss:// for TLS"),
    Variable::or("PUBSUB_MODE", "global", "global, perconv or sharded; must equal the setting of the gateways"),
    Variable::or("POLL_INTERVAL_MS", "1000", "how often to look for rows without a hint from a gateway"),
    Variable::or("BATCH_SIZE", "500", "most rows claimed at once"),
    Variable::or("MAX_RETRIES", "5", "a row is parked after this many failures of its own"),
    Variable::or("MAX_PAYLOAD_BYTES", "1048576", "a row with a larger payload fails"),
    Variable::or("OUTBOX_RETENTION_HOURS", "72", "processed rows are deleted after this time; 0: never"),
    Variable::or("DATABASE_POOL_SIZE", "4", "most connections to PostgreSQL"),
    Variable::or("ADMIN_ADDR", "127.0.0.1:9091", "address of /ready and /metrics"),
    Variable::or_else("ADMIN_HOSTS", "none", "names under which that address may be asked, besides localhost"),
    Variable::or_else("ADMIN_TOKEN", "none", "what all but /ready and /metrics asks for, at least 16 characters"),
    Variable::or("RUST_LOG", "info", "which lines are logged, to standard error"),
    Variable::or("LOG_FORMAT", "text", "text or json"),
    Variable::or_else("SSL_CERT_FILE", "the system's", "trusted certificates, in one file"),
    Variable::or_else("SSL_CERT_DIR", "the system's", "trusted certificates, in a folder"),
];
