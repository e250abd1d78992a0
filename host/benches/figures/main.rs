//! What the gateway costs, each figure beside a ceiling that is measured in the same run: `make bench`.
//!
//! Machines differ, and one machine differs from minute to minute; a ratio to what the same machine could do at best,
//! measured a moment before or after, differs little. Each figure takes several rounds of ceiling and product in turn.
//! The product is the release binaries: gateways and workers, PostgreSQL (fsync on) behind PgBouncer in transaction
//! mode, Redis; all of it shares this machine with the load, as each line says.
//!
//! Where the load has a rate it is open: each message has an intended time, and latency is counted from there, so that
//! a stall is not hidden by waiting for it (coordinated omission).
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod chain;
mod changes;
mod cost;
mod drain;
mod fanout;
mod in_sql;
mod latency;
mod load;
mod memory;
mod over_http;
mod overload;
mod pace;
mod peers;
mod plain_ws;
mod report;
mod sends;
mod side_by_side;
mod stack;
mod start;
mod steady;

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::report::Figure;

#[derive(Parser)]
struct Options {
    /// Only these; all if none is named
    #[arg(value_enum)]
    figures: Vec<Group>,
    /// Rounds of ceiling and product
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement; those that are about a size take as long as that takes
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rows of the workers' backlog
    #[arg(long, default_value_t = 500_000)]
    backlog: i64,
    /// Sockets whose memory is measured
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// What this process is: a server without a gateway's work, to be measured against
    #[arg(long, hide = true)]
    peer: Option<peers::Peer>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Durable sends at full load: throughput, rows, PostgreSQL's time
    Sends,
    /// Edits and reactions at full load, beside sends
    Changes,
    /// A service's messages in its own transactions, and histories that it brings
    InSql,
    /// A service's messages over HTTP, beside those of sockets
    OverHttp,
    /// More sends than the machine can take: what is delivered, and when
    Overload,
    /// The gateway's processor time for a send
    Cost,
    /// Acknowledgement and delivery at 1,000 messages a second
    Latency,
    /// A worker's way through a backlog
    Drain,
    /// One conversation with 1,000 sockets
    Fanout,
    /// An idle socket's memory
    Memory,
    /// A plugin's call
    Calls,
    /// Sends with a chain of plugins, and without
    Chain,
    /// A gateway's start
    Start,
    /// Beside plain `ws`; only if it is named
    Peers,
}

fn main() {
    let options = Options::parse();
    if let Some(peer) = options.peer {
        return peers::run(peer);
    }
    // A measurement would wait for ever for a task that has failed. The services end with this process.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::exit(101)
    }));
    let groups: Vec<Group> = match options.figures.as_slice() {
        [] => Group::value_variants().iter().copied().filter(|group| *group != Group::Peers).collect(),
        named => named.to_vec(),
    };
    let load = report::load_average();
    let mut figures = Vec::new();
    for group in groups {
        let measured = measure(group, &options);
        measured.iter().for_each(report::print_one);
        figures.extend(measured);
    }
    report::print(&figures);
    report::write(&figures, options.rounds, load);
}

fn measure(group: Group, options: &Options) -> Vec<Figure> {
    match group {
        Group::Sends => sends::figures(options),
        Group::Changes => changes::figures(options),
        Group::InSql => in_sql::figures(options),
        Group::OverHttp => over_http::figures(options),
        Group::Overload => vec![overload::figure(options)],
        Group::Cost => vec![cost::figure(options)],
        Group::Latency => latency::figures(options),
        Group::Drain => vec![drain::figure(options)],
        Group::Fanout => vec![fanout::figure(options)],
        Group::Memory => vec![memory::figure(options)],
        Group::Calls => calls::figures(options),
        Group::Chain => vec![chain::figure(options)],
        Group::Start => vec![start::figure(options)],
        Group::Peers => side_by_side::figures(options),
    }
}

/// The load generator's own runtime: one thread, so that it takes as little from what it measures as it can.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
