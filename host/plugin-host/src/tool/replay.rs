//! `plugin replay`: reproduces a failure that a gateway recorded, with the gateway's own code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use super::output::print_field;
use super::plugin_log::PluginLog;
use crate::chain::dry_run::DryRun;
use crate::chain::record::Record;
use crate::loading::cache::default_cache_dir;
use crate::loading::loader::Loader;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A record, as a gateway writes it to PLUGIN_RECORDS_DIR
    record: PathBuf,
    /// Use this version instead of the one that failed
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The maximum number of calls to one instance: some failures need more than one message
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let record = read(&options.record)?;
    let wasm = options.plugin.as_ref().unwrap_or(&record.file);
    let hook = record.hook().with_context(|| format!("this gateway has no hook {}", record.hook))?;
    let plugin_log = PluginLog::capture()?;
    let loader = Loader::new(default_cache_dir().as_deref(), record.body_limits(), Arc::new(Instant::now))?;
    let file = wasm.file_name().unwrap_or_default().to_string_lossy();
    let entry = record.entry(&file).map_err(anyhow::Error::msg)?;
    let plugin = loader.load_file(wasm, entry.clone())?;
    let dry_run = DryRun::new(&plugin, entry).map_err(|error| anyhow::anyhow!(error.into_fault().text))?;
    plugin_log.take();
    print_field("plugin", format_args!("{} {}", record.plugin, wasm.display()));
    if *plugin.provenance().sha256 != *record.sha256 {
        print_field("note", format_args!("not the version that failed, whose SHA-256 is {}", record.sha256));
    }
    print_field("kept", &record.failure);
    let annotations = record.message.annotations();
    let input = record.message.input(&annotations);
    let (mut asked, mut failure) = (0, None);
    let started = Instant::now();
    while asked < options.times && failure.is_none() {
        asked += 1;
        failure = dry_run.call_hook(hook, &input);
    }
    let elapsed = started.elapsed() / asked;
    plugin_log.take().iter().for_each(|line| print_field("log", line));
    print_field("time", format_args!("{:.3} ms a call, {asked} made", elapsed.as_secs_f64() * 1e3));
    let same = failure.as_ref().is_some_and(|failure| failure.kind == record.failure.kind);
    match &failure {
        None => print_field("now", "it does not fail"),
        Some(failure) => print_field("now", failure),
    }
    print_field("same", if same { "yes" } else { "NO" });
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> anyhow::Result<Record> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    serde_json::from_str(&text).with_context(|| format!("{shown} is not a record of a plugin's failure"))
}
