//! The command line: `run`, and `parked` for rows that have used up their tries.

mod parked_command;

use std::process::ExitCode;

use anyhow::Context;
use arcyou_outbox_worker::{Config, VARIABLES, run};
use arcyou_platform::bus;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::health::{Health, Program};
use arcyou_platform::{admin, database, env, shutdown, telemetry};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Relays the transactional outbox from PostgreSQL to Redis Pub/Sub. Any number of workers may run side by side.
#[derive(Parser)]
#[command(name = "arcyou-outbox-worker", version, after_help = env::help(VARIABLES))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Relays until SIGTERM or SIGINT, then finishes the batch in hand [default]
    Run,
    /// Lists, shows, requeues or drops rows that have used up their tries
    #[command(after_help = env::help(VARIABLES))]
    Parked {
        #[command(subcommand)]
        action: parked_command::Action,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or(Command::Run);
    let outcome = match command {
        Command::Run => match Config::from_env(&env::Process) {
            Ok(config) => in_runtime(work(config)),
            Err(errors) => return misconfigured(&errors),
        },
        Command::Parked { action } => match DatabaseUrl::from_env(&env::Process) {
            Ok(url) => in_runtime(parked_command::execute(action, url)),
            Err(errors) => return misconfigured(&errors),
        },
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("arcyou-outbox-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misconfigured(errors: &env::Errors) -> ExitCode {
    eprintln!("arcyou-outbox-worker: the configuration is not usable:\n{errors}");
    ExitCode::from(2)
}

fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new().context("starting the runtime")?.block_on(work)
}

async fn work(config: Config) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signal()?;
    telemetry::init(config.log_format)?;
    telemetry::warn_of(&config.notes);
    let metrics = telemetry::metrics().context("setting up metrics")?;
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    ::metrics::gauge!("arcyou_build_info", "version" => version, "os" => os, "arch" => arch).set(1.0);
    let pool = database::pool(&config.database_url.application_name("arcyou-outbox-worker"), config.pool_size)?;
    let health = Health::new().of(Program::Worker);
    let bus = bus::open(&config.redis_url, config.worker.relay.mode, &health)?;
    let listener = TcpListener::bind(config.admin.address)
        .await
        .with_context(|| format!("cannot listen on {} (ADMIN_ADDR)", config.admin.address))?;
    let address = listener.local_addr()?;
    tracing::info!(mode = %config.worker.relay.mode, admin = %address, "relaying");
    // Called before the admin listener answers, so that its first report contains the part `database`.
    let running = run(config.worker, pool, bus, health.clone(), shutdown);
    let admin_shutdown = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(listener, config.admin.access, health, metrics, admin_shutdown.clone()));
    running.await;
    // The admin listener stays until here, so that operators can observe the shutdown.
    admin_shutdown.cancel();
    admin.await.context("the admin listener")?.context("the admin listener")?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
