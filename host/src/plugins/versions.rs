//! The chain that runs, and for each plugin that was changed lately the version before, to go back to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::chain::Chain;
use super::manifest::Share;
use super::plugin::Plugin;
use super::rollback::{Finding, Probation, Went};
use super::verdict::Judge as _;

/// A version that failed, in whose place the one before runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RolledBack {
    /// The digest of its file, in hexadecimal digits.
    pub sha256: String,
    /// What its author calls it, if the file says.
    pub version: Option<String>,
    /// Why it went.
    pub reason: String,
    /// When, in UTC, as RFC 3339.
    pub at: String,
}

/// A refused version is kept, so that another reload of the same file and entry is known for what it is.
struct Refused {
    plugin: Arc<Plugin>,
    told: RolledBack,
}

/// The chain, and what may take the place of its newest parts.
#[derive(Default)]
pub(crate) struct Versions {
    chain: ArcSwap<Chain>,
    /// By name. Its lock is held by whoever changes the chain.
    refused: Mutex<BTreeMap<String, Refused>>,
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

    /// Puts a loaded chain in the place of the one that runs. What changed is watched from now on; where the loaded plugin is a
    /// version that was refused, the one that stands in for it goes on.
    pub(crate) fn install(self: &Arc<Self>, loaded: Chain, now: Instant) {
        let mut refused = self.refused();
        refused.retain(|_, refused| loaded.plugins().iter().any(|plugin| Arc::ptr_eq(plugin, &refused.plugin)));
        let running = self.chain.load_full();
        let mut replaced = Vec::new();
        let plugins = loaded.plugins().iter().map(|plugin| {
            let before = running.find(plugin.name());
            match before {
                Some(before) if refused.contains_key(&**plugin.name()) => return before.clone(),
                Some(before) if Arc::ptr_eq(before, plugin) => {}
                Some(before) => {
                    plugin.watch().begin(plugin, before.clone(), self, now);
                    replaced.push(before.clone());
                }
                None => {
                    if let Some(stand_in) = stand_in(plugin, &loaded) {
                        plugin.watch().begin(plugin, stand_in, self, now);
                    }
                }
            }
            plugin.clone()
        });
        let chain = loaded.with(plugins.collect());
        self.chain.store(Arc::new(chain));
        for plugin in replaced {
            // One version back is far enough.
            plugin.watch().end();
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
            plugin = &**name,
            sha256,
            back_to = &*back_to,
            reason,
            "the plugin is rolled back to the version before"
        );
        metrics::counter!("arcyou_plugin_rollbacks_total", "plugin" => name.to_string()).increment(1);
        let told = RolledBack { sha256, version: version.map(|version| version.to_string()), reason, at: rfc3339() };
        refused.insert(name.to_string(), Refused { plugin: failed.clone(), told });
        failed.pool().drain();
    }

    /// Lets go of versions that are kept no longer.
    pub(crate) fn expire(&self, now: Instant) {
        self.chain.load().plugins().iter().for_each(|plugin| plugin.watch().expire(now));
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A canary that is new has no version before; the plugin itself takes its conversations back.
fn stand_in(canary: &Plugin, loaded: &Chain) -> Option<Arc<Plugin>> {
    let entry = &canary.origin().1;
    let Share::Canary(main, _) = &entry.share else { return None };
    let main = loaded.plugins().iter().find(|plugin| &**plugin.name() == main)?;
    let stand_in = Arc::new(main.stand_in(entry.clone()).ok()?);
    stand_in.pool().drain();
    Some(stand_in)
}

fn rfc3339() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default()
}

/// A plugin's first time in the chain, if there is a version to go back to.
#[derive(Default)]
pub(crate) struct Watch {
    /// Mirrors `watched`, so that the usual call takes no lock.
    is_on: AtomicBool,
    watched: Mutex<Option<Watched>>,
}

struct Watched {
    probation: Probation,
    previous: Arc<Plugin>,
    versions: Weak<Versions>,
}

impl Watch {
    fn begin(&self, plugin: &Plugin, previous: Arc<Plugin>, versions: &Arc<Versions>, now: Instant) {
        let config = plugin.origin().1.rollback;
        if config.enabled {
            let versions = Arc::downgrade(versions);
            *self.watched() = Some(Watched { probation: Probation::new(config, now), previous, versions });
            self.is_on.store(true, Ordering::Release);
        }
    }

    /// Whether a failure might still bring the version before back.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    fn end(&self) -> Option<Watched> {
        self.is_on.store(false, Ordering::Release);
        self.watched().take()
    }

    fn expire(&self, now: Instant) {
        let over = |watched: &Watched| watched.probation.is_over(now);
        if self.is_on() && self.watched().as_ref().is_some_and(over) {
            self.end();
        }
    }

    /// A call of `plugin` went so. When it was one failure too many the version before is back when this returns.
    pub(crate) fn called(&self, plugin: &Arc<Plugin>, went: Went, now: Instant) {
        if !self.is_on() {
            return;
        }
        let finding = self.watched().as_mut().map(|watched| watched.probation.called(went, now));
        match finding {
            None | Some(Finding::Watching) => {}
            Some(Finding::Proven) => drop(self.end()),
            Some(Finding::Failed { failures, calls }) => {
                // Of several calls that fail at once, one takes it.
                let Some(Watched { previous, versions, .. }) = self.end() else { return };
                let Some(versions) = versions.upgrade() else { return };
                let last = plugin.last_failure().unwrap_or_default();
                versions.roll_back(
                    plugin,
                    previous,
                    format!("{failures} of {calls} calls failed, the last one: {last}"),
                );
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Option<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
