//! What waits in the outbox, and what the pool does, as metrics.

use std::time::Duration;

use deadpool_postgres::Pool;

use crate::outbox;

/// Between two counts.
const INTERVAL: Duration = Duration::from_secs(5);
/// Counting stops here: the value then means "at least".
const MOST: i64 = 100_000;

/// Counts again and again, until dropped.
pub(crate) async fn run(pool: &Pool) {
    describe();
    loop {
        let status = pool.status();
        metrics::gauge!("arcyou_database_pool_connections").set(status.size as f64);
        metrics::gauge!("arcyou_database_pool_waiting").set(status.waiting as f64);
        // While it cannot be counted, the gauges keep their values and `arcyou_part_up` tells why.
        if let Ok(depth) = outbox::depth(pool, MOST).await {
            metrics::gauge!("arcyou_outbox_pending").set(depth.pending as f64);
            metrics::gauge!("arcyou_outbox_parked").set(depth.parked as f64);
            metrics::gauge!("arcyou_outbox_oldest_seconds").set(depth.oldest.as_secs_f64());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("arcyou_part_up", "1 if the part works, by part");
    describe_gauge!("arcyou_database_pool_connections", "Open connections to PostgreSQL");
    describe_gauge!("arcyou_database_pool_waiting", "Tasks that wait for a connection to PostgreSQL");
    describe_gauge!("arcyou_outbox_pending", "Rows that wait to be relayed; 100000 means at least so many");
    describe_gauge!("arcyou_outbox_parked", "Rows that ran out of tries; 100000 means at least so many");
    describe_gauge!("arcyou_outbox_oldest_seconds", "How long the first pending row has waited");
    describe_counter!("arcyou_outbox_wakes_total", "Hints from gateways");
    describe_counter!("arcyou_outbox_published_total", "Rows published and marked by this worker");
    describe_counter!("arcyou_outbox_failed_total", "Failed tries of rows by their own fault");
    describe_counter!("arcyou_outbox_parked_total", "Rows that this worker parked");
    describe_counter!("arcyou_outbox_pruned_total", "Processed rows that this worker deleted");
    describe_counter!("arcyou_outbox_outages_total", "Interruptions by PostgreSQL or the bus, by part");
    describe_histogram!("arcyou_outbox_batch_size", "Rows in a claim that found some");
    describe_histogram!(
        "arcyou_outbox_claim_seconds",
        "Time to claim, by kind: sweep from the beginning, or recent rows only"
    );
    describe_histogram!("arcyou_outbox_publish_seconds", "Time to publish a batch");
    describe_histogram!("arcyou_outbox_mark_seconds", "Time to mark a batch and commit");
    describe_histogram!("arcyou_outbox_delay_seconds", "From a row's insertion to its publication");
}
