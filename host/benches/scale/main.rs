//! What a message costs as an installation grows, one axis after the other: `make bench-scale`.
//!
//! Each point of an axis is measured twice with the release binaries: at a fixed rate, for the processor time of every
//! part per 1,000 messages and for latencies (from the intended send time, so that a stall is not hidden); and, where
//! the axis is about it, at full load. Everything shares this machine's cores with the load, so that full load says how
//! the cost grows, not what a machine of its own could do.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod axes;
#[allow(dead_code)]
#[path = "../figures/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../figures/pace.rs"]
mod pace;
mod point;
#[allow(dead_code)]
#[path = "../figures/stack.rs"]
mod stack;
mod table;
mod talk;

use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Options {
    /// Only these axes; all if none is named
    #[arg(value_enum)]
    axes: Vec<Axis>,
    /// The ends of each axis only, and shorter measurements
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// Conversations that are talked in, by the same sockets
    Conversations,
    /// Members of one conversation, each with a socket
    Members,
    /// Sockets that have joined and say nothing
    Sockets,
    /// Messages stored before, with their conversations and relayed outbox rows
    Rows,
    /// Partitions of `messages`
    Partitions,
    /// Gateways, all with members of every conversation, by `PUBSUB_MODE`
    Gateways,
    /// Workers, relaying a backlog
    Workers,
}

fn main() {
    let options = Options::parse();
    let chosen = if options.axes.is_empty() { Axis::value_variants() } else { &options.axes };
    let mut tables = Vec::new();
    for axis in chosen {
        let table = axes::measure(*axis, options.quick);
        table.print();
        tables.push(table);
    }
    table::write(&tables);
}
