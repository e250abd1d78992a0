//! Removes messages that their conversations do not keep any more, some at a time with pauses, so that senders wait for
//! none of it and the load stays low.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use crate::outbox::{OutboxError, Param, Transaction};

/// The pause after a pass; a message goes at most this much later than its conversation is due.
const INTERVAL: Duration = Duration::from_secs(10);
/// Rows that go in one transaction, messages and what belongs to them: some milliseconds, for which their conversation
/// is locked.
const BATCH_ROWS: i32 = 500;
/// The shortest pause after a batch. A pause is at least as long as the batch took, so that purging uses at most half
/// of the time, and senders have the conversation meanwhile.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// So often in a row a pass finds everything that is due locked by senders, before it leaves them alone for a while.
const MOST_IN_VAIN: u32 = 20;

/// `$1` about so many rows. How many messages went, and whether a conversation is still due.
const PURGE: &str = "SELECT purged, more FROM purge_messages($1)";

/// Purges at intervals until dropped. An interrupted batch is rolled back. Any number of workers may do so at once.
/// Never returns.
pub(crate) async fn run(pool: &Pool) {
    loop {
        match pass(pool).await {
            Ok(0) => {}
            Ok(purged) => tracing::debug!(purged, "purged messages"),
            // Consumers report an outage; purging can wait.
            Err(error) => tracing::debug!(%error, "purging was interrupted"),
        }
        sleep(INTERVAL).await;
    }
}

/// Purges until no conversation is due. The number of messages that went.
async fn pass(pool: &Pool) -> Result<u64, OutboxError> {
    let (mut all, mut in_vain) = (0, 0);
    loop {
        let started = Instant::now();
        let params: [Param<'_>; 1] = [(&BATCH_ROWS, Type::INT4)];
        let rows = Transaction::run(pool, PURGE, &params).await?;
        let Some(row) = rows.first() else { return Ok(all) };
        let (purged, more): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        let purged = u64::try_from(purged).unwrap_or_default();
        metrics::counter!("arcyou_messages_purged_total").increment(purged);
        all += purged;
        in_vain = if purged == 0 { in_vain + 1 } else { 0 };
        if !more || in_vain == MOST_IN_VAIN {
            return Ok(all);
        }
        sleep(MIN_PAUSE.max(started.elapsed())).await;
    }
}
