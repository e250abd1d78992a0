//! The counters of one version of a plugin, for its status. Metrics count the same across versions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::fault::FaultKind;

/// Counts since the plugin was loaded.
pub(crate) struct PluginCounters<const VERDICTS: usize> {
    verdicts: [AtomicU64; VERDICTS],
    failures: [AtomicU64; FaultKind::ALL.len()],
}

impl<const VERDICTS: usize> PluginCounters<VERDICTS> {
    pub(crate) fn new() -> Self {
        Self {
            verdicts: [const { AtomicU64::new(0) }; VERDICTS],
            failures: [const { AtomicU64::new(0) }; FaultKind::ALL.len()],
        }
    }

    pub(crate) fn count_verdict(&self, index: usize) {
        self.verdicts[index].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self, kind: FaultKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All counts above zero, by the names of verdicts and of kinds of fault.
    pub(crate) fn by_name(&self, verdicts: &[&'static str; VERDICTS]) -> [BTreeMap<&'static str, u64>; 2] {
        let counted = |(name, count): (&'static str, &AtomicU64)| {
            Some((name, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
        };
        [
            verdicts.iter().copied().zip(&self.verdicts).filter_map(counted).collect(),
            FaultKind::ALL.map(FaultKind::name).into_iter().zip(&self.failures).filter_map(counted).collect(),
        ]
    }
}
