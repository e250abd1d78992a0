//! `plugin check`: a plugin's properties, and whether a gateway would load it.

use std::process::ExitCode;

use super::args::{PluginArgs, PluginFile, loader};
use super::check_dir;
use super::output::{kib, print_field};
use super::plugin_log::PluginLog;
use crate::loading::cases;
use crate::loading::loader::{Inspection, Loader};
use crate::runtime::limits::Limits;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    plugin: PluginArgs,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(dir) = options.plugin.plugins_dir()? {
        return check_dir::run(dir);
    }
    let plugin_file = options.plugin.resolve()?;
    let plugin_log = PluginLog::capture()?;
    let loader = loader()?;
    let Inspection { bytes, imports, exports } = loader.inspect(&plugin_file.wasm, &plugin_file.entry.grants)?;
    print_field("file", format_args!("{}, {}", plugin_file.wasm.display(), kib(bytes)));
    for export in exports {
        print_field("exports", export);
    }
    for (import, granted) in imports {
        print_field("imports", format_args!("{import}: {}", if granted { "granted" } else { "NOT GRANTED" }));
    }
    limits(&plugin_file.entry.limits);
    print_field("config", &plugin_file.entry.config);
    let loads = loads(&plugin_file, &loader);
    plugin_log.take().iter().for_each(|line| print_field("log", line));
    Ok(match loads {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            print_field("loads", format_args!("NO: {reason}"));
            ExitCode::FAILURE
        }
    })
}

fn limits(limits: &Limits) {
    let Limits {
        deadline_ms,
        startup_ms,
        memory_mib,
        output_bytes,
        log_lines,
        instances,
        calls_per_instance,
        wall_ms,
        waiting,
        ..
    } = limits;
    let (deadline, startup, memory) = (deadline_ms.get(), startup_ms.get(), memory_mib.get());
    print_field(
        "limits",
        format_args!(
            "{deadline} ms a call, {startup} ms to start, {memory} MiB, {} of output",
            kib(output_bytes.get() as usize)
        ),
    );
    let (lines, instances, calls) = (log_lines.get(), instances.get(), calls_per_instance.get());
    print_field("", format_args!("{lines} log lines a call, {instances} warm instances, {calls} calls each"));
    let (wall, waiting) = (wall_ms.get(), waiting.get());
    print_field("", format_args!("where it waits, for kv or http: {wall} ms by the clock, {waiting} calls at once"));
}

/// Loads the plugin in the same steps as a gateway.
fn loads(plugin_file: &PluginFile, loader: &Loader) -> Result<(), String> {
    let plugin = plugin_file.load(loader).map_err(|error| error.to_string())?;
    if let Some(version) = &plugin.provenance().version {
        print_field("version", version);
    }
    print_field("hooks", plugin.status().hooks.join(", "));
    if let Some(usage) = plugin.pool().last_usage() {
        print_field("starts", format_args!("with {} of memory", kib(usage.memory)));
    }
    match cases::case_file_of(&plugin_file.wasm) {
        Some(file) if plugin_file.entry.cases => {
            cases::run_cases_beside(&plugin_file.wasm, &plugin).map_err(|failure| failure.to_string())?;
            print_field("cases", format_args!("{}: all hold", file.display()));
        }
        Some(_) => print_field("cases", "switched off in plugins.toml"),
        None => print_field("cases", "none"),
    }
    print_field("loads", "yes");
    Ok(())
}
