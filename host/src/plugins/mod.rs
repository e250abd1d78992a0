//! Sandboxed plugins, between authorization and the store.
//!
//! From a directory to a verdict: [`loader`] reads `plugins.toml` ([`manifest`], which puts plugins in their [`order`] and gives them
//! their [`condition`]s) and the `.wasm` files, takes compiled
//! code from its [`cache`] or makes it, and proves that each plugin starts; [`instance`] keeps instances warm within their
//! [`limits`], time being counted by a [`ticker`]; [`plugin`] asks one plugin, behind its [`breaker`]; [`verdict`] checks the answers and folds them; [`chain`]
//! is what the gateway calls. [`contract`] alone knows the interface's bindings. Authors work on plugins with [`tool`], which
//! tries them ([`trial`]) as the gateway does when it holds them to their [`cases`].
//!
//! A plugin can do nothing but answer, log, and use the [`capabilities`] that it is granted. Whatever it does wrong harms one message, as its `on_error` says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::protocol::body::BodyLimits;

mod breaker;
pub mod build;
mod cache;
mod capabilities;
mod cases;
mod chain;
mod condition;
mod contract;
mod fault;
mod instance;
mod limits;
mod loader;
mod manifest;
mod order;
mod plugin;
mod supervise;
mod text;
mod ticker;
pub mod tool;
mod trial;
mod verdict;
#[cfg(test)]
mod verdict_tests;
mod watch;

pub use breaker::BreakerState;
pub use cache::usual_cache;
pub use capabilities::{KvError, KvStore, MemoryKv, RedisKv};
pub use cases::Unheld;
pub use chain::{Admission, Chain, Preview, Rejection, Screened, Screening};
pub use loader::LoadError;
pub use plugin::{Clock, PluginStatus};
pub use supervise::supervise;
pub use watch::Watch;

use loader::Loader;

/// What the plugin host needs to know.
#[derive(Clone)]
pub struct Options {
    /// Where the plugins are; none: no plugins at all.
    pub dir: Option<PathBuf>,
    /// A private directory for compiled code, made if it is missing; none: plugins are compiled at each start.
    pub cache_dir: Option<PathBuf>,
    /// What a replaced body may be at most.
    pub body_limits: BodyLimits,
    /// For circuit breakers and timing.
    pub clock: Clock,
    /// Where plugins keep what they are granted to keep.
    pub kv: Arc<dyn KvStore>,
}

impl Options {
    /// With the usual clock, and plugins' values kept in this process.
    pub fn new(dir: Option<&Path>, cache_dir: Option<&Path>, body_limits: BodyLimits) -> Self {
        let clock: Clock = Arc::new(Instant::now);
        Self {
            dir: dir.map(Path::to_owned),
            cache_dir: cache_dir.map(Path::to_owned),
            body_limits,
            clock,
            kv: Arc::new(MemoryKv::default()),
        }
    }
}

/// The plugins that are loaded. Loading compiles code, which takes seconds: not on a thread that serves sockets.
pub struct PluginHost {
    dir: Option<PathBuf>,
    loader: Loader,
    chain: ArcSwap<Chain>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl PluginHost {
    /// Loads the plugins. A metrics recorder must be installed before, or the plugins' counters go nowhere.
    pub fn new(options: Options) -> Result<Self, LoadError> {
        let loader = Loader::new(options.cache_dir.as_deref(), options.body_limits, options.clock)?.keeping(options.kv);
        let chain = options.dir.as_deref().map(|dir| loader.load(dir, &[])).transpose()?.unwrap_or_default();
        let chain = ArcSwap::from_pointee(chain);
        Ok(Self { dir: options.dir, loader, chain, reloading: Mutex::new(()) })
    }

    /// The chain as it is now; a message goes through one chain from end to end.
    pub fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Reads the directory again. All plugins work, and the new chain takes the old one's place at once; or one does not,
    /// and the old chain goes on. A plugin whose file and configuration are the same goes on as it is.
    pub fn reload(&self) -> Result<(), LoadError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.loader.load(dir, self.chain.load().plugins());
        let result = if loaded.is_ok() { "loaded" } else { "refused" };
        metrics::counter!("arcyou_plugin_reloads_total", "result" => result).increment(1);
        self.chain.store(Arc::new(loaded?));
        Ok(())
    }

    /// How each plugin is doing, in the chain's order.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.chain.load().status()
    }
}
