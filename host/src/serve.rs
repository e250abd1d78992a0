//! From a configuration to a running gateway.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arcyou_platform::bus::{self, Bus};
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::health::{Health, Part};
use arcyou_platform::{admin, database, telemetry};
use deadpool_postgres::Pool;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::batch::BatchConfig;
use crate::config::Config;
use crate::fanout::FanoutConfig;
use crate::migrate::migrate;
use crate::plugins::{self, PluginHost, RedisKv};
use crate::review;
use crate::run::{Parts, run};
use crate::store::Store;
use crate::wake::Wake;

/// Without these a gateway cannot do its work. Without Redis it can: messages are stored and delivered from the database.
pub const ESSENTIAL: &[&str] = &["database", "schema"];
/// Between attempts to bring the schema up to date while the database is away.
const MIGRATE_AGAIN: Duration = Duration::from_secs(2);

/// What a gateway talks to.
pub struct Services {
    /// The database.
    pub pool: Pool,
    /// Where events come from.
    pub bus: Arc<dyn Bus>,
    /// The plugin chain.
    pub plugins: Arc<PluginHost>,
    /// What `/ready` shows.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

/// The two sockets that a gateway listens on.
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For operators.
    pub admin: TcpListener,
}

impl Listeners {
    /// Where clients connect.
    pub fn public_addr(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }
}

/// Binds both addresses.
pub async fn listen(config: &Config) -> anyhow::Result<Listeners> {
    let bind = async |address: SocketAddr, name: &str| {
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; set {name} to another"))
    };
    // Every interface: both families where there are two, IPv4 where that is all.
    let port = config.port;
    let public = match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(public) => public,
        Err(_) => bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), "PORT").await?,
    };
    Ok(Listeners { public, admin: bind(config.admin, "ADMIN_ADDR").await? })
}

/// `serve`: runs until `shutdown`. A database or Redis that is away is waited for, and `/ready` says so.
pub async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let url = config.redis_url.as_ref().context("REDIS_URL is not set")?;
    let health = Health::with_essential(ESSENTIAL);
    let bus = bus::open(url, config.pubsub_mode, &health)?;
    let services = Services::prepare(&config, bus, health, telemetry::metrics()?).await?;
    let listeners = listen(&config).await?;
    tracing::info!(address = %listeners.public_addr()?, admin = %config.admin, "listening");
    services.serve(config, listeners, shutdown).await;
    Ok(())
}

/// Applies what is missing, once.
pub async fn migrate_once(database: &DatabaseUrl) -> anyhow::Result<Vec<String>> {
    let client = database::pool(database, 1)?.get().await.context("the database cannot be reached")?;
    Ok(migrate(&client).await?)
}

impl Services {
    /// Makes the pool and loads the plugins. A plugin that cannot be loaded is an error: a gateway must not start with
    /// fewer rules than its operator wrote.
    pub async fn prepare(
        config: &Config,
        bus: Arc<dyn Bus>,
        health: Health,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<Self> {
        let database = config.database.clone().application_name("arcyou-gateway");
        let pool = database::pool(&database, config.pool_size)?;
        if config.plugins_dir.is_none() {
            tracing::warn!("no plugins: every message stands as it comes (PLUGINS_DIR says where plugins are)");
        }
        let cache = plugins::usual_cache();
        let options = plugins::Options::new(config.plugins_dir.as_deref(), cache.as_deref(), config.limits.frame.body);
        let mut options = plugins::Options { records_dir: config.records_dir.clone(), ..options };
        let usual = config.redis_url.as_ref().filter(|_| config.pubsub_mode != PubSubMode::Sharded);
        match config.plugin_kv_url.as_ref().or(usual) {
            Some(url) => options.kv = Some(Arc::new(RedisKv::new(url)?)),
            None if config.redis_url.is_some() => options.kv = None,
            None => {}
        }
        let plugins = Arc::new(tokio::task::spawn_blocking(move || PluginHost::new(options)).await??);
        Ok(Self { pool, bus, plugins, health, metrics })
    }

    /// Serves until `shutdown`, then drains.
    pub async fn serve(self, config: Config, listeners: Listeners, shutdown: CancellationToken) {
        let Self { pool, bus, plugins, health, metrics } = self;
        let upkeep_ends = CancellationToken::new();
        let wake = Wake::default();
        let more =
            review::router(Store::new(pool.clone()), wake.clone()).merge(plugins::admin::router(plugins.clone()));
        let ends = upkeep_ends.clone();
        let admin = tokio::spawn(admin::serve_with(listeners.admin, health.clone(), metrics, more, ends));
        let migration = keep_migrating(config.migrate_database, health.part("schema"));
        let migration = tokio::spawn(upkeep_ends.clone().run_until_cancelled_owned(migration));
        let plugin_state =
            tokio::spawn(plugins::supervise(plugins.clone(), health.part("plugins"), upkeep_ends.clone()));
        let parts = Parts {
            fanout: FanoutConfig::new(config.pubsub_mode),
            batch: BatchConfig::default(),
            limits: config.limits,
            authenticator: config.authenticator,
            drain: config.drain,
            pool,
            bus,
            plugins,
            health,
            wake,
            audit: config.audit,
        };
        run(parts, listeners.public, shutdown).await;
        upkeep_ends.cancel();
        let _ = tokio::join!(admin, migration, plugin_state);
    }
}

/// Brings the schema up to date, however long the database is away. Until then `/ready` says no.
async fn keep_migrating(database: DatabaseUrl, part: Part) {
    loop {
        match migrate_once(&database).await {
            Ok(applied) => {
                if !applied.is_empty() {
                    tracing::info!(?applied, "the schema was brought up to date");
                }
                return part.up();
            }
            Err(error) => part.down(format!("{error:#}")),
        }
        tokio::time::sleep(MIGRATE_AGAIN).await;
    }
}
