//! `plugin run`: one message, and all that there is to know about its judgement.

use std::process::ExitCode;

use super::lines::Lines;
use super::subject::{SampleArgs, Subject, grouped, kib, metered_loader, say};
use crate::chain::dry_run::{Attempt, DryRun};
use crate::chain::preview::Preview;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    letter: SampleArgs,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let sample = options.letter.read()?;
    let found = options.subject.find()?;
    let lines = Lines::collect()?;
    let plugin = found.load(&metered_loader()?)?;
    let dry_run =
        DryRun::new(&plugin, found.entry.clone()).map_err(|error| anyhow::anyhow!(error.into_fault().text))?;
    lines.take();
    let attempt = dry_run.attempt(&sample);
    report(&attempt, &lines.take(), found.entry.limits.memory_bytes());
    Ok(if attempt.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(attempt: &Attempt, lines: &[String], memory: usize) {
    let Attempt { preview, failure, took, used } = attempt;
    let Preview { outcome, plugin: _, code, reason, retry_after_ms, body, annotations } = preview;
    say("outcome", outcome);
    let told = [("code", code), ("reason", reason), ("body", body), ("annotations", annotations), ("failure", failure)];
    for (what, text) in told {
        text.iter().for_each(|text| say(what, text));
    }
    retry_after_ms.iter().for_each(|wait| say("retry after", format_args!("{wait} ms")));
    lines.iter().for_each(|line| say("log", line));
    say(
        "time",
        format_args!("{:.3} ms, for the first message of an instance, with metering", took.as_secs_f64() * 1e3),
    );
    if let Some(used) = used {
        used.fuel
            .iter()
            .for_each(|fuel| say("fuel", format_args!("{}, start and configuration included", grouped(*fuel))));
        say("memory", format_args!("{} of {}", kib(used.memory), kib(memory)));
    }
}
