//! Private PostgreSQL, PgBouncer and Redis servers, Redis Clusters among them, each a child process on a free port of
//! 127.0.0.1.
//!
//! They serve `arcyou-gateway dev` (PostgreSQL only), the tests and the benchmarks; nothing here is meant for
//! production. A [`Program`] of the caller's own can run in the same way. The calls block, with a bound: in
//! asynchronous code make them from `spawn_blocking` or before the runtime starts.
//!
//! What every service here promises:
//! - It is found on `PATH` and in the usual places; a missing one is an error that says what to install.
//! - It listens on 127.0.0.1 alone, and has no socket in the file system.
//! - It does not outlive the process that started it, however that one ends: see [`supervisor`](self#the-supervisor).
//! - Started by root, it runs as an unprivileged account, because PostgreSQL and PgBouncer refuse to run as root.
//! - It has a process group of its own: Ctrl-C in a terminal reaches the starter alone, which then stops its services
//!   in its own order.
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
mod service;
mod supervisor;
mod workspace;

pub use error::ServiceError;
pub use pgbouncer::{PgBouncer, PgBouncerOptions, Upstream};
pub use postgres::{Postgres, PostgresOptions};
pub use program::Program;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
