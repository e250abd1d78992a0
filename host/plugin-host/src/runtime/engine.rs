//! The engine that compiles and runs plugins, and enforces their limits.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::MAX_MEMORY_MIB;

/// The Wasm stack of one call: deep enough for legitimate recursion, and far below the 2 MiB of a thread's stack.
const STACK_BYTES: usize = 512 << 10;

/// Instances of all plugins together. An unused one costs only address space.
const MAX_INSTANCES: u32 = 2_000;

pub(crate) fn engine() -> Result<Engine, wasmtime::Error> {
    // Address space for that many memories of 4 GiB may be unavailable. Without the pool, instances start more slowly.
    pooled().or_else(|error| {
        tracing::warn!(%error, "no room for a pool of plugin memories, using one mapping for each");
        Engine::new(&base_config())
    })
}

/// For authors: the same engine, but it counts the instructions of plugins, which costs time.
pub(crate) fn metered_engine() -> Result<Engine, wasmtime::Error> {
    Engine::new(base_config().consume_fuel(true))
}

fn base_config() -> Config {
    let mut config = Config::new();
    // A plugin runs one call at a time, on a fiber or not. Support for concurrency would double the cost of a call.
    config.concurrency_support(false).epoch_interruption(true).max_wasm_stack(STACK_BYTES);
    config
}

fn pooled() -> Result<Engine, wasmtime::Error> {
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size((MAX_MEMORY_MIB as usize) << 20).linear_memory_keep_resident(0);
    // Far more than there are threads, so that a plugin does not fail because other plugins have warm instances. A
    // component that wraps a module takes three core instances.
    pool.total_component_instances(MAX_INSTANCES).total_memories(MAX_INSTANCES);
    pool.total_core_instances(3 * MAX_INSTANCES).total_tables(3 * MAX_INSTANCES).total_stacks(MAX_INSTANCES);
    let mut config = base_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}
