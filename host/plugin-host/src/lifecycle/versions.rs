//! The chain that runs, and for each plugin that was changed lately the version before, to go back to.

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

/// A refused version is kept, so that another reload of the same file and entry is known for what it is.
struct RolledBackVersion {
    plugin: Arc<Plugin>,
    report: RolledBack,
}

/// The chain, and what may take the place of its newest parts.
#[derive(Default)]
pub(crate) struct Versions {
    chain: ArcSwap<Chain>,
    /// By name. Its lock is held by whoever changes the chain.
    rolled_back: Mutex<BTreeMap<String, RolledBackVersion>>,
}

impl Versions {
    pub(crate) fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Plugins that are loaded already: those that run, and those that were rolled_back.
    pub(crate) fn loaded_plugins(&self) -> Vec<Arc<Plugin>> {
        let rolled_back = self.lock_rolled_back();
        self.chain.load().plugins().iter().chain(rolled_back.values().map(|version| &version.plugin)).cloned().collect()
    }

    /// The versions that failed and still stand in the plugins directory, by their plugins' names.
    pub(crate) fn rolled_back(&self) -> BTreeMap<String, RolledBack> {
        self.lock_rolled_back().iter().map(|(name, version)| (name.clone(), version.report.clone())).collect()
    }

    /// Puts a loaded chain in the place of the one that runs. What changed is watched from now on; where the loaded
    /// plugin is a version that was refused, the one that stands in for it goes on.
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
                    observe(plugin, before.clone(), self, now);
                    replaced.push(before.clone());
                }
                None => {
                    if let Some(fallback) = canary_fallback(plugin, &loaded) {
                        observe(plugin, fallback, self, now);
                    }
                }
            }
            plugin.clone()
        });
        let chain = loaded.with(plugins.collect());
        self.chain.store(Arc::new(chain));
        for plugin in replaced {
            // One version back is far enough.
            plugin.observer().clear();
            plugin.pool().drain();
        }
    }

    /// Puts the version before in the place of one that failed, unless that was replaced meanwhile.
    fn roll_back(&self, failed: &Arc<Plugin>, previous: Arc<Plugin>, reason: String) {
        let mut rolled_back = self.lock_rolled_back();
        let running = self.chain.load_full();
        if !running.plugins().iter().any(|plugin| Arc::ptr_eq(plugin, failed)) {
            return;
        }
        let (name, back_to) = (failed.name(), previous.provenance().sha256.clone());
        let swapped =
            |plugin: &Arc<Plugin>| if Arc::ptr_eq(plugin, failed) { previous.clone() } else { plugin.clone() };
        self.chain.store(Arc::new(running.with(running.plugins().iter().map(swapped).collect())));
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

    /// Lets go of versions that are kept no longer.
    pub(crate) fn expire(&self, now: Instant) {
        self.chain.load().plugins().iter().for_each(|plugin| plugin.observer().expire(now));
    }

    fn lock_rolled_back(&self) -> MutexGuard<'_, BTreeMap<String, RolledBackVersion>> {
        self.rolled_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A canary that is new has no version before; the plugin itself takes its conversations back.
fn canary_fallback(canary: &Plugin, loaded: &Chain) -> Option<Arc<Plugin>> {
    let entry = canary.entry();
    let Share::Canary(main, _) = &entry.share else { return None };
    let main = loaded.plugins().iter().find(|plugin| plugin.name() == main)?;
    let fallback = Arc::new(main.copy_with_entry(entry.clone()).ok()?);
    fallback.pool().drain();
    Some(fallback)
}

fn rfc3339() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The first calls of a version, with the one before it to go back to.
struct VersionObserver {
    /// Weak, since the plugin holds its observer.
    plugin: Weak<Plugin>,
    probation: Mutex<Probation>,
    previous: Arc<Plugin>,
    versions: Weak<Versions>,
}

/// Observes a plugin from now on, unless its entry says that it stays whatever it does.
fn observe(plugin: &Arc<Plugin>, previous: Arc<Plugin>, versions: &Arc<Versions>, now: Instant) {
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
    /// When it was one failure too many the version before is back when this returns.
    fn on_call(&self, result: CallResult, now: Instant) {
        let Some(plugin) = self.plugin.upgrade() else { return };
        let status = self.probation().record(result, now);
        match status {
            ProbationStatus::OnProbation => {}
            ProbationStatus::Proven => {
                plugin.observer().clear();
            }
            ProbationStatus::Failed { failures, calls } => {
                // Of several calls that fail at once, one takes it.
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
