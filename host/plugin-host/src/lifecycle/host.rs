//! The plugins that a gateway runs. They are loaded once, and again whenever their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcyou_protocol::body::BodyLimits;

use super::fingerprint::Fingerprint;
use super::refusal::RefusedReload;
use super::versions::Versions;
use crate::capabilities::{Capability, KvStore, MemoryKv};
use crate::chain::pipeline::Chain;
use crate::chain::plugin::Clock;
use crate::chain::plugin_metrics;
use crate::chain::provenance::Provenance;
use crate::chain::status::PluginStatus;
use crate::loading::compiler;
use crate::loading::error::LoadError;
use crate::loading::loader::Loader;

/// The options of a [`PluginHost`].
#[derive(Clone)]
pub struct Options {
    /// The plugins directory. None: there are no plugins.
    pub dir: Option<PathBuf>,
    /// A private directory for compiled code, created if it is missing. None: plugins are compiled at each start.
    pub cache_dir: Option<PathBuf>,
    /// A private directory for records of failed calls, created if it is missing. None: nothing is recorded.
    pub records_dir: Option<PathBuf>,
    /// Limits for bodies that plugins return.
    pub body_limits: BodyLimits,
    /// The clock for circuit breakers and time limits.
    pub clock: Clock,
    /// The store for plugins' values. None: plugins that are granted `kv` are rejected.
    pub kv: Option<Arc<dyn KvStore>>,
    /// The time limit for compiling one file.
    pub compile_within: Duration,
}

impl Options {
    /// Options with the system's clock, and values kept in this process.
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

/// The loaded plugins. Loading compiles code, which takes seconds: it must not run on a thread that serves sockets.
pub struct PluginHost {
    dir: Option<PathBuf>,
    loader: Loader,
    clock: Clock,
    versions: Arc<Versions>,
    /// How the directory looked before it was last read. One reload at a time holds the lock.
    seen: Mutex<Option<Fingerprint>>,
    /// The last reload, if it was refused.
    refused: Mutex<Option<RefusedReload>>,
}

impl PluginHost {
    /// Loads the plugins. A metrics recorder must be installed before, or the plugins' metrics are lost.
    pub fn new(options: Options) -> Result<Self, LoadError> {
        plugin_metrics::begin();
        let Options { dir, cache_dir, records_dir, body_limits, clock, compile_within, kv } = options;
        let loader = Loader::new(cache_dir.as_deref(), body_limits, clock.clone())?.with_kv_store(kv);
        let loader = loader.with_compile_timeout(compile_within).with_records_dir(records_dir.as_deref());
        let seen = dir.as_deref().map(Fingerprint::of);
        let chain = dir.as_deref().map(|dir| loader.load(dir, &[])).transpose()?.unwrap_or_default();
        let versions = Arc::<Versions>::default();
        versions.install(chain, clock());
        Ok(Self { dir, loader, clock, versions, seen: Mutex::new(seen), refused: Mutex::default() })
    }

    /// The current chain. A message goes through one chain from start to end.
    pub fn chain(&self) -> Arc<Chain> {
        self.versions.chain()
    }

    /// Reads the directory again. If all plugins load, the new chain replaces the old one at once; otherwise the old
    /// chain stays. A plugin whose file and entry are unchanged is reused. A changed one is on probation, and is rolled
    /// back if it fails too often.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.reload_and_remember(&mut self.lock_seen())
    }

    /// Reloads and logs the result, if the directory looks different than when it was last read.
    pub(super) fn reload_if_changed(&self) -> Option<Result<(), LoadError>> {
        let mut seen = self.lock_seen();
        let looks = self.dir.as_deref().map(Fingerprint::of);
        (*seen != looks).then(|| {
            let result = self.reload_and_remember(&mut seen);
            self.log(&result);
            result
        })
    }

    fn lock_seen(&self) -> MutexGuard<'_, Option<Fingerprint>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_and_remember(&self, seen: &mut Option<Fingerprint>) -> Result<(), LoadError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        // Before reading: what changes meanwhile is a change.
        *seen = Some(Fingerprint::of(dir));
        let running = self.versions.loaded_plugins();
        let loaded = self.loader.load(dir, &running);
        let refused = loaded.as_ref().err().map(|error| RefusedReload::new(dir, error, &running));
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        let result = if loaded.is_ok() { "loaded" } else { "refused" };
        metrics::counter!("arcyou_plugin_reloads_total", "result" => result).increment(1);
        self.versions.install(loaded?, (self.clock)());
        Ok(())
    }

    /// Reloads, and logs the result.
    pub(crate) fn reload_and_log(&self) -> Result<(), LoadError> {
        let result = self.reload();
        self.log(&result);
        result
    }

    fn log(&self, result: &Result<(), LoadError>) {
        match result {
            Ok(()) => tracing::info!(plugins = self.summary(), "plugins reloaded"),
            Err(error) => tracing::error!("plugins not reloaded, the old ones go on: {error}"),
        }
    }

    /// Where the plugins are.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The status of each plugin, in the chain's order.
    pub fn status(&self) -> Vec<PluginStatus> {
        let mut rolled_back = self.versions.rolled_back();
        let mut plugins = self.chain().status();
        plugins.iter_mut().for_each(|status| status.rolled_back = rolled_back.remove(&status.plugin));
        plugins
    }

    /// The last reload, if it was refused: the files differ from what is running.
    pub fn refused(&self) -> Option<RefusedReload> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The chain in one line, in its order: each plugin's name, version and the beginning of its file's digest.
    pub fn summary(&self) -> String {
        let chain = self.chain();
        let plugins = chain.plugins().iter().map(|plugin| {
            let Provenance { plugin, sha256, version } = &**plugin.provenance();
            let digest = sha256.get(..12).unwrap_or(sha256);
            let version = version.as_deref().unwrap_or("without a version");
            format!("{plugin} {version} ({digest})")
        });
        plugins.collect::<Vec<_>>().join(", ")
    }

    /// Whether a plugin may keep values.
    pub fn keeps_values(&self) -> bool {
        self.chain().plugins().iter().any(|plugin| plugin.entry().grants.has(Capability::Kv))
    }

    /// What cannot be written to disk at the moment. Plugins run all the same.
    pub(super) fn unwritable(&self) -> Option<String> {
        self.loader.unwritable()
    }

    /// Drops versions that are kept no longer. To be called periodically.
    pub fn expire(&self) {
        self.versions.expire((self.clock)());
    }
}
