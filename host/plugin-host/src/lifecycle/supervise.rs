//! Keeps the plugins up to date while the gateway runs, and shows operators their state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::health::Part;
use metrics::gauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::host::PluginHost;
use crate::chain::breaker::BreakerState;
use crate::chain::status::PluginStatus;
use crate::runtime::crash_mark::QUARANTINE_HELP;

/// Reloads the plugins when their files change or on `SIGHUP`, and keeps `part` up to date. It is down while a plugin
/// is not called because it failed too often or is quarantined, while a plugin is rolled back, or while the last reload
/// failed, so that the files differ from what is running. It warns while compiled code or records cannot be written.
/// Returns after `shutdown`.
pub async fn supervise(host: Arc<PluginHost>, part: Part, shutdown: CancellationToken) {
    let watch = host.watch(|_| ());
    let unwatched = watch.as_ref().err().map(|error| {
        tracing::warn!(%error, "the plugins directory cannot be watched: changes need a SIGHUP");
        format!("the plugins directory cannot be watched, so that changes need a SIGHUP: {error}")
    });
    let hang_ups = reload_on_sighup(host.clone());
    let hang_ups = tokio::spawn(shutdown.clone().run_until_cancelled_owned(hang_ups));
    let mut gauges = Gauges::default();
    loop {
        host.expire();
        let plugins = host.status();
        gauges.update(&plugins);
        let refused = host.refused().map(|refused| format!("the changed files are refused: {}", refused.reason));
        match refused.into_iter().chain(plugins.iter().filter_map(problem)).reduce(|all, next| format!("{all}; {next}"))
        {
            None => {
                match unwatched.iter().cloned().chain(host.unwritable()).reduce(|all, next| format!("{all}; {next}")) {
                    None => part.up(),
                    Some(warning) => part.up_but(warning),
                }
            }
            Some(reason) => part.down(reason),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            break;
        }
    }
    let _ = hang_ups.await;
}

/// For operators who want to wait for no watch, or whose files have not changed: a quarantined plugin is tried again.
async fn reload_on_sighup(host: Arc<PluginHost>) {
    let mut hang_ups = match signal(SignalKind::hangup()) {
        Ok(hang_ups) => hang_ups,
        Err(error) => return tracing::warn!(%error, "SIGHUP cannot be heard"),
    };
    while hang_ups.recv().await.is_some() {
        let host = host.clone();
        let reload = move || host.reload_and_log();
        if let Err(error) = tokio::task::spawn_blocking(reload).await {
            tracing::error!(%error, "the plugins were not reloaded");
        }
    }
}

/// What is wrong with a plugin, if anything.
fn problem(status: &PluginStatus) -> Option<String> {
    let plugin = &status.plugin;
    let resting = (status.breaker == BreakerState::Open)
        .then(|| format!("{plugin} is not called: {}", status.last_failure.as_deref().unwrap_or_default()));
    let quarantined = status.quarantined.then(|| {
        format!("{plugin} is not called: a gateway died while it ran this file; replace the file ({QUARANTINE_HELP})")
    });
    let back = status.rolled_back.as_ref();
    let back = back.map(|back| format!("{plugin} is rolled back to the version before: {}", back.reason));
    back.into_iter().chain(resting).chain(quarantined).reduce(|all, next| format!("{all}; {next}"))
}

/// Gauges that are set periodically, for each plugin that exists or existed.
#[derive(Default)]
struct Gauges {
    plugins: BTreeSet<String>,
    versions: BTreeSet<Version>,
}

/// Plugin, version and digest.
type Version = (String, String, String);

impl Gauges {
    fn update(&mut self, plugins: &[PluginStatus]) {
        self.plugins.extend(plugins.iter().map(|status| status.plugin.clone()));
        for name in &self.plugins {
            set_gauges(name, plugins.iter().find(|status| status.plugin == *name));
        }
        let version = |status: &PluginStatus| {
            (status.plugin.clone(), status.version.clone().unwrap_or_default(), status.sha256.clone())
        };
        let running: BTreeSet<Version> = plugins.iter().map(version).collect();
        self.versions.extend(running.iter().cloned());
        for version in &self.versions {
            let (plugin, stated, sha256) = version.clone();
            gauge!("arcyou_plugin_info", "plugin" => plugin, "version" => stated, "sha256" => sha256)
                .set(if running.contains(version) { 1.0 } else { 0.0 });
        }
    }
}

fn set_gauges(plugin: &str, status: Option<&PluginStatus>) {
    let plugin = || plugin.to_owned();
    gauge!("arcyou_plugin_instances", "plugin" => plugin()).set(status.map_or(0.0, |status| status.instances as f64));
    gauge!("arcyou_plugin_memory_bytes", "plugin" => plugin())
        .set(status.map_or(0.0, |status| status.memory_bytes as f64));
    let back = status.is_some_and(|status| status.rolled_back.is_some());
    gauge!("arcyou_plugin_rolled_back", "plugin" => plugin()).set(if back { 1.0 } else { 0.0 });
    let open = status.is_some_and(|status| status.breaker == BreakerState::Open);
    gauge!("arcyou_plugin_breaker_open", "plugin" => plugin()).set(if open { 1.0 } else { 0.0 });
}
