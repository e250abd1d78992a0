//! The gateway's command line.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arcyou_gateway::config::{Config, Mode, VARIABLES, migration_database, review};
use arcyou_gateway::migrate::{AdoptOptions, Adopter, Progress, Rights, grant_at, migrate_at};
use arcyou_gateway::{api_keys, dev, held, server};
use arcyou_platform::env::{self, Errors, Process};
use arcyou_platform::{shutdown, telemetry};
use arcyou_plugin_host::tool::PluginCommand;
use clap::{CommandFactory as _, Parser, Subcommand};
use mimalloc::MiMalloc;

/// Many small pieces of memory, made by one thread and freed by another: measurably cheaper than with the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A chat gateway: JSON over WebSocket, sandboxed plugins, PostgreSQL with an outbox, Redis Pub/Sub.
#[derive(Parser)]
#[command(version, after_help = env::help(VARIABLES))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients (the default when DATABASE_URL is set)
    Serve,
    /// Run everything in one process for development: PostgreSQL, worker, plugins and a demo conversation
    Dev(dev::Options),
    /// Bring the database's schema up to date, adopting the tables of the system before this one, and end
    Migrate(AdoptOptions),
    /// Decide on messages that plugins held for review
    #[command(subcommand)]
    Held(held::Action),
    /// Make, list and revoke the keys of services that use the HTTP API
    #[command(subcommand)]
    Key(api_keys::Action),
    /// Work on plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

fn main() -> ExitCode {
    let Some(command) = Arguments::parse().command.or_else(default_command) else {
        let _ = Arguments::command().print_help();
        eprintln!("\nSet DATABASE_URL to serve, or try `arcyou-gateway dev`.");
        return ExitCode::from(2);
    };
    match in_runtime(run(command)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong. A wrong environment has the exit code of a wrong command line: trying again does not help.
fn failed(error: &anyhow::Error) -> ExitCode {
    match error.chain().find_map(|cause| cause.downcast_ref::<Errors>()) {
        Some(errors) => {
            eprintln!("arcyou-gateway: the configuration is not usable:\n{errors}");
            ExitCode::from(2)
        }
        None => {
            eprintln!("arcyou-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn default_command() -> Option<Command> {
    std::env::var_os("DATABASE_URL").map(|_| Command::Serve)
}

/// Threads that block, such as those that compile plugins, are not waited for.
fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve => {
            server::serve(configured()?, shutdown::on_signal()?).await?;
        }
        Command::Dev(options) => dev::run(options, shutdown::on_signal()?).await?,
        Command::Migrate(options) => migrate(options).await?,
        Command::Held(action) => {
            let (database, log_format) = review(&Process)?;
            telemetry::init(log_format)?;
            held::execute(action, &database).await?;
        }
        Command::Key(action) => api_keys::execute(action, &migration_database(&Process)?).await?,
        Command::Plugin(command) => return tokio::task::spawn_blocking(|| command.run()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Between lines about a step that takes long.
const TELL_EVERY: Duration = Duration::from_secs(1);

async fn migrate(options: AdoptOptions) -> anyhow::Result<()> {
    let database = migration_database(&Process)?;
    if options.undo {
        let undone = Adopter::undo(&database).await?;
        println!("{}", if undone { "the old tables are as they were" } else { "there is nothing to undo" });
        return Ok(());
    }
    if let Some(adopter) = Adopter::begin(&database, options).await? {
        println!("adopting the tables of the system before this one; when interrupted, run this again");
        let mut told = Instant::now();
        let tell = |Progress { step, done, total }: &Progress| {
            if done >= total || told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                println!("{step}: {done} of {total}");
            }
        };
        let left_behind = adopter.run(tell).await?;
        println!("adopted: every row was compared with its copy");
        for line in left_behind {
            println!("not carried over: {line}");
        }
    }
    for migration in migrate_at(&database).await? {
        println!("applied {migration}");
    }
    println!("the schema is up to date");
    match grant_at(&database).await? {
        Rights::Given => println!("the group roles have their rights (migrations/roles.sql)"),
        Rights::NotOwner => {
            println!("the group roles' rights were left as they are: this role does not own the tables")
        }
        Rights::NoRoles => {}
    }
    Ok(())
}

fn configured() -> anyhow::Result<Config> {
    let config = Config::from_source(&Process, Mode::Serve)?;
    telemetry::init(config.log_format)?;
    telemetry::warn_of(&config.notes);
    Ok(config)
}
