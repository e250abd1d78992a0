//! The gateway beside plain `ws` with an `INSERT` and Redis, in one run, by the same clients: `make bench-peers`.

use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::Options;
use crate::load::ClosedLoop;
use crate::pace::Latencies;
use crate::plain_ws::PlainWs;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Database, Part, Servers};
use crate::steady::{WARM_UP, steady};

const CONVERSATIONS: usize = 50;
/// Sends of each of the 100 members that are under way at once, where as much is sent as goes.
const IN_FLIGHT: usize = 4;

/// What both are asked for.
#[derive(Clone, Copy)]
struct Load {
    conversations: usize,
    members: usize,
    rate: u32,
    processes: usize,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Product,
    Plain,
}

/// Processes of one of the two, until they are dropped.
enum Running {
    Gateways { gateways: Vec<Part>, _worker: Box<Part> },
    Plain(Vec<PlainWs>),
}

impl Running {
    async fn start(side: Side, database: &Database<'_>, count: usize) -> Self {
        if side == Side::Plain {
            let mut processes = Vec::new();
            for _ in 0..count {
                processes.push(PlainWs::start(database).await);
            }
            return Self::Plain(processes);
        }
        let mut gateways = Vec::new();
        for _ in 0..count {
            gateways.push(database.gateway(&[]).await);
        }
        Self::Gateways { gateways, _worker: Box::new(database.worker().await) }
    }

    /// The first one and the last one.
    fn ports(&self) -> [u16; 2] {
        let ports: Vec<u16> = match self {
            Self::Gateways { gateways, .. } => gateways.iter().map(|gateway| gateway.port).collect(),
            Self::Plain(processes) => processes.iter().map(|process| process.port).collect(),
        };
        [ports[0], ports[ports.len() - 1]]
    }
}

/// Conversations of two, each at the same rate.
const PAIRS: Load = Load { conversations: CONVERSATIONS, members: 2, rate: 0, processes: 1 };

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let mut figures = vec![full_load(&servers, options)];
    let slow = Load { rate: 200, ..PAIRS };
    let fast = Load { rate: 1000, ..PAIRS };
    let two = Load { processes: 2, ..fast };
    let large = Load { conversations: 1, members: 501, rate: 20, processes: 1 };
    let same = Goal::AtMost(1.0);
    let ack = ["200/s: ack, p50", "200/s: ack, p99"];
    let event = ["200/s: delivery, p50", "200/s: delivery, p99"];
    figures.extend(latencies(
        &servers,
        options,
        slow,
        Some((ack, [Goal::AtMost(1.3), same])),
        (event, [Goal::AtMost(1.5), same]),
    ));
    let ack = ["1,000/s: ack, p50", "1,000/s: ack, p99"];
    let event = ["1,000/s: delivery, p50", "1,000/s: delivery, p99"];
    figures.extend(latencies(
        &servers,
        options,
        fast,
        Some((ack, [Goal::AtMost(1.3), same])),
        (event, [Goal::AtMost(1.5), same]),
    ));
    let event = [
        "1,000/s, two processes: delivery on the other one, p50",
        "1,000/s, two processes: delivery on the other one, p99",
    ];
    figures.extend(latencies(&servers, options, two, None, (event, [Goal::AtMost(2.0), same])));
    let event = ["500 members, 20/s: delivery, p50", "500 members, 20/s: delivery, p99"];
    figures.extend(latencies(&servers, options, large, None, (event, [Goal::AtMost(1.5), same])));
    figures
}

/// The names of a median and a 99th of a hundred, and what they are to reach.
type Line = ([&'static str; 2], [Goal; 2]);

fn latencies(servers: &Servers, options: &Options, load: Load, acks: Option<Line>, events: Line) -> Vec<Figure> {
    let total = (WARM_UP + u64::from(options.seconds)) * u64::from(load.rate);
    let measure = |side| LocalSet::new().block_on(&crate::runtime(), one_side(servers, side, load, total));
    let (mut product, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        product.push(measure(Side::Product));
        plain.push(measure(Side::Plain));
    }
    let mut figures = Vec::new();
    let mut line = |(names, goals): Line, of: fn(&mut (Latencies, Latencies)) -> &mut Latencies| {
        for ((name, goal), share) in names.into_iter().zip(goals).zip([0.5, 0.99]) {
            let pairs = product.iter_mut().zip(&mut plain);
            let round = |(product, plain): (&mut _, &mut _)| Round {
                product: of(product).at(share),
                ceiling: of(plain).at(share),
            };
            figures.push(figure(name, "ms", goal, pairs.map(round).collect()));
        }
    };
    acks.into_iter().for_each(|acks| line(acks, |both| &mut both.0));
    line(events, |both| &mut both.1);
    figures
}

async fn one_side(servers: &Servers, side: Side, load: Load, total: u64) -> (Latencies, Latencies) {
    let database = servers.database().await;
    let conversations = database.conversations(load.conversations, load.members).await;
    let running = Running::start(side, &database, load.processes).await;
    steady(running.ports(), &conversations, load.rate, total).await
}

/// As much as goes: what is acknowledged, or, where that falls behind, what is delivered.
fn full_load(servers: &Servers, options: &Options) -> Figure {
    let time = Duration::from_secs(options.seconds.into());
    let measure = |side| LocalSet::new().block_on(&crate::runtime(), full(servers, side, time));
    let mut notes = Vec::new();
    let rounds = (0..options.rounds)
        .map(|_| {
            let ([acked, delivered], [plain_acked, plain_delivered]) = (measure(Side::Product), measure(Side::Plain));
            notes.push(format!(
                "acknowledged and delivered: {acked:.0} and {delivered:.0}; plain ws {plain_acked:.0} and {plain_delivered:.0}"
            ));
            Round { product: acked.min(delivered), ceiling: plain_acked.min(plain_delivered) }
        })
        .collect();
    Figure {
        notes,
        ..figure("full load, acknowledged and delivered", "messages per second", Goal::AtLeast(2.0), rounds)
    }
}

async fn full(servers: &Servers, side: Side, time: Duration) -> [f64; 2] {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let running = Running::start(side, &database, 1).await;
    let load = ClosedLoop::start(running.ports()[0], &conversations, IN_FLIGHT).await;
    tokio::time::sleep(Duration::from_secs(WARM_UP)).await;
    let (started, events) = (Instant::now(), load.counts.events.get());
    let stored = load.stored_within(time).await;
    let seconds = started.elapsed().as_secs_f64();
    // Sender and partner hear each message.
    [stored as f64 / seconds, (load.counts.events.get() - events) as f64 / 2.0 / seconds]
}

fn figure(name: &'static str, unit: &'static str, goal: Goal, rounds: Vec<Round>) -> Figure {
    Figure {
        name,
        unit,
        ceiling: "plain ws, an INSERT that is awaited, then emit; Redis between processes",
        shares: "the load, PgBouncer, PostgreSQL, Redis; no plugins; a worker beside the gateway",
        goal,
        rounds,
        notes: Vec::new(),
    }
}
