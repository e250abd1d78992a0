//! The metrics of one plugin.

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};

use super::evaluation::CheckedVerdict;
use crate::bindings::Hook;
use crate::runtime::fault::FaultKind;

/// Describes the metrics of all plugins, and begins those that belong to none.
pub(crate) fn begin() {
    describe_gauge!("arcyou_plugin_info", "1 for each plugin in the chain, with its version and its file's SHA-256");
    describe_counter!("arcyou_plugin_verdicts_total", "Verdicts of a plugin, by hook");
    describe_histogram!("arcyou_plugin_call_seconds", "Time of one call of a plugin, by hook");
    describe_counter!("arcyou_plugin_failures_total", "Failed calls of a plugin, by kind");
    describe_counter!("arcyou_plugin_skipped_total", "Calls not made: open breaker, quarantine, or no time left");
    describe_gauge!("arcyou_plugin_breaker_open", "1 while a plugin is not called because it failed too often");
    describe_gauge!("arcyou_plugin_instances", "Instances of a plugin that exist");
    describe_gauge!("arcyou_plugin_memory_bytes", "Memory of a plugin's instances");
    describe_gauge!("arcyou_plugin_rolled_back", "1 while the version before runs in the place of a plugin's newest");
    describe_counter!("arcyou_plugin_rollbacks_total", "New versions in whose place the one before was put back");
    describe_counter!("arcyou_plugin_kv_unavailable_total", "Calls of a plugin to its values that failed");
    describe_counter!("arcyou_plugin_reloads_total", "Reloads of the plugins directory, by result");
    describe_counter!(
        "arcyou_plugin_records_dropped_total",
        "Failed calls that left no record, because there were many"
    );
    for result in ["loaded", "refused"] {
        counter!("arcyou_plugin_reloads_total", "result" => result).absolute(0);
    }
    counter!("arcyou_plugin_records_dropped_total").absolute(0);
}

/// The names of verdicts, in the order of [`verdict_index`].
pub(crate) const VERDICT_NAMES: [&str; 5] = ["accept", "reject", "replace", "discard", "hold"];

/// The index at which a verdict is counted.
pub(crate) fn verdict_index(verdict: &CheckedVerdict) -> usize {
    match verdict {
        CheckedVerdict::Accept => 0,
        CheckedVerdict::Reject(_) => 1,
        CheckedVerdict::Replace(_) => 2,
        CheckedVerdict::Discard => 3,
        CheckedVerdict::Hold(_) => 4,
    }
}

/// The metrics are looked up once, since finding one by its labels costs as much as a call.
pub(crate) struct PluginMetrics {
    pub(crate) verdicts: [[Counter; 5]; 3],
    pub(crate) seconds: [Histogram; 3],
    pub(crate) failures: [Counter; 9],
    pub(crate) skipped: Counter,
    pub(crate) breaker_open: Gauge,
}

impl PluginMetrics {
    pub(crate) fn new(plugin: &str) -> Self {
        let plugin = || plugin.to_owned();
        let plugin_metrics = Self {
            verdicts: Hook::ALL.map(|hook| {
                VERDICT_NAMES.map(|verdict| {
                    let hook = hook.name();
                    metrics::counter!(
                        "arcyou_plugin_verdicts_total", "plugin" => plugin(), "hook" => hook, "verdict" => verdict
                    )
                })
            }),
            seconds: Hook::ALL.map(
                |hook| metrics::histogram!("arcyou_plugin_call_seconds", "plugin" => plugin(), "hook" => hook.name()),
            ),
            failures: FaultKind::ALL.map(
                |kind| metrics::counter!("arcyou_plugin_failures_total", "plugin" => plugin(), "kind" => kind.name()),
            ),
            skipped: metrics::counter!("arcyou_plugin_skipped_total", "plugin" => plugin()),
            breaker_open: metrics::gauge!("arcyou_plugin_breaker_open", "plugin" => plugin()),
        };
        for name in ["arcyou_plugin_rollbacks_total", "arcyou_plugin_kv_unavailable_total"] {
            counter!(name, "plugin" => plugin()).absolute(0);
        }
        plugin_metrics.breaker_open.set(0.0);
        plugin_metrics
    }
}
