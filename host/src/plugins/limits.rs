//! What a plugin may use at most, and the engine that enforces it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, de};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter};

use super::counts::Tally;

/// A number within bounds, so that an impossible limit is an error with its line in `plugins.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Within<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    /// For numbers that stand in the code.
    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| de::Error::custom(format_args!("{number} is not within {MIN} and {MAX}")))
    }
}

/// The table `[plugin.limits]`: what one plugin may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// For one call. Far above what a call takes, since a busy machine's pauses count too.
    pub(crate) deadline_ms: Within<1, 10_000>,
    /// For one call of a plugin that waits for others, by the clock on the wall; `deadline_ms` counts only what it works.
    pub(crate) wall_ms: Within<1, 60_000>,
    /// Calls that wait at once; others wait for their turn, within their time.
    pub(crate) waiting: Within<1, 1_000>,
    /// For a new instance, its configuration included.
    pub(crate) startup_ms: Within<1, 60_000>,
    /// Linear memory of one instance.
    pub(crate) memory_mib: Within<1, MAX_MEMORY_MIB>,
    /// What one call may hand to the gateway: its answer, and each of its log lines.
    pub(crate) output_bytes: Within<1024, { 16 << 20 }>,
    /// Lines that one call may log; more are counted and dropped.
    pub(crate) log_lines: Within<0, 10_000>,
    /// Instances kept warm.
    pub(crate) instances: Within<1, 256>,
    /// An instance that has answered so many calls is replaced: small leaks stay small.
    pub(crate) calls_per_instance: Within<1, { u32::MAX }>,
}

/// The pooling allocator must know it in advance.
const MAX_MEMORY_MIB: u32 = 512;

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: Within::new(100),
            wall_ms: Within::new(1_000),
            waiting: Within::new(100),
            startup_ms: Within::new(2_000),
            memory_mib: Within::new(16),
            output_bytes: Within::new(256 << 10),
            log_lines: Within::new(32),
            instances: Within::new(16),
            calls_per_instance: Within::new(50_000),
        }
    }
}

impl Limits {
    pub(crate) fn memory_bytes(&self) -> usize {
        (self.memory_mib.get() as usize) << 20
    }
}

/// Bytes of a log line that are kept.
pub(crate) const LOG_LINE_BYTES: usize = 4096;

/// Wasm stack of one call: deep enough for honest recursion, and far from the end of a 2 MiB thread.
const STACK_BYTES: usize = 512 << 10;

/// Instances of all plugins together; address space is all that an unused one takes.
const INSTANCES: u32 = 2_000;

/// What runs plugins.
pub(crate) fn engine() -> Result<Engine, wasmtime::Error> {
    // Address space for so many memories of 4 GiB is not to be had everywhere; without it instances start more slowly.
    pooled().or_else(|error| {
        tracing::warn!(%error, "no room for a pool of plugin memories, using one mapping for each");
        Engine::new(&base())
    })
}

/// The same for authors, with the one difference that it counts the instructions of plugins, which costs time.
pub(crate) fn metered_engine() -> Result<Engine, wasmtime::Error> {
    Engine::new(base().consume_fuel(true))
}

fn base() -> Config {
    let mut config = Config::new();
    // A plugin does one thing at a time, on a fiber or not: support for more would double the cost of a call.
    config.concurrency_support(false).epoch_interruption(true).max_wasm_stack(STACK_BYTES);
    config
}

fn pooled() -> Result<Engine, wasmtime::Error> {
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size((MAX_MEMORY_MIB as usize) << 20).linear_memory_keep_resident(0);
    // Far more than there are threads: a plugin must not fail because others have warm instances. A component around a
    // module is three core instances.
    pool.total_component_instances(INSTANCES).total_memories(INSTANCES);
    pool.total_core_instances(3 * INSTANCES).total_tables(3 * INSTANCES).total_stacks(INSTANCES);
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Bounds an instance's memory, and remembers how much it has.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    pub(crate) max: usize,
    pub(crate) used: usize,
    tally: Arc<Tally>,
}

impl MemoryLimit {
    /// Of an instance that is about to start; counted in `tally` as long as it lives.
    pub(crate) fn new(max: usize, tally: Arc<Tally>) -> Self {
        tally.instances.fetch_add(1, Ordering::Relaxed);
        Self { max, used: 0, tally }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.tally.instances.fetch_sub(1, Ordering::Relaxed);
        self.tally.bytes.fetch_sub(self.used, Ordering::Relaxed);
    }
}

/// The error of a plugin that wants more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("it wants {wanted} bytes of memory and may have {max}")]
pub(crate) struct OverMemory {
    wanted: usize,
    max: usize,
}

/// Entries of a function table; the largest honest plugins stay below a tenth of it.
const MAX_TABLE: usize = 100_000;

impl ResourceLimiter for MemoryLimit {
    // An error gives a readable cause; `Ok(false)` would let the guest abort with an anonymous trap.
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_sub(current).saturating_add(desired);
        if wanted > self.max {
            return Err(OverMemory { wanted, max: self.max }.into());
        }
        self.tally.bytes.fetch_add(wanted.saturating_sub(self.used), Ordering::Relaxed);
        self.used = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}
