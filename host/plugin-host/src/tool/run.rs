//! `plugin run`: judges one message, and reports everything about the call.

use std::process::ExitCode;

use super::args::{PluginArgs, SampleArgs, metered_loader};
use super::output::{group_digits, kib, print_field};
use super::plugin_log::PluginLog;
use crate::chain::dry_run::{DryRun, DryRunResult};
use crate::chain::preview::Preview;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    plugin: PluginArgs,
    #[command(flatten)]
    sample: SampleArgs,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let sample = options.sample.read()?;
    let plugin_file = options.plugin.resolve()?;
    let plugin_log = PluginLog::capture()?;
    let plugin = plugin_file.load(&metered_loader()?)?;
    let dry_run =
        DryRun::new(&plugin, plugin_file.entry.clone()).map_err(|error| anyhow::anyhow!(error.into_fault().text))?;
    plugin_log.take();
    let result = dry_run.run(&sample);
    print_result(&result, &plugin_log.take(), plugin_file.entry.limits.memory_bytes());
    Ok(if result.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_result(result: &DryRunResult, lines: &[String], memory: usize) {
    let DryRunResult { preview, failure, elapsed, usage } = result;
    let Preview { outcome, plugin: _, code, reason, retry_after_ms, body, annotations } = preview;
    print_field("outcome", outcome);
    let fields =
        [("code", code), ("reason", reason), ("body", body), ("annotations", annotations), ("failure", failure)];
    for (label, text) in fields {
        text.iter().for_each(|text| print_field(label, text));
    }
    retry_after_ms.iter().for_each(|wait| print_field("retry after", format_args!("{wait} ms")));
    lines.iter().for_each(|line| print_field("log", line));
    print_field(
        "time",
        format_args!("{:.3} ms, for the first message of an instance, with metering", elapsed.as_secs_f64() * 1e3),
    );
    if let Some(usage) = usage {
        usage.fuel.iter().for_each(|fuel| {
            print_field("fuel", format_args!("{}, start and configuration included", group_digits(*fuel)))
        });
        print_field("memory", format_args!("{} of {}", kib(usage.memory), kib(memory)));
    }
}
