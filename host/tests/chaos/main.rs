//! Nothing lost, nothing twice, nothing out of order, whatever is killed: the real programs under a schedule of faults
//! that is drawn from a seed, and a checker that reads the logs of all clients afterwards.
//!
//! `make chaos`: `CHAOS_SEED=7` runs one seed, `CHAOS_SEEDS=50` that many, `CHAOS_SECONDS=60` lets each take longer,
//! `CHAOS_AT_ONCE=4` lets more of them run at a time. `CHAOS_OUTAGE=redis` (or another of `schedule::OUTAGES`) is one
//! fault of a minute instead.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod changes;
mod changes_tests;
mod checker;
mod checker_tests;
mod corruption;
mod device;
mod evidence;
mod history;
mod report;
mod run;
mod schedule;
mod socket;
mod sql;
#[path = "../support/mod.rs"]
mod support;
mod system;
mod talk;

use std::time::Duration;

use futures_util::StreamExt as _;

use report::{Report, summarise};
use run::CALM;
use schedule::{OUTAGES, Step};

/// The short form; one seed for each `PUBSUB_MODE`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_repeated_or_out_of_order() {
    let length = Duration::from_secs(12);
    let plans = (1..=2).map(|seed| (seed, schedule::draw(seed, length - CALM), length)).collect();
    all(plans, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the whole machine for a while: `make chaos`"]
async fn nothing_is_lost_over_many_seeds() {
    let length = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(20));
    let first = number("CHAOS_SEED");
    let outage = std::env::var("CHAOS_OUTAGE").ok().map(|name| {
        let known = OUTAGES.iter().find(|(other, _)| *other == name);
        known.unwrap_or_else(|| panic!("CHAOS_OUTAGE is one of {:?}", OUTAGES.map(|(name, _)| name))).1
    });
    let usual = match (first, outage) {
        (Some(_), _) => 1,
        (None, Some(_)) => 2,
        (None, None) => 20,
    };
    let (first, count) = (first.unwrap_or(1), number("CHAOS_SEEDS").unwrap_or(usual));
    let seeds = first..first + count;
    let plan = |seed| match outage {
        Some(fault) => (seed, schedule::outage(fault), schedule::outage(fault)[0].end() + CALM),
        None => (seed, schedule::draw(seed, length.saturating_sub(CALM).max(length / 3)), length),
    };
    all(seeds.map(plan).collect(), number("CHAOS_AT_ONCE").unwrap_or(2) as usize).await;
}

/// Runs each of these, some at a time.
async fn all(plans: Vec<(u64, Vec<Step>, Duration)>, at_once: usize) {
    let runs = plans.into_iter().map(|(seed, steps, length)| async move {
        let report = tokio::spawn(run::run(seed, steps, length)).await.unwrap();
        summarise(&format!("seed {seed}"), std::slice::from_ref(&report));
        report
    });
    let reports: Vec<Report> = futures_util::stream::iter(runs).buffer_unordered(at_once).collect().await;
    summarise("all", &reports);
    let failed: Vec<u64> =
        reports.iter().filter(|report| !report.violations.is_empty()).map(|report| report.seed).collect();
    assert!(failed.is_empty(), "promises were broken; CHAOS_SEED=… replays the schedules of {failed:?}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
