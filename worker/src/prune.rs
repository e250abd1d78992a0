//! Removes rows that were processed long ago, a few at a time: nobody should notice.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep};

use crate::outbox;

/// Rows on a page.
const PAGE: i64 = 1_000;
/// The shortest pause after a page; the pause is at least as long as the page took.
const PAUSE: Duration = Duration::from_millis(50);

/// Prunes again and again, until dropped. A page that is interrupted is rolled back.
pub(crate) async fn run(pool: &Pool, keep: Duration, interval: Duration) {
    loop {
        match pass(pool, keep).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "pruned"),
            // The relay tells of an outage; pruning has time.
            Err(error) => tracing::debug!(%error, "pruning is interrupted"),
        }
        sleep(interval).await;
    }
}

/// Walks the outbox from its oldest row to the first page on which no row is old enough. Parked and pending rows stay.
async fn pass(pool: &Pool, keep: Duration) -> Result<i64, outbox::OutboxError> {
    let (mut after, mut deleted) = (0, 0);
    loop {
        let started = Instant::now();
        let page = outbox::prune(pool, after, PAGE, keep).await?;
        metrics::counter!("arcyou_outbox_pruned_total").increment(u64::try_from(page.deleted).unwrap_or_default());
        deleted += page.deleted;
        if page.all_young || page.seen < PAGE {
            return Ok(deleted);
        }
        after = page.last;
        sleep(PAUSE.max(started.elapsed())).await;
    }
}
