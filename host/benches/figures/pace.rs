//! Intended times, from a thread of its own: the runtime's timers are good to a millisecond, a thread's sleep to a
//! twentieth of one.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, channel};

/// Ticks that nobody has taken yet. One that a stalled load did not take in time still counts from when it was meant.
const WAITING: usize = 1 << 16;

/// `total` ticks at `rate` a second, each with its number and its intended time.
pub fn ticks(rate: u32, total: u64) -> Receiver<(u64, Instant)> {
    let (sender, receiver) = channel(WAITING);
    let gap = Duration::from_secs(1) / rate;
    thread::spawn(move || {
        let begin = Instant::now() + Duration::from_millis(50);
        for number in 0..total {
            let intended = begin + gap.mul_f64(number as f64);
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            if sender.blocking_send((number, intended)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Latencies in milliseconds.
#[derive(Clone, Default)]
pub struct Latencies(Vec<f64>);

impl Latencies {
    pub fn note(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_secs_f64() * 1000.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The latency that this share of all stays below.
    pub fn at(&mut self, share: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }
}
