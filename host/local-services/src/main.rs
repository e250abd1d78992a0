//! `cargo run -p arcyou-local-services`: a private PostgreSQL, a PgBouncer in front of it and a Redis, until Ctrl-C.
//! It prints the variables that a gateway or a worker needs in its environment.

use std::io::Write;

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis, ServiceError};

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ServiceError> {
    let postgres = Postgres::start(PostgresOptions::default())?;
    let pgbouncer = PgBouncer::start(&postgres, PgBouncerOptions::default())?;
    let redis = Redis::start()?;
    let lines = [
        format!("DATABASE_URL={}", pgbouncer.url("postgres")),
        format!("MIGRATE_DATABASE_URL={}", postgres.url("postgres")),
        format!("REDIS_URL={}", redis.url()),
        describe("PostgreSQL", postgres.pid(), &postgres.log()),
        describe("PgBouncer", pgbouncer.pid(), &pgbouncer.log()),
        describe("Redis", redis.pid(), &redis.log()),
        "# Ctrl-C stops them and removes their data.".to_owned(),
    ];
    // A reader may close the pipe; the services go on for those who use them.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    loop {
        std::thread::park();
    }
}

fn describe(name: &str, pid: Option<u32>, log: &std::path::Path) -> String {
    format!("# {name}: process {}, log {}", pid.unwrap_or_default(), log.display())
}
