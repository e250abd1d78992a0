//! What an idle socket costs that is authenticated and has joined a conversation.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::task::LocalSet;

use crate::Options;
use crate::load::member;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Servers, status_bytes};

const MEMBERS: usize = 100;
/// Connections made at the same time.
const AT_ONCE: usize = 32;
/// Until what was freed after the handshakes has been given back.
const SETTLE: Duration = Duration::from_secs(3);
/// Bytes.
const CEILING: f64 = 4096.0;

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let (mut rounds, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(3) {
        let (product, kernel) = LocalSet::new().block_on(&runtime, product(&servers, options.sockets));
        rounds.push(Round { product, ceiling: CEILING });
        notes.push(format!("kernel memory for both ends, by the growth of Slab: {kernel:.0} bytes a connection"));
    }
    Figure {
        name: "an idle socket's memory",
        unit: "bytes of RSS growth",
        ceiling: "4 KiB",
        shares: "the other ends of the sockets",
        goal: Goal::AtMost(2.0),
        rounds,
        notes,
    }
}

async fn product(servers: &Servers, sockets: usize) -> (f64, f64) {
    let database = servers.database().await;
    let conversations = database.conversations(sockets.div_ceil(MEMBERS), MEMBERS).await;
    let mut gateway = database.gateway(&[]).await;
    let (port, pid) = (gateway.port, gateway.pid());
    // Its first socket brings what is there once.
    let first = &conversations[0];
    let _first = member(port, first.users[0], first.id).await;
    let (before, slab) = (status_bytes(pid, "VmRSS:"), slab());
    let members = conversations.iter().flat_map(|of| of.users.iter().map(|user| (*user, of.id))).skip(1).take(sockets);
    let connect = |(user, conversation)| member(port, user, conversation);
    let connected: Vec<_> = stream::iter(members).map(connect).buffer_unordered(AT_ONCE).collect().await;
    tokio::time::sleep(SETTLE).await;
    let each = |grown: f64| grown / connected.len() as f64;
    (each(status_bytes(pid, "VmRSS:") - before), each(self::slab() - slab))
}

/// What the kernel's own objects take, sockets among them.
fn slab() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("Slab:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
