//! `plugin check`: what a plugin is, and whether a gateway would load it.

use std::process::ExitCode;

use super::lines::Lines;
use super::subject::{Found, Subject, kib, loader, say};
use crate::loading::cases;
use crate::loading::loader::{Inspection, Loader};
use crate::runtime::limits::Limits;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    subject: Subject,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let found = options.subject.find()?;
    let lines = Lines::collect()?;
    let loader = loader()?;
    let Inspection { bytes, imports, exports } = loader.inspect(&found.wasm, &found.entry.grants)?;
    say("file", format_args!("{}, {}", found.wasm.display(), kib(bytes)));
    for export in exports {
        say("exports", export);
    }
    for (import, granted) in imports {
        say("imports", format_args!("{import}: {}", if granted { "granted" } else { "NOT GRANTED" }));
    }
    limits(&found.entry.limits);
    say("config", &found.entry.config);
    let loads = loads(&found, &loader);
    lines.take().iter().for_each(|line| say("log", line));
    Ok(match loads {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say("loads", format_args!("NO: {reason}"));
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
    say(
        "limits",
        format_args!(
            "{deadline} ms a call, {startup} ms to start, {memory} MiB, {} of output",
            kib(output_bytes.get() as usize)
        ),
    );
    let (lines, instances, calls) = (log_lines.get(), instances.get(), calls_per_instance.get());
    say("", format_args!("{lines} log lines a call, {instances} warm instances, {calls} calls each"));
    let (wall, waiting) = (wall_ms.get(), waiting.get());
    say("", format_args!("where it waits, for kv or http: {wall} ms by the clock, {waiting} calls at once"));
}

/// What the gateway does at its start, one step after the other.
fn loads(found: &Found, loader: &Loader) -> Result<(), String> {
    let plugin = found.load(loader).map_err(|error| error.to_string())?;
    if let Some(version) = &plugin.provenance().version {
        say("version", version);
    }
    say("hooks", plugin.status().hooks.join(", "));
    if let Some(used) = plugin.pool().used() {
        say("starts", format_args!("with {} of memory", kib(used.memory)));
    }
    match cases::beside(&found.wasm) {
        Some(file) if found.entry.cases => {
            cases::hold_beside(&found.wasm, &plugin).map_err(|failure| failure.to_string())?;
            say("cases", format_args!("{}: all hold", file.display()));
        }
        Some(_) => say("cases", "switched off in plugins.toml"),
        None => say("cases", "none"),
    }
    say("loads", "yes");
    Ok(())
}
