//! Slow plugins are called beside the threads that serve sockets: one that takes its whole deadline is a pause for its
//! own sender, not for everybody whose socket is on that thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// A call that takes longer is slow: some hundred times as long as honest ones take.
const SLOW: Duration = Duration::from_millis(2);

/// Whether the last call was slow. The first slow one is not foreseen.
#[derive(Debug, Default)]
pub(crate) struct BlockingHint(AtomicBool);

impl BlockingHint {
    /// Makes a call: where it is if the last one was quick, for moving the thread's other work costs more than such a
    /// call.
    pub(crate) fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.0.load(Ordering::Relaxed) && can_step_aside() { block_in_place(work) } else { work() }
    }

    /// How long a call took.
    pub(crate) fn note(&self, took: Duration) {
        let slow = took > SLOW;
        if self.0.load(Ordering::Relaxed) != slow {
            self.0.store(slow, Ordering::Relaxed);
        }
    }
}

/// Only a runtime with several threads can go on elsewhere.
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
            // On the runtime's one thread the other's turn would never come.
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
