//! What a gateway talks to, made from its configuration.

use std::sync::{Arc, OnceLock};

use arcyou_platform::bus::Bus;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::database;
use arcyou_platform::health::Health;
use arcyou_plugin_host::{Options, PluginHost, RedisKv, default_cache_dir};
use axum::Router;
use deadpool_postgres::Pool;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::config::Config;

/// What a gateway talks to.
pub struct Services {
    pub pool: Pool,
    /// Where events come from.
    pub bus: Arc<dyn Bus>,
    pub plugins: Arc<PluginHost>,
    /// Which installation this is, once the database has told.
    pub installation: Arc<OnceLock<String>>,
    /// Where plugins keep values, if that is a Redis.
    pub plugin_values: Option<Arc<RedisKv>>,
    /// What `/ready` shows.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Puts pages beside the sockets of the public address; `dev` alone has any.
    pub pages: Option<Box<dyn FnOnce(Router) -> Router + Send>>,
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
        let cache = default_cache_dir();
        let options = Options::new(config.plugins_dir.as_deref(), cache.as_deref(), config.limits.frame.body);
        let mut options = Options { records_dir: config.records_dir.clone(), ..options };
        let default = config.redis_url.as_ref().filter(|_| config.fanout.mode != PubSubMode::Sharded);
        let installation = Arc::<OnceLock<String>>::default();
        let mut plugin_values = None;
        match config.plugin_kv_url.as_ref().or(default) {
            Some(url) => {
                let values = Arc::new(RedisKv::new(url, installation.clone())?);
                options.kv = Some(values.clone());
                plugin_values = Some(values);
            }
            None if config.redis_url.is_some() => options.kv = None,
            None => {}
        }
        let plugins = Arc::new(tokio::task::spawn_blocking(move || PluginHost::new(options)).await??);
        if !plugins.chain().is_empty() {
            tracing::info!(plugins = plugins.summary(), "plugins loaded, in the order of the chain");
        }
        Ok(Self { pool, bus, plugins, plugin_values, installation, health, metrics, pages: None })
    }
}
