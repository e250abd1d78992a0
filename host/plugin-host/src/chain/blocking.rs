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
    pub(crate) fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.0.load(Ordering::Relaxed) && can_step_aside() { block_in_place(work) } else { work() }
    }

    /// Records how long a call took.
    pub(crate) fn note(&self, took: Duration) {
        let slow = took > SLOW;
        if self.0.load(Ordering::Relaxed) != slow {
            self.0.store(slow, Ordering::Relaxed);
        }
    }
}

/// Only a multi-threaded runtime can move its work to another thread.
fn can_step_aside() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_call_leaves_the_thread_to_others() {
        let pace = BlockingHint::default();
        pace.note(SLOW * 2);
        let (told, others) = mpsc::channel();
        let slow = tokio::spawn(async move {
            let other = tokio::spawn(async move { told.send(()) });
            // Without moving, the other task would never run on the only thread.
            pace.call(|| others.recv())?;
            other.await.is_ok_and(|sent| sent.is_ok()).then_some(()).ok_or(mpsc::RecvError)
        });
        assert!(matches!(slow.await, Ok(Ok(()))));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_makes_every_call_where_it_is() {
        let pace = BlockingHint::default();
        pace.note(SLOW * 2);
        assert_eq!(pace.call(|| 1), 1);
        pace.note(SLOW / 2);
        assert_eq!(pace.call(|| 2), 2);
    }
}
