//! The running chain and, for each plugin that changed recently, the version before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::rollback::{Probation, ProbationStatus};
use crate::chain::observer::{CallObserver, CallResult};
use crate::chain::pipeline::Chain;
use crate::chain::plugin::Plugin;
use crate::chain::status::RolledBack;
use crate::manifest::Share;

/// A version that was rolled back. It is kept, so that a reload of the same file and entry is recognised.
struct RolledBackVersion {
    plugin: Arc<Plugin>,
    report: RolledBack,
}

/// The running chain, and the versions that were rolled back.
#[derive(Default)]
pub(crate) struct Versions {
    chain: ArcSwap<Chain>,
    /// By name. Whoever changes the chain holds this lock.
    rolled_back: Mutex<BTreeMap<String, RolledBackVersion>>,
}

impl Versions {
    pub(crate) fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// All plugins that are loaded: those that run, and those that were rolled back.
    pub(crate) fn loaded_plugins(&self) -> Vec<Arc<Plugin>> {
        let rolled_back = self.lock_rolled_back();
        self.chain.load().plugins().iter().chain(rolled_back.values().map(|version| &version.plugin)).cloned().collect()
    }

    /// The versions that were rolled back and are still in the plugins directory, by their plugins' names.
    pub(crate) fn rolled_back(&self) -> BTreeMap<String, RolledBack> {
        self.lock_rolled_back().iter().map(|(name, version)| (name.clone(), version.report.clone())).collect()
    }

    /// Replaces the running chain by a loaded one. Changed plugins are on probation from now on. If a loaded plugin is
    /// a version that was rolled back, the version that replaced it stays.
    pub(crate) fn install(self: &Arc<Self>, loaded: Chain, now: Instant) {
        let mut rolled_back = self.lock_rolled_back();
        rolled_back.retain(|_, version| loaded.plugins().iter().any(|plugin| Arc::ptr_eq(plugin, &version.plugin)));
        let running = self.chain.load_full();
        let mut replaced = Vec::new();
        let plugins = loaded.plugins().iter().map(|plugin| {
            let before = running.find(plugin.name());
            match before {
                Some(before) if rolled_back.contains_key(plugin.name()) => return before.clone(),
                Some(before) if Arc::ptr_eq(before, plugin) => {}
                Some(before) => {
                    start_probation(plugin, before.clone(), self, now);
                    replaced.push(before.clone());
                }
                None => {
                    if let Some(fallback) = canary_fallback(plugin, &loaded) {
                        start_probation(plugin, fallback, self, now);
                    }
                }
            }
            plugin.clone()
        });
        let chain = loaded.with_plugins(plugins.collect());
        self.chain.store(Arc::new(chain));
        for plugin in replaced {
            // Only one version back is kept.
            plugin.observer().clear();
            plugin.pool().drain();
        }
    }

    /// Replaces a failed version by the version before, unless the failed one was replaced meanwhile.
    fn roll_back(&self, failed: &Arc<Plugin>, previous: Arc<Plugin>, reason: String) {
        let mut rolled_back = self.lock_rolled_back();
        let running = self.chain.load_full();
        if !running.plugins().iter().any(|plugin| Arc::ptr_eq(plugin, failed)) {
            return;
        }
        let (name, back_to) = (failed.name(), previous.provenance().sha256.clone());
        let swap = |plugin: &Arc<Plugin>| if Arc::ptr_eq(plugin, failed) { previous.clone() } else { plugin.clone() };
        self.chain.store(Arc::new(running.with_plugins(running.plugins().iter().map(swap).collect())));
        let (sha256, version) = (failed.provenance().sha256.to_string(), failed.provenance().version.clone());
        tracing::error!(
            plugin = name,
            sha256,
            back_to = &*back_to,
            reason,
            "the plugin is rolled back to the version before"
        );
        metrics::counter!("arcyou_plugin_rollbacks_total", "plugin" => name.to_string()).increment(1);
        let report = RolledBack { sha256, version: version.map(|version| version.to_string()), reason, at: rfc3339() };
        rolled_back.insert(name.to_string(), RolledBackVersion { plugin: failed.clone(), report });
        failed.pool().drain();
    }

    /// Drops versions that are kept no longer.
    pub(crate) fn expire(&self, now: Instant) {
        self.chain.load().plugins().iter().for_each(|plugin| plugin.observer().expire(now));
    }

    fn lock_rolled_back(&self) -> MutexGuard<'_, BTreeMap<String, RolledBackVersion>> {
        self.rolled_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version to return to for a new canary, which has no version before: the plugin itself, with the canary's entry.
fn canary_fallback(canary: &Plugin, loaded: &Chain) -> Option<Arc<Plugin>> {
    let entry = canary.entry();
    let Share::Canary(main, _) = &entry.share else { return None };
    let main = loaded.plugins().iter().find(|plugin| plugin.name() == main)?;
    let fallback = Arc::new(main.copy_with_entry(entry.clone()).ok()?);
    fallback.pool().drain();
    Some(fallback)
}

pub(super) fn rfc3339() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Observes a version on probation, and holds the version before.
struct VersionObserver {
    /// Weak, since the plugin holds its observer.
    plugin: Weak<Plugin>,
    probation: Mutex<Probation>,
    previous: Arc<Plugin>,
    versions: Weak<Versions>,
}

/// Puts a plugin on probation, unless its entry disables rollback.
fn start_probation(plugin: &Arc<Plugin>, previous: Arc<Plugin>, versions: &Arc<Versions>, now: Instant) {
    let config = plugin.entry().rollback;
    if config.enabled {
        let (probation, versions) = (Mutex::new(Probation::new(config, now)), Arc::downgrade(versions));
        plugin.observer().set(Arc::new(VersionObserver {
            plugin: Arc::downgrade(plugin),
            probation,
            previous,
            versions,
        }));
    }
}

impl CallObserver for VersionObserver {
    /// If this was one failure too many, the version before runs again when this returns.
    fn on_call(&self, result: CallResult, now: Instant) {
        let Some(plugin) = self.plugin.upgrade() else { return };
        let status = self.probation().record(result, now);
        match status {
            ProbationStatus::OnProbation => {}
            ProbationStatus::Proven => {
                plugin.observer().clear();
            }
            ProbationStatus::Failed { failures, calls } => {
                // Of several calls that fail at once, only one rolls back.
                if !plugin.observer().clear() {
                    return;
                }
                let Some(versions) = self.versions.upgrade() else { return };
                let last = plugin.last_failure().unwrap_or_default();
                let reason = format!("{failures} of {calls} calls failed, the last one: {last}");
                versions.roll_back(&plugin, self.previous.clone(), reason);
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.probation().is_over(now)
    }
}

impl VersionObserver {
    fn probation(&self) -> MutexGuard<'_, Probation> {
        self.probation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
