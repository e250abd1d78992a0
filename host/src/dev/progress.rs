//! A line on the terminal for whatever takes more than a second.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, timeout};

/// Runs `work`; if it takes more than a second, says what is going on, and at the end how long it took.
pub(super) async fn step<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = pin!(work);
    if let Ok(result) = timeout(Duration::from_secs(1), work.as_mut()).await {
        return result;
    }
    eprintln!("{what} …");
    let result = work.await;
    eprintln!("{what}: {:.1} s", started.elapsed().as_secs_f32());
    result
}

/// The same for work that blocks its thread.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    step(what, tokio::task::spawn_blocking(work)).await
}
