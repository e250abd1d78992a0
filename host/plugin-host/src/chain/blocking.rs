//! Calls to slow plugins are moved off the threads that serve sockets. A plugin that uses its whole deadline then
//! delays its own sender, not everybody whose socket is on that thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// A call that takes longer is slow. Fast plugins need about a hundredth of it.
const SLOW: Duration = Duration::from_millis(2);

/// Whether the last call was slow. The first slow call is not predicted.
#[derive(Debug, Default)]
pub(crate) struct BlockingHint(AtomicBool);

impl BlockingHint {
    /// Runs a call: on the current thread if the last call was fast, since moving the thread's other work costs more
    /// than such a call.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.0.load(Ordering::Relaxed) && can_block_in_place() { block_in_place(work) } else { work() }
    }

    /// Records how long a call took.
    pub(crate) fn record(&self, took: Duration) {
        let slow = took > SLOW;
        if self.0.load(Ordering::Relaxed) != slow {
            self.0.store(slow, Ordering::Relaxed);
        }
    }
}

/// Only a multi-threaded runtime can move its work to another thread.
fn can_block_in_place() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_call_leaves_the_thread_to_others() {
        let hint = BlockingHint::default();
        hint.record(SLOW * 2);
        let (done, others) = mpsc::channel();
        let slow = tokio::spawn(async move {
            let other = tokio::spawn(async move { done.send(()) });
            // Without moving, the other task would never run on the only thread.
            hint.run(|| others.recv())?;
            other.await.is_ok_and(|sent| sent.is_ok()).then_some(()).ok_or(mpsc::RecvError)
        });
        assert!(matches!(slow.await, Ok(Ok(()))));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_runs_every_call_on_its_thread() {
        let hint = BlockingHint::default();
        hint.record(SLOW * 2);
        assert_eq!(hint.run(|| 1), 1);
        hint.record(SLOW / 2);
        assert_eq!(hint.run(|| 2), 2);
    }
}
