//! Nothing lost, nothing twice, nothing out of order, whatever is killed: the real programs under a schedule of faults that is
//! drawn from a seed, and a checker that reads the logs of all clients afterwards.
//!
//! `CHAOS_SEED=7` runs one seed, `CHAOS_SEEDS=20` that many, `CHAOS_SECONDS=60` lets each take longer.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod checker;
mod checker_tests;
mod device;
mod history;
mod proxy;
mod run;
mod schedule;
mod socket;
mod system;

use std::time::Duration;

use run::{Report, tally};

/// What runs unless told otherwise; one seed for each `PUBSUB_MODE`.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;
const SECONDS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the whole machine for a while: `make chaos`"]
async fn nothing_is_lost_repeated_or_out_of_order() {
    let length = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SECONDS));
    let seeds = match (number("CHAOS_SEED"), number("CHAOS_SEEDS")) {
        (Some(seed), count) => seed..=seed + count.unwrap_or(1) - 1,
        (None, Some(count)) => 1..=count,
        (None, None) => SEEDS,
    };
    let mut reports = Vec::new();
    for seed in seeds {
        let report = run::run(seed, length).await;
        summarise(&format!("seed {seed}"), std::slice::from_ref(&report));
        reports.push(report);
    }
    summarise("all", &reports);
    let failed: Vec<u64> =
        reports.iter().filter(|report| !report.violations.is_empty()).map(|report| report.seed).collect();
    assert!(failed.is_empty(), "promises were broken; CHAOS_SEED=… replays the schedules of {failed:?}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn summarise(title: &str, reports: &[Report]) {
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    println!(
        "{title}: {} runs, {} messages sent, {} acknowledged, {} events on {} streams, {} removals",
        reports.len(),
        sum(|report| report.sent),
        sum(|report| report.acknowledged),
        sum(|report| report.events),
        sum(|report| report.streams),
        sum(|report| report.removals),
    );
    let faults = reports.iter().flat_map(|report| &report.steps).map(|step| step.fault.kind().to_owned());
    println!("  faults: {:?}", tally(faults));
    let kinds = reports.iter().flat_map(|report| &report.violations).map(|violation| format!("{:?}", violation.kind));
    println!("  violations: {:?}", tally(kinds));
}
