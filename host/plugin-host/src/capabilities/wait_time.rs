//! The time that a call spends waiting for others, which does not count towards its deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long the current call has waited for others since this was last taken.
#[derive(Debug, Default)]
pub(super) struct WaitTime(Duration);

impl WaitTime {
    /// Awaits `work` and counts the time that it takes.
    pub(super) async fn measure<T>(&mut self, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = work.await;
        self.0 += started.elapsed();
        result
    }

    pub(super) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.0)
    }
}
