//! Private PostgreSQL, PgBouncer and Redis servers, Redis Clusters among them, each a child process on a free port of
//! 127.0.0.1.
//!
//! They are for `arcyou-gateway dev` (PostgreSQL only), the tests and the benchmarks, not for production. A [`Program`]
//! of the caller can run in the same way. All calls block for a bounded time: in asynchronous code, call them from
//! `spawn_blocking` or before the runtime starts.
//!
//! What every service here promises:
//! - Its program is searched on `PATH` and in the usual places; if it is missing, the error says what to install.
//! - It listens only on 127.0.0.1 and has no socket in the file system.
//! - It does not outlive the process that started it, however that process ends: see
//!   [`supervisor`](self#the-supervisor).
//! - If root starts it, it runs as an unprivileged account, because PostgreSQL and PgBouncer refuse to run as root.
//! - It has its own process group: Ctrl-C in a terminal reaches only the starter, which stops its services in its own
//!   order.
//!
//! # The supervisor
//!
//! A service is the child of a small `sh` process, which holds a pipe from the starter. When that pipe ends, because
//! the starter closed it or is gone, the shell stops the service and removes its temporary directory. (A parent-death
//! signal would not do: Linux sends it when the starting *thread* ends.)

mod account;
mod cluster;
mod error;
mod find;
mod log;
mod pgbouncer;
mod port;
mod postgres;
mod program;
mod redis;
mod redis_cluster;
mod redis_sentinels;
mod service;
mod supervisor;
mod workspace;

pub use error::ServiceError;
pub use pgbouncer::{PgBouncer, PgBouncerOptions, Upstream};
pub use postgres::{Postgres, PostgresOptions, ServerTls};
pub use program::Program;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use redis_sentinels::RedisSentinels;
