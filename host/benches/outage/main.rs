//! What people notice of a Redis that is killed, and comes back empty: `make bench-outage`.
//!
//! The release binaries: two gateways and two workers, PostgreSQL (fsync on) behind PgBouncer in transaction mode, and
//! Redis, all on this machine together with the load. The load is open: each message has an intended time, and every
//! latency is counted from there, so that a stall is not hidden by waiting for it. Each conversation has a member on
//! either gateway; delivery is what the sender's partner, on the other gateway, notices.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod members;
mod record;
mod report;
mod system;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::record::{Record, Times};
use crate::system::{Servers, System};

#[derive(Parser)]
struct Options {
    /// Messages per second over all conversations
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Conversations of two members each
    #[arg(long, default_value_t = 20)]
    conversations: usize,
    /// Load before the first figure
    #[arg(long, default_value_t = 10)]
    warm_up_seconds: u32,
    #[arg(long, default_value_t = 30)]
    before_seconds: u32,
    /// How long Redis is away
    #[arg(long, default_value_t = 60)]
    outage_seconds: u32,
    #[arg(long, default_value_t = 60)]
    after_seconds: u32,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let servers = Servers::start();
    runtime.block_on(run(&options, &servers));
}

async fn run(options: &Options, servers: &Servers) {
    let system = System::start(servers).await;
    let load = report::load_average();
    let phases = [options.warm_up_seconds, options.before_seconds, options.outage_seconds, options.after_seconds];
    let total = (phases.iter().sum::<u32>() * options.rate) as usize;
    let record = Arc::new(Mutex::new(Record::new(total)));
    let writers = members::join(&system, options.conversations, &record).await;
    let gap = Duration::from_secs(1) / options.rate;
    let begin = Instant::now() + Duration::from_millis(100);
    let sender = tokio::spawn(members::send(writers, total, begin, gap));

    let measured = begin + Duration::from_secs(options.warm_up_seconds.into());
    tokio::time::sleep_until((measured + Duration::from_secs(options.before_seconds.into())).into()).await;
    let killed = Instant::now();
    system.kill_redis().await;
    tokio::time::sleep_until((killed + Duration::from_secs(options.outage_seconds.into())).into()).await;
    system.restart_redis().await;
    let (returned, returned_at) = (Instant::now(), system.clock().await);
    // Kept until the end: a socket whose half is dropped would be closed.
    let _writers = sender.await.unwrap();

    record::settled(&record).await;
    let outbox = system.outbox(&returned_at).await;
    let times = Times { begin, gap, measured, killed, returned, end: begin + gap * total as u32 };
    let findings = record.lock().unwrap().evaluate(&times, outbox);
    report::print(&findings);
    report::write(options, &system.version().await, load, &findings);
    findings.assert_kept();
}
