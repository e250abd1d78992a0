//! What was answered and heard, and what follows from it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::system::Outbox;

/// What is not there so long after the last message is lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// Delivery is normal again when for so long...
const CALM: Duration = Duration::from_secs(2);
/// ...this share of the messages...
const SHARE: f64 = 0.95;
/// ...took no longer than so many times what 99 of 100 took before.
const MARGIN: u32 = 2;

/// The gateway that the sender's message was sent to, or the other one.
#[derive(Clone, Copy)]
pub enum Side {
    Same,
    Other,
}

/// By the messages' numbers.
pub struct Record {
    acks: Vec<Option<Instant>>,
    heard: [Vec<Option<Instant>>; 2],
    refused: usize,
    repeated: usize,
    out_of_order: usize,
    /// Sockets that ended before the program did.
    pub closed: usize,
}

/// When things happened.
pub struct Times {
    /// The first message's time, and what lies between two.
    pub begin: Instant,
    pub gap: Duration,
    /// From here on there are figures.
    pub measured: Instant,
    pub killed: Instant,
    /// Redis answers again.
    pub returned: Instant,
    pub end: Instant,
}

/// Latencies of one phase, of the messages whose time lies in it.
pub struct Phase {
    pub name: &'static str,
    pub seconds: f64,
    /// Answers that came during the phase.
    pub acks_per_second: f64,
    pub ack: Figures,
    pub delivery: Figures,
}

/// In milliseconds.
#[derive(Default, Clone, Copy)]
pub struct Figures {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

pub struct Findings {
    pub phases: [Phase; 3],
    /// Seconds from Redis' return until everything that was sent before it had reached every member.
    pub delivered: f64,
    /// Seconds from Redis' return until delivery was what it had been; none if it was not by the end.
    pub normal: Option<f64>,
    /// What counts as normal, in milliseconds.
    pub limit: f64,
    pub outbox: Outbox,
    /// Acknowledged messages, and those that are missing in the table or at a member, each.
    pub acked: usize,
    pub lost: usize,
    pub unanswered: usize,
    pub refused: usize,
    pub repeated: usize,
    pub out_of_order: usize,
    pub closed: usize,
}

impl Record {
    pub fn new(total: usize) -> Self {
        let empty = || vec![None; total];
        let heard = [empty(), empty()];
        Self { acks: empty(), heard, refused: 0, repeated: 0, out_of_order: 0, closed: 0 }
    }

    pub fn answered(&mut self, number: usize, stored: bool, at: Instant) {
        if stored {
            self.acks[number] = Some(at);
        } else {
            self.refused += 1;
        }
    }

    pub fn heard(&mut self, side: Side, number: usize, late: bool, at: Instant) {
        let heard = &mut self.heard[side as usize][number];
        self.repeated += usize::from(heard.is_some());
        self.out_of_order += usize::from(heard.is_none() && late);
        heard.get_or_insert(at);
    }

    /// Every message was answered, and what was acknowledged has reached both members.
    fn complete(&self) -> bool {
        self.unanswered() == 0 && self.missing() == 0
    }

    fn unanswered(&self) -> usize {
        self.acks.iter().filter(|at| at.is_none()).count() - self.refused
    }

    fn missing(&self) -> usize {
        let missing = |heard: &Vec<Option<Instant>>| {
            self.acks.iter().zip(heard).filter(|(ack, heard)| ack.is_some() && heard.is_none()).count()
        };
        self.heard.iter().map(missing).sum()
    }

    pub fn evaluate(&self, times: &Times, outbox: Outbox) -> Findings {
        let phases = [
            self.phase("before", times, times.measured, times.killed),
            self.phase("Redis away", times, times.killed, times.returned),
            self.phase("after", times, times.returned, times.end),
        ];
        let limit = Duration::from_secs_f64(phases[0].delivery.p99 / 1000.0) * MARGIN;
        let backlog = |heard: &Vec<Option<Instant>>| {
            let before = heard.iter().enumerate().filter(|(number, _)| times.due(*number) < times.returned);
            before.filter_map(|(_, at)| *at).max()
        };
        let delivered = self.heard.iter().filter_map(backlog).max().unwrap_or(times.returned);
        let acked = self.acks.iter().flatten().count();
        Findings {
            delivered: delivered.saturating_duration_since(times.returned).as_secs_f64(),
            normal: self.normal(times, limit).map(|at| (at - times.returned).as_secs_f64()),
            limit: limit.as_secs_f64() * 1000.0,
            lost: self.missing() + acked.saturating_sub(usize::try_from(outbox.different).unwrap()),
            repeated: self.repeated + usize::try_from(outbox.stored - outbox.different).unwrap(),
            unanswered: self.unanswered(),
            refused: self.refused,
            out_of_order: self.out_of_order,
            closed: self.closed,
            phases,
            outbox,
            acked,
        }
    }

    fn phase(&self, name: &'static str, times: &Times, from: Instant, to: Instant) -> Phase {
        let latencies = |seen: &[Option<Instant>]| {
            let of_phase = seen.iter().enumerate().map(|(number, at)| (times.due(number), at));
            let of_phase = of_phase.filter(|(due, _)| (from..to).contains(due));
            Figures::of(of_phase.filter_map(|(due, at)| Some((*at)?.saturating_duration_since(due))).collect())
        };
        let seconds = (to - from).as_secs_f64();
        let acks = self.acks.iter().flatten().filter(|at| (from..to).contains(*at)).count();
        Phase {
            name,
            seconds,
            acks_per_second: acks as f64 / seconds,
            ack: latencies(&self.acks),
            delivery: latencies(&self.heard[Side::Other as usize]),
        }
    }

    /// The time of the first message after the outage from which on delivery is calm.
    fn normal(&self, times: &Times, limit: Duration) -> Option<Instant> {
        let swift: Vec<(Instant, bool)> = self.heard[Side::Other as usize]
            .iter()
            .enumerate()
            .map(|(number, at)| (times.due(number), *at))
            .filter(|(due, _)| *due >= times.returned)
            .map(|(due, at)| (due, at.is_some_and(|at| at.saturating_duration_since(due) <= limit)))
            .collect();
        let window = (CALM.as_secs_f64() / times.gap.as_secs_f64()).ceil() as usize;
        let calm = |window: &&[(Instant, bool)]| {
            let share = window.iter().filter(|(_, swift)| *swift).count() as f64 / window.len() as f64;
            window[0].1 && share >= SHARE
        };
        swift.windows(window.max(1)).find(calm).map(|window| window[0].0)
    }
}

impl Times {
    fn due(&self, number: usize) -> Instant {
        self.begin + self.gap * number as u32
    }
}

impl Figures {
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len().saturating_sub(1) as f64 * share) as usize;
            latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Findings {
    /// Ends the program with an error if a promise was broken.
    pub fn assert_kept(&self) {
        let Self { outbox, .. } = self;
        let broken = [self.lost, self.repeated, self.out_of_order, self.refused, self.unanswered, self.closed];
        assert_eq!(broken, [0; 6], "lost, repeated, out of order, refused, unanswered, closed sockets");
        assert_eq!([outbox.retries, outbox.parked, outbox.pending], [0; 3], "retries, parked and pending rows");
    }
}

/// Waits until nothing is missing, or for long enough to call it lost.
pub async fn settled(record: &Mutex<Record>) {
    let deadline = Instant::now() + PATIENCE;
    while !record.lock().unwrap().complete() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
