//! The engine that compiles and runs plugins, and enforces their limits.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use super::crash_mark;
use super::limits::MAX_MEMORY_MIB;

/// The Wasm stack of one call: deep enough for legitimate recursion, and far below the 2 MiB of a thread's stack.
const STACK_BYTES: usize = 512 << 10;

/// Instances of all plugins together. An unused one costs only address space.
const MAX_INSTANCES: u32 = 2_000;

/// What plugins may use of WebAssembly: what the tool chains of Rust, JavaScript and Python emit, and components, whose
/// parts are joined by code that the engine makes for two memories. Every
/// other proposal is off, since each is code of the engine that a hostile file could reach: without the engine's `gc`
/// feature, a module with GC types that is valid aborts the whole process when it is called (RUSTSEC-2026-0570).
const PROPOSALS: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::COMPONENT_MODEL);

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
    crash_mark::install();
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false).wasm_features(PROPOSALS, true);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use wasmtime::Module;

    use super::*;

    /// One module for each proposal that is off.
    const PROPOSALS_THAT_ARE_OFF: &[(&str, &str)] = &[
        ("a subtype", "(module (type $a (sub (func))) (type $b (sub final $a (func))))"),
        ("a struct", "(module (type (struct (field i32))))"),
        ("a typed function reference", "(module (type $f (func)) (func (param (ref null $f))))"),
        ("an exception", "(module (tag) (func (throw 0)))"),
        ("an atomic operation", "(module (memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0)))))"),
        ("a 64-bit memory", "(module (memory i64 1))"),
        ("a tail call", "(module (func (return_call 0)))"),
        ("two results", "(module (func (result i32 i32) (i32.const 0) (i32.const 0)))"),
        ("a small page", "(module (memory 1 (pagesize 1)))"),
        ("128-bit arithmetic", "(module (func (param i64) (drop (i64.mul_wide_s (local.get 0) (local.get 0))) drop))"),
        ("relaxed SIMD", "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))"),
        ("a continuation", "(module (type $f (func)) (type $c (cont $f)))"),
    ];

    #[test]
    fn what_no_tool_chain_emits_is_refused() {
        for engine in [engine().unwrap(), metered_engine().unwrap()] {
            for (what, text) in PROPOSALS_THAT_ARE_OFF {
                let module = wat::parse_str(text).unwrap();
                assert!(Module::new(&engine, module).is_err(), "{what}");
            }
            let plain = "(module (memory 1) (func (result v128) (i8x16.splat (i32.extend8_s (i32.const 0)))))";
            Module::new(&engine, wat::parse_str(plain).unwrap()).unwrap();
        }
    }
}
