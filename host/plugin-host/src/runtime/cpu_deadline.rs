//! How long a call may run, in CPU time. The epoch is wall-clock time: on a busy machine a thread waits for a core
//! while it advances, and that is not the plugin's fault.

use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A call is interrupted after so many times its deadline in wall-clock time, whatever its CPU time: it holds a thread.
const WALL_FACTOR: u32 = 20;
/// The share of the deadline after which CPU time is measured. Reading that clock is a system call, which most calls
/// are too short to need. What a call used before is not known, so up to this share may be granted in addition.
const UNMEASURED_SHARE: u32 = 8;

/// The CPU time of the calling thread, and the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuReading {
    thread: ThreadId,
    cpu: Duration,
}

impl CpuReading {
    pub(crate) fn now() -> Self {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
        let (seconds, nanos) = (u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0));
        Self { thread: thread::current().id(), cpu: Duration::new(seconds, nanos) }
    }
}

/// The time that is left to one call. Pure: readings are arguments.
#[derive(Debug, Default)]
pub(crate) struct CpuDeadline {
    /// CPU time that is left.
    left_ms: u32,
    /// Wall-clock time that is left, beyond what has been granted.
    wall_left_ms: u32,
    /// The last reading; none: the call has not been measured yet.
    measured: Option<CpuReading>,
}

impl CpuDeadline {
    /// A call begins that may take so long. Returns the milliseconds until [`expired`](Self::expired) is due.
    pub(crate) fn begin(&mut self, deadline_ms: u32) -> u32 {
        let first = (deadline_ms / UNMEASURED_SHARE).max(1);
        let wall_left_ms = deadline_ms.saturating_mul(WALL_FACTOR);
        *self = Self { left_ms: deadline_ms.saturating_sub(first), wall_left_ms, measured: None };
        first
    }

    /// The time that was granted is over. Returns how many milliseconds more are granted; none: the call has used up
    /// its deadline.
    pub(crate) fn expired(&mut self, now: CpuReading) -> Option<u32> {
        let used = match self.measured {
            // After a wait the call may be on another thread, whose time before is not the call's.
            Some(before) if before.thread == now.thread => now.cpu.saturating_sub(before.cpu),
            _ => Duration::ZERO,
        };
        self.measured = Some(now);
        let used_ms = u32::try_from(used.as_millis()).unwrap_or(u32::MAX);
        self.left_ms = self.left_ms.saturating_sub(used_ms);
        let granted = self.left_ms.min(self.wall_left_ms);
        self.wall_left_ms -= granted;
        (granted > 0).then_some(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> CpuReading {
        CpuReading { thread: thread::current().id(), cpu: Duration::from_millis(ms) }
    }

    #[test]
    fn a_call_that_computes_all_the_time_ends_at_its_deadline() {
        let mut deadline = CpuDeadline::default();
        assert_eq!(deadline.begin(80), 10);
        assert_eq!(deadline.expired(at(1010)), Some(70));
        assert_eq!(deadline.expired(at(1080)), None);
    }

    #[test]
    fn time_without_a_core_does_not_count_up_to_a_bound() {
        let mut deadline = CpuDeadline::default();
        deadline.begin(80);
        assert_eq!(deadline.expired(at(0)), Some(70));
        assert_eq!(deadline.expired(at(30)), Some(40));
        assert_eq!(deadline.expired(at(69)), Some(1));
        assert_eq!(deadline.expired(at(70)), None);
        deadline.begin(80);
        let granted: u32 = std::iter::from_fn(|| deadline.expired(at(0))).sum();
        assert_eq!(granted, 80 * WALL_FACTOR);
    }

    #[test]
    fn another_threads_time_does_not_count() {
        let mut deadline = CpuDeadline::default();
        deadline.begin(80);
        deadline.expired(at(5));
        let other = thread::spawn(|| thread::current().id()).join().map(|thread| CpuReading { thread, ..at(9_000) });
        assert_eq!(other.ok().and_then(|reading| deadline.expired(reading)), Some(70));
    }

    #[test]
    fn even_the_shortest_deadline_is_measured() {
        let mut deadline = CpuDeadline::default();
        assert_eq!(deadline.begin(1), 1);
        assert_eq!(deadline.expired(at(1)), None);
    }
}
