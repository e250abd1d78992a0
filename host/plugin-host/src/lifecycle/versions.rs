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
struct RefusedVersion {
    plugin: Arc<Plugin>,
    told: RolledBack,
}

/// The chain, and what may take the place of its newest parts.
#[derive(Default)]
pub(crate) struct Versions {
    chain: ArcSwap<Chain>,
    /// By name. Its lock is held by whoever changes the chain.
    refused: Mutex<BTreeMap<String, RefusedVersion>>,
}

impl Versions {
    pub(crate) fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Plugins that are loaded already: those that run, and those that were refused.
    pub(crate) fn known(&self) -> Vec<Arc<Plugin>> {
        let refused = self.refused();
        self.chain.load().plugins().iter().chain(refused.values().map(|refused| &refused.plugin)).cloned().collect()
    }

    /// The versions that failed and still stand in the plugins directory, by their plugins' names.
    pub(crate) fn rolled_back(&self) -> BTreeMap<String, RolledBack> {
        self.refused().iter().map(|(name, refused)| (name.clone(), refused.told.clone())).collect()
    }

    /// Puts a loaded chain in the place of the one that runs. What changed is watched from now on; where the loaded
    /// plugin is a version that was refused, the one that stands in for it goes on.
    pub(crate) fn install(self: &Arc<Self>, loaded: Chain, now: Instant) {
        let mut refused = self.refused();
        refused.retain(|_, refused| loaded.plugins().iter().any(|plugin| Arc::ptr_eq(plugin, &refused.plugin)));
        let running = self.chain.load_full();
        let mut replaced = Vec::new();
        let plugins = loaded.plugins().iter().map(|plugin| {
            let before = running.find(plugin.name());
            match before {
                Some(before) if refused.contains_key(plugin.name()) => return before.clone(),
                Some(before) if Arc::ptr_eq(before, plugin) => {}
                Some(before) => {
                    watch(plugin, before.clone(), self, now);
                    replaced.push(before.clone());
                }
                None => {
                    if let Some(stand_in) = stand_in(plugin, &loaded) {
                        watch(plugin, stand_in, self, now);
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
        let mut refused = self.refused();
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
        let told = RolledBack { sha256, version: version.map(|version| version.to_string()), reason, at: rfc3339() };
        refused.insert(name.to_string(), RefusedVersion { plugin: failed.clone(), told });
        failed.pool().drain();
    }

    /// Lets go of versions that are kept no longer.
    pub(crate) fn expire(&self, now: Instant) {
        self.chain.load().plugins().iter().for_each(|plugin| plugin.observer().expire(now));
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, RefusedVersion>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A canary that is new has no version before; the plugin itself takes its conversations back.
fn stand_in(canary: &Plugin, loaded: &Chain) -> Option<Arc<Plugin>> {
    let entry = &canary.origin().1;
    let Share::Canary(main, _) = &entry.share else { return None };
    let main = loaded.plugins().iter().find(|plugin| plugin.name() == main)?;
    let stand_in = Arc::new(main.stand_in(entry.clone()).ok()?);
    stand_in.pool().drain();
    Some(stand_in)
}

fn rfc3339() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The first calls of a version, with the one before it to go back to.
struct Watched {
    probation: Mutex<Probation>,
    previous: Arc<Plugin>,
    versions: Weak<Versions>,
}

/// Observes a plugin from now on, unless its entry says that it stays whatever it does.
fn watch(plugin: &Plugin, previous: Arc<Plugin>, versions: &Arc<Versions>, now: Instant) {
    let config = plugin.origin().1.rollback;
    if config.enabled {
        let (probation, versions) = (Mutex::new(Probation::new(config, now)), Arc::downgrade(versions));
        plugin.observer().set(Arc::new(Watched { probation, previous, versions }));
    }
}

impl CallObserver for Watched {
    /// When it was one failure too many the version before is back when this returns.
    fn called(&self, plugin: &Arc<Plugin>, result: CallResult, now: Instant) {
        let status = self.probation().called(result, now);
        match status {
            ProbationStatus::Watching => {}
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
                versions.roll_back(plugin, self.previous.clone(), reason);
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.probation().is_over(now)
    }
}

impl Watched {
    fn probation(&self) -> MutexGuard<'_, Probation> {
        self.probation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
