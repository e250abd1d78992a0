//! Waiting, which is not what a deadline counts.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long the call in hand has waited for others since this was last looked at.
#[derive(Debug, Default)]
pub(super) struct WaitTime(Duration);

impl WaitTime {
    /// The result of `work`, its time counted.
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
