//! `arcyou-gateway dev`: the whole system in one process, with nothing to configure. A private PostgreSQL, the worker
//! inside, events carried in memory instead of Redis, the plugins that stand in the working directory, and a demo
//! conversation. What `DATABASE_URL`, `REDIS_URL` and `PLUGINS_DIR` name is used instead.

mod demo;
mod playground;
mod plugins;
mod progress;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arcyou_local_services::{Postgres, PostgresOptions};
use arcyou_outbox_worker::{RelayConfig, WorkerConfig};
use arcyou_platform::bus::{self, Bus, LocalBus};
use arcyou_platform::env::{Process, Source};
use arcyou_platform::health::{Health, Program};
use arcyou_platform::telemetry;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Mode};
use crate::migrate::migrate_at;
use crate::server::{self, Listeners, Services};

use progress::{blocking, step};

/// What the command line says.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Where the private database is kept between runs
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Empty the private database first
    #[arg(long)]
    fresh: bool,
}

/// The environment, with what `dev` provides where it has nothing.
struct Provided {
    database_url: Option<String>,
}

impl Source for Provided {
    fn get(&self, name: &str) -> Option<String> {
        Process.get(name).or_else(|| match name {
            "DATABASE_URL" => self.database_url.clone(),
            "DRAIN_SECONDS" => Some("1".to_owned()),
            // No balancer has to notice.
            "DRAIN_DELAY_SECONDS" => Some("0".to_owned()),
            // It believes everybody, so that it is for this machine.
            "BIND_ADDR" => Some(Ipv4Addr::LOCALHOST.to_string()),
            "JWT_PUBLIC_KEY" if ["JWT_JWKS_URL", "JWT_ISSUERS"].iter().all(|name| Process.get(name).is_none()) => {
                Some(crate::auth::DEVELOPMENT_KEY.to_owned())
            }
            _ => None,
        })
    }

    fn names(&self) -> Vec<String> {
        Process.names()
    }
}

/// Runs until `shutdown`, which may come while it still starts.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Some(started) = shutdown.run_until_cancelled(start(options)).await else {
        // What a thread still starts ends with this process: its supervisor sees to that.
        return Ok(());
    };
    started?.serve(shutdown).await
}

/// All that takes time before the gateway listens.
struct Started {
    config: Config,
    services: Services,
    listeners: Listeners,
    postgres: Option<Arc<Postgres>>,
}

async fn start(options: Options) -> anyhow::Result<Started> {
    let postgres = match Process.get("DATABASE_URL") {
        Some(_) => None,
        None => Some(Arc::new(start_postgres(options).await?)),
    };
    let provided = Provided { database_url: postgres.as_ref().map(|postgres| postgres.url("postgres")) };
    let mut config = Config::from_source(&provided, Mode::Dev)?;
    telemetry::init(config.log_format)?;
    telemetry::warn_of(&config.notes);
    server::open_files::make_room(&mut config);
    let health = Health::with_essential(server::ESSENTIAL).of(Program::Gateway);
    // What is wrong with an address is told before the compilers have worked for half a minute.
    let listeners = server::listen(&config).await?;
    if let Some(built) = plugins::build().await? {
        config.plugins_dir = Some(built);
    }
    let bus: Arc<dyn Bus> = match &config.redis_url {
        Some(url) => bus::open(url, config.fanout.mode, &health)?,
        None => Arc::new(LocalBus::new()),
    };
    let mut services = step("loading plugins", Services::prepare(&config, bus, health, telemetry::metrics()?)).await?;
    step("bringing the schema up to date", migrate_at(&config.migrate_database)).await.context(
        "the kept database cannot be used; if another version made it, start once with --fresh (make dev ARGS=--fresh)",
    )?;
    demo::create(&services.pool, postgres.is_some()).await.context("the demo conversation could not be made")?;
    let (pages, admin) = (services.pool.clone(), listeners.admin.local_addr()?);
    services.pages = Some(Box::new(move |app| playground::beside(app, pages, admin)));
    Ok(Started { config, services, listeners, postgres })
}

impl Started {
    async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { config, services, listeners, postgres } = self;
        let pool = services.pool.clone();
        let private_database = postgres.as_ref().map(|postgres| postgres.url("postgres"));
        demo::explain(listeners.public_addr()?, listeners.admin.local_addr()?, private_database.as_deref());
        let relay = RelayConfig { mode: config.fanout.mode, ..RelayConfig::default() };
        let worker_config = WorkerConfig { relay, ..WorkerConfig::default() };
        let ends = shutdown.child_token();
        let worker = tokio::spawn(arcyou_outbox_worker::run(
            worker_config,
            pool.clone(),
            services.bus.clone(),
            services.health.clone(),
            ends.clone(),
        ));
        services.serve(config, listeners, shutdown).await;
        ends.cancel();
        worker.await?;
        pool.close();
        // Stopped last: it must outlive everything that uses it.
        if let Some(postgres) = postgres {
            blocking("stopping PostgreSQL", move || postgres.stop()).await?;
        }
        Ok(())
    }
}

async fn start_postgres(options: Options) -> anyhow::Result<Postgres> {
    let data_dir = match options.data_dir {
        Some(dir) => dir,
        None => default_data_dir().context("HOME is not set; name a folder with --data-dir")?,
    };
    let options =
        PostgresOptions { data_dir: Some(data_dir), fresh: options.fresh, durable: true, ..PostgresOptions::default() };
    Ok(blocking("starting PostgreSQL", move || Postgres::start(options)).await??)
}

/// Root's own folders are closed to the account that PostgreSQL must run under then.
fn default_data_dir() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if home != Path::new("/root") => Some(home.join(".local/state/arcyou-dev")),
        Some(_) => Some(PathBuf::from("/var/lib/arcyou-dev")),
        None => None,
    }
}
