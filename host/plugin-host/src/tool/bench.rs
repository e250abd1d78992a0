//! `plugin bench`: the cost of a plugin in time, instructions and memory.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::args::{PluginArgs, PluginFile, SampleArgs, loader, metered_loader};
use super::meter::Meter;
use super::output::{group_digits, kib, print_field};
use super::plugin_log::PluginLog;
use crate::chain::dry_run::{DryRun, SampleMessage};
use crate::chain::plugin::Plugin;

/// Rounds of the measurement. The median counts, so that a pause of the machine does not.
const ROUNDS: usize = 50;
/// Instances that are started for the measurement.
const STARTS: usize = 200;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    plugin: PluginArgs,
    #[command(flatten)]
    sample: SampleArgs,
    /// How long to measure warm calls
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0.01 to 3600".to_owned())
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let sample = options.sample.read()?;
    let plugin_file = options.plugin.resolve()?;
    let plugin_log = PluginLog::capture()?;
    let started = Instant::now();
    let plugin = plugin_file.load(&loader()?)?;
    let loaded = started.elapsed();
    let dry_run = dry_run(&plugin, &plugin_file)?;
    if let Some(failure) = dry_run.run(&sample).failure {
        plugin_log.take().iter().for_each(|line| print_field("log", line));
        bail!("the plugin fails: {failure}");
    }
    let (warm, messages) = warm(&dry_run, &sample, Duration::from_secs_f64(options.seconds))?;
    print_field("outcome", dry_run.preview(&sample).outcome);
    print_field(
        "warm",
        format_args!(
            "{} ns a message, hooks {} ({} messages)",
            group_digits(warm),
            dry_run.plugin().status().hooks.join(" and "),
            group_digits(messages)
        ),
    );
    print_field(
        "start",
        format_args!("{} ns for a new instance, configuration included", group_digits(start(&plugin)?)),
    );
    print_field("load", format_args!("{:.1} ms, compiled or from the cache", loaded.as_secs_f64() * 1e3));
    print_field("fuel", fuel(&plugin_file, &sample)?);
    print_field("instances", format_args!("{} started", dry_run.plugin().status().instances_started));
    if let Some(usage) = dry_run.plugin().pool().last_usage() {
        print_field(
            "memory",
            format_args!(
                "{} of {}, after all of them",
                kib(usage.memory),
                kib(plugin_file.entry.limits.memory_bytes())
            ),
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn dry_run(plugin: &Plugin, plugin_file: &PluginFile) -> anyhow::Result<DryRun> {
    DryRun::new(plugin, plugin_file.entry.clone()).map_err(|error| anyhow!(error.into_fault().text))
}

/// The median nanoseconds of a message on a warm instance, and the number of messages.
fn warm(dry_run: &DryRun, sample: &SampleMessage, time: Duration) -> anyhow::Result<(u64, u64)> {
    let (mut rounds, mut messages) = (Vec::with_capacity(ROUNDS), 0);
    for _ in 0..ROUNDS {
        let (started, mut count) = (Instant::now(), 0_u32);
        let elapsed = loop {
            dry_run.preview(sample);
            count += 1;
            let elapsed = started.elapsed();
            if elapsed >= time / ROUNDS as u32 {
                break elapsed;
            }
        };
        messages += u64::from(count);
        rounds.push((elapsed / count).as_nanos() as u64);
    }
    if let Some(failure) = dry_run.plugin().status().last_failure {
        bail!("the plugin failed after a while: {failure}");
    }
    Ok((middle(rounds), messages))
}

/// The median nanoseconds for starting an instance.
fn start(plugin: &Plugin) -> anyhow::Result<u64> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let started = Instant::now();
        plugin.pool().template().instantiate(&Arc::default()).map_err(|error| anyhow!(error.into_fault().text))?;
        times.push(started.elapsed().as_nanos() as u64);
    }
    Ok(middle(times))
}

fn middle(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The instructions of the second and the third message of an instance. The first one includes setup.
fn fuel(plugin_file: &PluginFile, sample: &SampleMessage) -> anyhow::Result<String> {
    let meter = Meter::start(plugin_file, &metered_loader()?)?;
    let [_, second, third] = [meter.count_sample(sample)?, meter.count_sample(sample)?, meter.count_sample(sample)?];
    Ok(if second == third {
        format!("{} a message", group_digits(second))
    } else {
        format!("{} to {} a message", group_digits(second.min(third)), group_digits(second.max(third)))
    })
}
