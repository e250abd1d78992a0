//! The state of the connection pool as metrics, and the descriptions of what belongs to no single consumer.

use std::time::Duration;

use deadpool_postgres::Pool;
use metrics::{describe_counter, describe_gauge};

/// Between two readings: a scrape every 15 seconds sees fresh values.
const INTERVAL: Duration = Duration::from_secs(5);

/// Updates the gauges until dropped. Never returns.
pub(crate) async fn run(pool: &Pool) {
    describe_gauge!("arcyou_part_up", "1 if the part works, by part");
    describe_gauge!("arcyou_database_pool_connections", "Open connections to PostgreSQL");
    describe_gauge!("arcyou_database_pool_waiting", "Tasks that wait for a connection to PostgreSQL");
    describe_counter!("arcyou_outbox_wakes_total", "Hints from gateways");
    describe_counter!("arcyou_outbox_pruned_total", "Rows that this worker deleted after their retention");
    describe_counter!(
        "arcyou_messages_purged_total",
        "Messages that this worker removed since they were kept no longer"
    );
    describe_gauge!("arcyou_build_info", "Always 1: the version of this program, and what it was built for");
    for name in ["arcyou_outbox_wakes_total", "arcyou_outbox_pruned_total", "arcyou_messages_purged_total"] {
        metrics::counter!(name).absolute(0);
    }
    loop {
        let status = pool.status();
        metrics::gauge!("arcyou_database_pool_connections").set(status.size as f64);
        metrics::gauge!("arcyou_database_pool_waiting").set(status.waiting as f64);
        tokio::time::sleep(INTERVAL).await;
    }
}
