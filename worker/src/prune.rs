//! Deletes rows that no consumer needs any more, a page at a time with pauses, so that the load stays low.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use crate::config::PruneConfig;
use crate::consumers;
use crate::outbox::{OutboxError, Param, Transaction};

/// Rows on a page: one transaction, some ten milliseconds.
const PAGE_ROWS: i64 = 1_000;
/// The shortest pause after a page. A pause is at least as long as the page took, so that pruning uses at most half of
/// the time.
const MIN_PAUSE: Duration = Duration::from_millis(50);

/// What pruning found on one page of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PrunedPage {
    /// The id of the page's last row; the next page begins after it.
    last_id: i64,
    rows: i64,
    deleted: i64,
    /// Every row on the page is younger than the retention, and so is every later one.
    all_young: bool,
}

/// Prunes at intervals until dropped. An interrupted page is rolled back. Never returns.
pub(crate) async fn run(pool: &Pool, config: PruneConfig) {
    let Some(retention) = config.retention else { return std::future::pending().await };
    let statement = page_statement();
    loop {
        match pass(pool, &statement, retention).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "pruned"),
            // Consumers report an outage; pruning can wait.
            Err(error) => tracing::debug!(%error, "pruning was interrupted"),
        }
        sleep(config.interval).await;
    }
}

/// Walks the outbox from its oldest row to the first page on which every row is too young. The number of deleted rows.
async fn pass(pool: &Pool, statement: &str, retention: Duration) -> Result<i64, OutboxError> {
    let (mut after_id, mut deleted) = (0, 0);
    loop {
        let started = Instant::now();
        let page = prune_page(pool, statement, after_id, retention).await?;
        metrics::counter!("arcyou_outbox_pruned_total").increment(u64::try_from(page.deleted).unwrap_or_default());
        deleted += page.deleted;
        if page.all_young || page.rows < PAGE_ROWS {
            return Ok(deleted);
        }
        after_id = page.last_id;
        sleep(MIN_PAUSE.max(started.elapsed())).await;
    }
}

async fn prune_page(
    pool: &Pool,
    statement: &str,
    after_id: i64,
    retention: Duration,
) -> Result<PrunedPage, OutboxError> {
    let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
    let params: [Param<'_>; 3] = [(&after_id, Type::INT8), (&PAGE_ROWS, Type::INT8), (&seconds, Type::INT8)];
    let rows = Transaction::run(pool, statement, &params).await?;
    let Some(row) = rows.first() else {
        return Ok(PrunedPage { last_id: after_id, rows: 0, deleted: 0, all_young: true });
    };
    Ok(PrunedPage {
        last_id: row.try_get(0)?,
        rows: row.try_get(1)?,
        deleted: row.try_get(2)?,
        all_young: row.try_get(3)?,
    })
}

/// $1 rows after this id, $2 rows on the page, $3 the retention in seconds. Deletes the rows of the page that every
/// consumer released longer ago than the retention; answers the last id, the number of rows, how many were deleted, and
/// whether all of them are younger than the retention.
fn page_statement() -> String {
    format!(
        "WITH page AS MATERIALIZED (
            SELECT id, created_at FROM outbox WHERE id > $1 ORDER BY id LIMIT $2
        ), old AS MATERIALIZED (
            SELECT outbox.id FROM outbox JOIN page USING (id)
            WHERE {}
            FOR UPDATE OF outbox SKIP LOCKED
        ), gone AS (
            DELETE FROM outbox WHERE id IN (SELECT id FROM old) RETURNING id
        )
        SELECT coalesce(max(id), 0)::int8, count(*), (SELECT count(*) FROM gone),
            coalesce(bool_and(created_at >= now() - $3 * interval '1 second'), true)
        FROM page",
        consumers::RELEASED.join(" AND ")
    )
}
