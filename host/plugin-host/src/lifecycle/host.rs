//! The plugins that a gateway runs: loaded once, and again whenever their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arcyou_protocol::body::BodyLimits;

use super::versions::Versions;
use crate::capabilities::{KvStore, MemoryKv};
use crate::chain::pipeline::Chain;
use crate::chain::plugin::Clock;
use crate::chain::status::PluginStatus;
use crate::loading::compiler;
use crate::loading::loader::{LoadError, Loader};

/// What the plugin host needs to know.
#[derive(Clone)]
pub struct Options {
    /// Where the plugins are; none: no plugins at all.
    pub dir: Option<PathBuf>,
    /// A private directory for compiled code, made if it is missing; none: plugins are compiled at each start.
    pub cache_dir: Option<PathBuf>,
    /// A private directory for what plugins fail on, made if it is missing; none: nothing is kept.
    pub records_dir: Option<PathBuf>,
    /// What a replaced body may be at most.
    pub body_limits: BodyLimits,
    /// For circuit breakers and timing.
    pub clock: Clock,
    /// Where plugins keep what they are granted to keep; none: a plugin that is granted that is rolled_back.
    pub kv: Option<Arc<dyn KvStore>>,
    /// How long the compiler may take for one file.
    pub compile_within: Duration,
}

impl Options {
    /// With the usual clock, and plugins' values kept in this process.
    pub fn new(dir: Option<&Path>, cache_dir: Option<&Path>, body_limits: BodyLimits) -> Self {
        let clock: Clock = Arc::new(Instant::now);
        Self {
            dir: dir.map(Path::to_owned),
            cache_dir: cache_dir.map(Path::to_owned),
            records_dir: None,
            body_limits,
            clock,
            compile_within: compiler::DEFAULT_COMPILE_TIMEOUT,
            kv: Some(Arc::new(MemoryKv::default())),
        }
    }
}

/// The plugins that are loaded. Loading compiles code, which takes seconds: not on a thread that serves sockets.
pub struct PluginHost {
    dir: Option<PathBuf>,
    loader: Loader,
    clock: Clock,
    versions: Arc<Versions>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl PluginHost {
    /// Loads the plugins. A metrics recorder must be installed before, or the plugins' counters go nowhere.
    pub fn new(options: Options) -> Result<Self, LoadError> {
        let Options { dir, cache_dir, records_dir, body_limits, clock, compile_within, kv } = options;
        let loader = Loader::new(cache_dir.as_deref(), body_limits, clock.clone())?.with_kv_store(kv);
        let loader = loader.with_compile_timeout(compile_within).with_records_dir(records_dir.as_deref());
        let chain = dir.as_deref().map(|dir| loader.load(dir, &[])).transpose()?.unwrap_or_default();
        let versions = Arc::<Versions>::default();
        versions.install(chain, clock());
        Ok(Self { dir, loader, clock, versions, reloading: Mutex::new(()) })
    }

    /// The chain as it is now; a message goes through one chain from end to end.
    pub fn chain(&self) -> Arc<Chain> {
        self.versions.chain()
    }

    /// Reads the directory again. All plugins work, and the new chain takes the old one's place at once; or one does
    /// not, and the old chain goes on. A plugin whose file and configuration are the same goes on as it is; one that
    /// changed is watched, and goes back to the version before when it fails too often.
    pub fn reload(&self) -> Result<(), LoadError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.loader.load(dir, &self.versions.loaded_plugins());
        let result = if loaded.is_ok() { "loaded" } else { "refused" };
        metrics::counter!("arcyou_plugin_reloads_total", "result" => result).increment(1);
        self.versions.install(loaded?, (self.clock)());
        Ok(())
    }

    /// The same, report in the log.
    pub(crate) fn reload_and_log(&self) -> Result<(), LoadError> {
        let result = self.reload();
        match &result {
            Ok(()) => tracing::info!(plugins = self.chain().len(), "plugins reloaded"),
            Err(error) => tracing::error!("plugins not reloaded, the old ones go on: {error}"),
        }
        result
    }

    /// Where the plugins are.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// How each plugin is doing, in the chain's order.
    pub fn status(&self) -> Vec<PluginStatus> {
        let mut rolled_back = self.versions.rolled_back();
        let mut plugins = self.chain().status();
        plugins.iter_mut().for_each(|status| status.rolled_back = rolled_back.remove(&status.plugin));
        plugins
    }

    /// Lets go of versions that are kept no longer: to be called now and then.
    pub fn expire(&self) {
        self.versions.expire((self.clock)());
    }
}
