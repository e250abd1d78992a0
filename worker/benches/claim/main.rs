//! How long workers take to claim, with millions of processed rows in the outbox and while a transaction elsewhere is
//! held open: `make bench-claim`.
//!
//! The release worker, PostgreSQL (fsync on) behind PgBouncer in transaction mode, and Redis, all on this machine
//! together with the load. Claim times are the workers' own (`arcyou_outbox_claim_seconds`): upper bounds of the
//! histogram's buckets, from the difference of two scrapes. Each row has an intended time, and its lag is counted from
//! there to Redis' subscriber.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod load;
mod metrics;
mod options;
mod report;
#[path = "../../tests/worker/support/schema.rs"]
mod schema;
mod system;
mod view;

use std::time::Duration;

use clap::Parser;
use tokio::time::sleep;

use crate::load::Load;
use crate::options::Options;
use crate::report::{Figures, Phase, Report};
use crate::system::System;

/// Load before the first figure, until connections are open and the workers' claim watermarks have risen.
const WARM_UP: Duration = Duration::from_secs(8);

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let servers = system::Servers::start();
    runtime.block_on(async {
        let system = System::start(&servers, options.workers).await;
        let mut report = Report::new(&options, &system).await;
        for rows in &options.rows {
            system.fill(*rows).await;
            let load = Load::start(&system, options.rate).await;
            sleep(WARM_UP).await;
            let name = format!("{rows} processed rows");
            report.add(measure(&system, &load, &options, name, options.seconds).await);
            load.finish(&mut report).await;
        }
        hold(&system, &options, &mut report).await;
        report.write();
    });
}

/// A transaction that has a snapshot and an id, as a forgotten session or a long report has: what was processed since
/// its beginning cannot be removed from table and indexes.
async fn hold(system: &System<'_>, options: &Options, report: &mut Report) {
    if options.hold_seconds == 0 {
        return;
    }
    let load = Load::start(system, options.rate).await;
    sleep(WARM_UP).await;
    let holder = system::connect(&system.direct_url()).await;
    holder
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id(); SELECT FROM outbox LIMIT 1")
        .await
        .unwrap();
    for from in (0..options.hold_seconds).step_by(options.interval_seconds as usize) {
        let to = (from + options.interval_seconds).min(options.hold_seconds);
        let name = format!("held open, {from} to {to} s");
        report.add(measure(system, &load, options, name, to - from).await);
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    for from in (0..options.recovery_seconds).step_by(options.interval_seconds as usize) {
        let to = (from + options.interval_seconds).min(options.recovery_seconds);
        let name = format!("ended, {from} to {to} s");
        report.add(measure(system, &load, options, name, to - from).await);
    }
    load.finish(report).await;
}

async fn measure(system: &System<'_>, load: &Load, options: &Options, phase: String, seconds: u64) -> Phase {
    load.take_lags();
    let before = system.scrape().await;
    sleep(Duration::from_secs(seconds)).await;
    let (lags, backlog) = (load.take_lags(), load.backlog());
    let claims = system.scrape().await.since(&before);
    let view = view::look(system, i64::from(options.rate)).await;
    Phase { phase, seconds, claims, lags: Figures::of(lags), backlog, view }
}
