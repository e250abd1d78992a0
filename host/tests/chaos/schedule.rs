//! Which faults a run meets and when, drawn from its seed: the same seed, the same schedule.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// A process that can be killed and frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Gateway(usize),
    Worker(usize),
}

/// A link that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    Clients(usize),
    Database(Part),
    Redis(Part),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new process at the end.
    Kill(Part),
    /// SIGTERM, and a new process at the end.
    Terminate(Part),
    /// SIGSTOP, and SIGCONT at the end.
    Freeze(Part),
    /// SIGKILL; a restart recovers.
    KillPostgres,
    /// Its clients are cut off, as in a switch-over.
    StopPostgres,
    KillPgBouncer,
    PausePgBouncer,
    /// Redis is killed, and comes back empty.
    EmptyRedis,
    /// `CLIENT KILL TYPE pubsub`.
    KillSubscribers,
    /// Nothing arrives, and nobody is told.
    Partition(Link),
    /// Every connection is reset.
    Cut(Link),
    Delay(Link, Duration),
    /// A client that goes on asking and reads nothing.
    StopReading(usize),
}

/// A fault, when it begins, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

impl Step {
    pub fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

impl Fault {
    /// A word for counting.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill(Part::Gateway(_)) => "gateway killed",
            Self::Kill(Part::Worker(_)) => "worker killed",
            Self::Terminate(Part::Gateway(_)) => "gateway drained",
            Self::Terminate(Part::Worker(_)) => "worker drained",
            Self::Freeze(Part::Gateway(_)) => "gateway frozen",
            Self::Freeze(Part::Worker(_)) => "worker frozen",
            Self::KillPostgres => "postgres killed",
            Self::StopPostgres => "postgres restarted",
            Self::KillPgBouncer => "pgbouncer killed",
            Self::PausePgBouncer => "pgbouncer paused",
            Self::EmptyRedis => "redis emptied",
            Self::KillSubscribers => "subscribers killed",
            Self::Partition(_) => "link partitioned",
            Self::Cut(_) => "link cut",
            Self::Delay(..) => "link delayed",
            Self::StopReading(_) => "reader slow",
        }
    }

    /// What nothing else may happen to meanwhile.
    pub fn target(self) -> Target {
        match self {
            Self::Kill(part) | Self::Terminate(part) | Self::Freeze(part) => Target::Part(part),
            Self::KillPostgres | Self::StopPostgres => Target::Postgres,
            Self::KillPgBouncer | Self::PausePgBouncer => Target::PgBouncer,
            Self::EmptyRedis | Self::KillSubscribers => Target::Redis,
            Self::Partition(link) | Self::Cut(link) | Self::Delay(link, _) => Target::Link(link),
            Self::StopReading(device) => Target::Device(device),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, fault } = self;
        write!(f, "{:6.2} s  {fault:?} for {:.2} s", at.as_secs_f32(), lasts.as_secs_f32())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Part(Part),
    Postgres,
    PgBouncer,
    Redis,
    Link(Link),
    Device(usize),
}

/// How many clients there are.
pub const DEVICES: usize = 9;

/// Between the end of a fault and the next one of the same target: a process starts, a client comes back.
const RECOVERY: Duration = Duration::from_secs(1);

/// A part that is away in a run of its own, for longer than every time-out and back-off on the way.
pub const OUTAGES: [(&str, Fault); 6] = [
    ("redis", Fault::EmptyRedis),
    ("pgbouncer", Fault::KillPgBouncer),
    ("postgres", Fault::KillPostgres),
    ("database-link", Fault::Partition(Link::Database(Part::Gateway(0)))),
    ("redis-link", Fault::Partition(Link::Redis(Part::Gateway(0)))),
    ("workers-database-link", Fault::Partition(Link::Database(Part::Worker(0)))),
];

/// A run with nothing but one outage.
pub fn outage(fault: Fault) -> Vec<Step> {
    vec![Step { at: Duration::from_secs(3), lasts: Duration::from_secs(60), fault }]
}

/// The faults of the first `length` of a run.
pub fn draw(seed: u64, length: Duration) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut steps = Vec::new();
    let mut busy: HashMap<Target, Duration> = HashMap::new();
    let mut at = millis(&mut random, 300, 900);
    while at < length {
        let fault = fault(&mut random);
        // Mostly short, sometimes longer than the time-outs on the way.
        let longest = if random.u8(..5) == 0 { 6_000 } else { 1_500 };
        // A reader is slow when the buffers before it are full.
        let shortest = if matches!(fault, Fault::StopReading(_)) { 2_500 } else { 50 };
        let lasts = millis(&mut random, shortest, longest.max(shortest + 1_000)).min(length.saturating_sub(at));
        let free = busy.entry(fault.target()).or_default();
        if *free <= at {
            *free = at + lasts + RECOVERY;
            steps.push(Step { at, lasts, fault });
        }
        at += millis(&mut random, 50, 900);
    }
    steps
}

fn fault(random: &mut fastrand::Rng) -> Fault {
    let gateway = Part::Gateway(random.usize(..2));
    let worker = Part::Worker(random.usize(..2));
    match random.u8(..32) {
        0..3 => Fault::Kill(gateway),
        3 => Fault::Terminate(gateway),
        4..6 => Fault::Freeze(gateway),
        6..8 => Fault::Kill(worker),
        8 => Fault::Terminate(worker),
        9..11 => Fault::Freeze(worker),
        11..13 => Fault::KillPgBouncer,
        13..15 => Fault::PausePgBouncer,
        15..17 => Fault::EmptyRedis,
        17..19 => Fault::KillSubscribers,
        19..22 => Fault::Partition(link(random)),
        22..24 => Fault::Cut(link(random)),
        24 => Fault::KillPostgres,
        25 => Fault::StopPostgres,
        26..28 => Fault::StopReading(random.usize(..DEVICES)),
        28 => Fault::Terminate(gateway),
        _ => Fault::Delay(link(random), millis(random, 5, 250)),
    }
}

fn link(random: &mut fastrand::Rng) -> Link {
    let number = random.usize(..2);
    match random.u8(..6) {
        0..2 => Link::Clients(number),
        2 => Link::Database(Part::Gateway(number)),
        3 => Link::Redis(Part::Gateway(number)),
        4 => Link::Database(Part::Worker(number)),
        _ => Link::Redis(Part::Worker(number)),
    }
}

fn millis(random: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}
