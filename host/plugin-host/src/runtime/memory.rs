//! Memory of instances: limited for each instance, counted for each plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// The instances that a plugin has now, including those in a call, and their memory.
#[derive(Debug, Default)]
pub(crate) struct LiveInstances {
    pub(crate) instances: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
}

/// Limits an instance's memory, and tracks how much it uses.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    pub(crate) max: usize,
    pub(crate) used: usize,
    live: Arc<LiveInstances>,
}

impl MemoryLimit {
    /// For an instance that is about to start. `live` counts it until this is dropped.
    pub(crate) fn new(max: usize, live: Arc<LiveInstances>) -> Self {
        live.instances.fetch_add(1, Ordering::Relaxed);
        Self { max, used: 0, live }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.live.instances.fetch_sub(1, Ordering::Relaxed);
        self.live.bytes.fetch_sub(self.used, Ordering::Relaxed);
    }
}

/// A plugin asked for more memory than its limit.
#[derive(Debug, thiserror::Error)]
#[error("it wants {wanted} bytes of memory and may have {max}")]
pub(crate) struct MemoryLimitExceeded {
    wanted: usize,
    max: usize,
}

/// Elements of a function table. The largest known plugins need less than a tenth of it.
const MAX_TABLE_ELEMENTS: usize = 100_000;

impl ResourceLimiter for MemoryLimit {
    // An error gives a readable cause. With `Ok(false)` the guest would abort with an anonymous trap.
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_sub(current).saturating_add(desired);
        if wanted > self.max {
            return Err(MemoryLimitExceeded { wanted, max: self.max }.into());
        }
        self.live.bytes.fetch_add(wanted.saturating_sub(self.used), Ordering::Relaxed);
        self.used = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}
