//! The metrics of one plugin.

use metrics::{Counter, Gauge, Histogram};

use super::evaluation::CheckedVerdict;
use crate::bindings::Hook;
use crate::runtime::fault::FaultKind;

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
        plugin_metrics.breaker_open.set(0.0);
        plugin_metrics
    }
}
