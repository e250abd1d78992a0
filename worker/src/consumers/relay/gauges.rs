//! What waits for the relay, as metrics and for `/ready`, and the descriptions of all metrics of the relay.

use std::time::Duration;

use arcyou_platform::health::Part;
use deadpool_postgres::Pool;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use tokio_postgres::types::Type;

use super::claim::age_from_millis;
use super::sql;
use crate::outbox::{OutboxError, Transaction};

/// Between two counts: a scrape every 15 seconds sees fresh values.
const INTERVAL: Duration = Duration::from_secs(5);
/// Counting stops here, so that a large backlog is not made slower by being counted. The value then means "at least".
const MAX_COUNT: i64 = 100_000;

/// The rows that the relay has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Backlog {
    pending: i64,
    parked: i64,
    /// The age of the first pending row.
    oldest: Duration,
}

/// A row that waits for this long waits for more than a busy relay.
const OVERDUE: Duration = Duration::from_secs(30);

/// Updates the gauges, and warns on `part`, until dropped. Never returns.
pub(super) async fn run(pool: &Pool, part: &Part) {
    part.up();
    loop {
        // While the outbox cannot be counted, the gauges keep their values; `arcyou_part_up` shows why.
        if let Ok(backlog) = count(pool).await {
            match backlog.warning() {
                None => part.up(),
                Some(warning) => part.up_but(warning),
            }
            metrics::gauge!("arcyou_outbox_pending").set(backlog.pending as f64);
            metrics::gauge!("arcyou_outbox_parked").set(backlog.parked as f64);
            metrics::gauge!("arcyou_outbox_oldest_seconds").set(backlog.oldest.as_secs_f64());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Backlog {
    /// What an operator must know. The relay works all the same, so it is no reason to be down.
    fn warning(&self) -> Option<String> {
        let parked = (self.parked > 0).then(|| {
            let count = self.parked;
            format!("{count} rows are parked and will not be published: see `arcyou-outbox-worker parked list`")
        });
        let overdue = (self.oldest >= OVERDUE).then(|| {
            let (seconds, pending) = (self.oldest.as_secs(), self.pending);
            format!("{pending} rows wait, the oldest for {seconds} s: the relay is interrupted, or too slow")
        });
        parked.into_iter().chain(overdue).reduce(|all, next| format!("{all}; {next}"))
    }
}

async fn count(pool: &Pool) -> Result<Backlog, OutboxError> {
    let rows = Transaction::run(pool, sql::BACKLOG, &[(&MAX_COUNT, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(Backlog { pending: 0, parked: 0, oldest: Duration::ZERO }) };
    Ok(Backlog { pending: row.try_get(0)?, parked: row.try_get(1)?, oldest: age_from_millis(row.try_get(2)?) })
}

/// Describes what the relay measures.
pub(super) fn describe() {
    describe_gauge!("arcyou_outbox_pending", "Rows that wait to be relayed; 100000 means at least that many");
    describe_gauge!("arcyou_outbox_parked", "Rows that have used up their tries; 100000 means at least that many");
    describe_gauge!("arcyou_outbox_oldest_seconds", "How long the first pending row has waited");
    describe_counter!("arcyou_outbox_published_total", "Rows published and marked by this worker");
    describe_counter!("arcyou_outbox_failed_total", "Failed tries that the row itself caused");
    describe_counter!("arcyou_outbox_parked_total", "Rows that this worker parked");
    describe_counter!("arcyou_outbox_postponed_total", "Rows postponed because their part of the bus was unavailable");
    describe_counter!("arcyou_outbox_outages_total", "Interruptions by PostgreSQL or the bus, by part");
    describe_histogram!("arcyou_outbox_batch_size", "Rows in a claim that found some");
    describe_histogram!(
        "arcyou_outbox_claim_seconds",
        "Time to claim, by kind: sweep from the beginning, or recent rows only"
    );
    describe_histogram!("arcyou_outbox_publish_seconds", "Time to publish a batch");
    describe_histogram!("arcyou_outbox_mark_seconds", "Time to mark a batch and commit");
    describe_histogram!("arcyou_outbox_delay_seconds", "From a row's insertion to its publication");
    begin();
}

/// Every series is there from the start.
fn begin() {
    for name in ["published", "failed", "parked", "postponed"] {
        metrics::counter!(format!("arcyou_outbox_{name}_total")).absolute(0);
    }
    for part in ["database", "bus"] {
        metrics::counter!("arcyou_outbox_outages_total", "part" => part).absolute(0);
    }
    for kind in ["sweep", "recent"] {
        let _ = metrics::histogram!("arcyou_outbox_claim_seconds", "kind" => kind);
    }
    for name in ["batch_size", "publish_seconds", "mark_seconds", "delay_seconds"] {
        let _ = metrics::histogram!(format!("arcyou_outbox_{name}"));
    }
    for name in ["pending", "parked", "oldest_seconds"] {
        metrics::gauge!(format!("arcyou_outbox_{name}")).increment(0.0);
    }
}
