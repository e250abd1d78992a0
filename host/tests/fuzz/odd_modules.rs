//! Modules that no compiler makes: valid WebAssembly by wasm-smith, with every proposal that there is, shaped as a
//! plugin. Each is refused, fails or answers; none ends the process.

use std::fs;

use arbitrary::Unstructured;
use proptest::collection::vec;
use proptest::prelude::any;
use wasm_smith::{Config, Module};
use wit_component::StringEncoding;
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

use crate::fuzz;
use crate::plugins_dir::load;

const PACKAGE: &str = include_str!("../../../plugin-sdk/wit/1.0.0/gateway.wit");

/// The world of a plugin that needs nothing to be granted.
fn world() -> (Resolve, WorldId) {
    let package = PACKAGE.split("world plugin").next().unwrap();
    let parts = "import log; export configure; export validate; export filter;";
    let mut resolve = Resolve::default();
    let package = resolve.push_str("gateway.wit", &format!("{package}world plugin {{ {parts} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    (resolve, world)
}

/// Which modules are made. Half of them have only what is allowed, so that they are run.
fn config(shape: &[u8], everything: bool) -> Config {
    Config {
        module_shape: Some(shape.to_vec()),
        bulk_memory_enabled: true,
        reference_types_enabled: true,
        simd_enabled: true,
        multi_value_enabled: true,
        extended_const_enabled: true,
        exceptions_enabled: everything,
        gc_enabled: everything,
        custom_page_sizes_enabled: everything,
        memory64_enabled: everything,
        relaxed_simd_enabled: everything,
        shared_everything_threads_enabled: everything,
        tail_call_enabled: everything,
        threads_enabled: everything,
        wide_arithmetic_enabled: everything,
        max_memories: if everything { 4 } else { 1 },
        max_memory32_bytes: 1 << 20,
        max_tables: 4,
        max_table_elements: 1_000,
        max_instructions: 1_000,
        ..Config::default()
    }
}

#[test]
fn no_module_ends_the_process() {
    let (resolve, world) = world();
    let shape = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    // Kept if the process ends: the module that did it is the file in there.
    let dir = tempfile::tempdir().unwrap();
    println!("odd modules: {}", dir.path().display());
    let manifest = "[[plugin]]\nname = \"guest\"\n[plugin.limits]\nstartup_ms = 100\ndeadline_ms = 50\n";
    fs::write(dir.path().join("plugins.toml"), manifest).unwrap();
    fuzz(file!(), "odd modules", 16, &(any::<bool>(), vec(any::<u8>(), 0..8_192)), |(everything, entropy)| {
        let Ok(module) = Module::new(config(&shape, everything), &mut Unstructured::new(&entropy)) else {
            return "not enough entropy";
        };
        let mut wasm = module.to_bytes();
        wit_component::embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
        fs::write(dir.path().join("guest.wasm"), wasm).unwrap();
        load(dir.path(), None)
    });
}
