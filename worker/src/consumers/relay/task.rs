//! The loop: wake → claim → publish → mark.

use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::backoff::{Backoff, jitter};
use arcyou_platform::bus::{Bus, BusUnavailable, MessageRejected, Publication, PublishError};
use arcyou_platform::contract::{EventKey, READ_EVENT_KEY, envelope_text};
use arcyou_platform::health::{Health, Part};
use arcyou_platform::outage_log::OutageLog;
use bytes::Bytes;
use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::claim::{Claim, ClaimLimits, ClaimedRow, Content};
use super::claim_watermark::ClaimWatermark;
use super::gauges;
use super::mark::{FailedRow, Outcomes, PostponedRow};
use super::retry::RetryDecision;
use crate::config::RelayConfig;
use crate::outbox::{OutboxError, Transaction};
use crate::wake::WakeHints;

/// The longest that publishing a batch may take. Ends before the database ends the transaction for being idle (8 s).
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(6);
/// The payloads of one batch together, about. Bounds memory and the time that publishing takes.
const BATCH_BYTES: i64 = 8 * 1024 * 1024;
/// Between attempts while PostgreSQL or the bus is unavailable.
const OUTAGE_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) };
/// Minimum interval between the starts of two claims once the outbox is drained. Gateways send a hint at each commit;
/// at a thousand commits a second, a claim for nearly each of them takes processor time from the commits. Rows that
/// arrive within the interval are claimed together; a row that arrives after a pause does not wait.
const MIN_CLAIM_INTERVAL: Duration = Duration::from_millis(2);
/// The key of events is read again after this time: it may have been replaced, or the whole database.
const EVENT_KEY_AGE: Duration = Duration::from_secs(5);
/// How long a row is postponed whose part of the bus is unavailable: half its age, within these bounds. A long outage
/// then costs few updates, and subscribers of that part catch up from the database anyway.
const MIN_POSTPONE: Duration = Duration::from_secs(1);
const MAX_POSTPONE: Duration = Duration::from_secs(30);

/// Publishes the rows of the outbox to the bus, in the order of ids within a batch.
pub(crate) struct Relay {
    config: RelayConfig,
    pool: Pool,
    bus: Arc<dyn Bus>,
    health: Health,
    /// Whether the database works, as the relay sees it.
    database: Part,
    hints: WakeHints,
    watermark: ClaimWatermark,
    /// With the time at which it was read.
    event_key: Option<(EventKey, Instant)>,
    /// How many rows the next claim may take: 1 after an outage, then twice as many each time, up to the batch size.
    claim_rows: i64,
    outage: OutageLog,
    /// The next claim reads payloads one by one, because the last one failed in a way that a row may have caused.
    separate_payloads: bool,
}

/// Nothing can be relayed for now. No row is the cause.
#[derive(Debug, thiserror::Error)]
enum Outage {
    #[error("PostgreSQL: {0}")]
    Database(#[from] OutboxError),
    #[error("bus: {0}")]
    Bus(#[from] BusUnavailable),
}

impl Relay {
    /// Reports on the parts `database`, and `outbox` once it runs.
    pub(crate) fn new(config: RelayConfig, pool: Pool, bus: Arc<dyn Bus>, health: Health, hints: WakeHints) -> Self {
        gauges::describe();
        let database = health.part("database");
        let watermark = ClaimWatermark::new(config.poll_interval / 2, Instant::now());
        let (claim_rows, outage) = (config.batch_size, OutageLog::new());
        Self {
            config,
            pool,
            bus,
            health,
            database,
            hints,
            watermark,
            event_key: None,
            claim_rows,
            outage,
            separate_payloads: false,
        }
    }

    /// Relays until `shutdown`, then finishes the batch in hand.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let (pool, outbox) = (self.pool.clone(), self.health.part("outbox"));
        tokio::select! {
            () = self.relay_batches(&shutdown) => {}
            () = gauges::run(&pool, &outbox) => {}
        }
    }

    async fn relay_batches(&mut self, shutdown: &CancellationToken) {
        let mut outages_in_a_row = 0;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            // A hint that arrives from here on is kept, however long the batch takes.
            match self.relay_batch().await {
                Ok(more) => {
                    outages_in_a_row = 0;
                    if let Some(line) = self.outage.worked(std::time::Instant::now()) {
                        tracing::info!(seconds = line.lasted.as_secs(), "relaying goes on");
                    }
                    if more {
                        continue;
                    }
                }
                Err(outage) => {
                    outages_in_a_row += 1;
                    self.after_outage(&outage);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = sleep(OUTAGE_BACKOFF.jittered(outages_in_a_row, jitter())) => continue,
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.hints.next() => {}
                () = sleep(self.config.poll_interval) => {}
            }
            sleep_until(started + MIN_CLAIM_INTERVAL).await;
        }
    }

    /// Reports an outage and makes the next claims careful: few rows, from the beginning of the outbox.
    fn after_outage(&mut self, outage: &Outage) {
        let part = match outage {
            Outage::Database(error) if error.may_be_caused_by_a_row() && !self.separate_payloads => {
                self.separate_payloads = true;
                tracing::debug!(%error, "a claim failed; the same rows are read one by one to find the cause");
                return;
            }
            Outage::Database(error) => {
                self.database.down(error.to_string());
                "database"
            }
            Outage::Bus(_) => "bus",
        };
        metrics::counter!("arcyou_outbox_outages_total", "part" => part).increment(1);
        if let Some(line) = self.outage.failed(std::time::Instant::now()) {
            let seconds = line.lasted.as_secs();
            tracing::warn!(%outage, seconds, "relaying is interrupted; no row is lost or counted as failed");
        }
        self.claim_rows = 1;
        self.watermark.reset(Instant::now());
    }

    /// Relays one claim. Whether there is probably more.
    async fn relay_batch(&mut self) -> Result<bool, Outage> {
        let started = Instant::now();
        let after_id = self.watermark.lower_bound(started);
        let limits = ClaimLimits {
            rows: self.claim_rows,
            payload_bytes: self.config.max_payload_bytes,
            batch_bytes: BATCH_BYTES,
            separate_payloads: self.separate_payloads,
        };
        let event_key = self.event_key().await?;
        let mut claim = Claim::take(&self.pool, after_id, limits).await?;
        let claiming = started.elapsed();
        let kind = if after_id == 0 { "sweep" } else { "recent" };
        metrics::histogram!("arcyou_outbox_claim_seconds", "kind" => kind).record(claiming.as_secs_f64());
        let rows = std::mem::take(&mut claim.rows);
        let (more, highest_id) = (claim.more, rows.last().map(|row| row.id));
        if rows.is_empty() {
            claim.abandon().await;
        } else {
            self.publish_and_mark(&event_key, claim, rows).await?;
        }
        // Not before: a database may let rows be claimed and not be marked.
        self.database.up();
        self.watermark.record(after_id, claiming, highest_id, Instant::now());
        // Kept until a claim finds rows: the first attempt may come while the failed one still holds them.
        self.separate_payloads &= highest_id.is_none();
        self.claim_rows = (self.claim_rows * 2).min(self.config.batch_size);
        Ok(more)
    }

    async fn event_key(&mut self) -> Result<EventKey, OutboxError> {
        if let Some((key, read_at)) = &self.event_key
            && read_at.elapsed() < EVENT_KEY_AGE
        {
            return Ok(key.clone());
        }
        let rows = Transaction::run(&self.pool, READ_EVENT_KEY, &[]).await?;
        let secret: &[u8] = rows.first().ok_or(OutboxError::NoEventKey)?.try_get(0)?;
        let (key, _) = self.event_key.insert((EventKey::new(secret), Instant::now()));
        Ok(key.clone())
    }

    async fn publish_and_mark(&self, event_key: &EventKey, claim: Claim, rows: Vec<ClaimedRow>) -> Result<(), Outage> {
        metrics::histogram!("arcyou_outbox_batch_size").record(rows.len() as f64);
        let mut outcomes = Outcomes::default();
        let mut sent = Vec::with_capacity(rows.len());
        let mut publications = Vec::with_capacity(rows.len());
        for ClaimedRow { id, conversation_id, failures, age, content } in rows {
            match content {
                Content::Event { kind, payload } => {
                    let text = envelope_text(event_key, id, &kind, conversation_id, &payload);
                    let channel = self.config.mode.channel(conversation_id);
                    publications.push(Publication { channel, payload: Bytes::from(text) });
                    sent.push((id, failures, age));
                }
                Content::Unpublishable(reason) => outcomes.failed.push(self.failed_row(id, failures, reason)),
            }
        }
        let results = match self.publish(&publications).await {
            Ok(results) => results,
            Err(outage) => {
                claim.abandon().await;
                return Err(outage.into());
            }
        };
        drop(publications);
        outcomes.published.reserve(sent.len());
        for ((id, failures, age), result) in sent.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    metrics::histogram!("arcyou_outbox_delay_seconds").record(age.as_secs_f64());
                    outcomes.published.push(id);
                }
                Err(PublishError::Rejected(MessageRejected(reason))) => {
                    outcomes.failed.push(self.failed_row(id, failures, reason));
                }
                Err(PublishError::Unavailable(BusUnavailable(reason))) => {
                    tracing::debug!(id, reason, "a row is postponed: its part of the bus is unavailable");
                    let delay = (age / 2).clamp(MIN_POSTPONE, MAX_POSTPONE).mul_f64(1.0 - jitter() / 4.0);
                    outcomes.postponed.push(PostponedRow { id, delay });
                }
            }
        }
        let marking = Instant::now();
        claim.commit(&outcomes).await?;
        metrics::histogram!("arcyou_outbox_mark_seconds").record(marking.elapsed().as_secs_f64());
        count(&outcomes);
        Ok(())
    }

    async fn publish(&self, publications: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable> {
        if publications.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let results = timeout(PUBLISH_TIMEOUT, self.bus.publish(publications)).await.map_err(|_| {
            BusUnavailable(format!("publishing took longer than {} seconds", PUBLISH_TIMEOUT.as_secs()))
        })??;
        metrics::histogram!("arcyou_outbox_publish_seconds").record(started.elapsed().as_secs_f64());
        Ok(results)
    }

    fn failed_row(&self, id: i64, earlier_failures: u32, error: String) -> FailedRow {
        let failures = earlier_failures.saturating_add(1);
        let decision = RetryDecision::after(failures, self.config.max_retries, self.config.backoff, jitter());
        let parked = decision == RetryDecision::Park;
        tracing::warn!(id, error, try_number = failures, parked, "a row cannot be published");
        FailedRow { id, error, decision }
    }
}

fn count(outcomes: &Outcomes) {
    let Outcomes { published, failed, postponed } = outcomes;
    let parked = failed.iter().filter(|row| row.decision == RetryDecision::Park).count();
    metrics::counter!("arcyou_outbox_published_total").increment(published.len() as u64);
    metrics::counter!("arcyou_outbox_failed_total").increment(failed.len() as u64);
    metrics::counter!("arcyou_outbox_parked_total").increment(parked as u64);
    metrics::counter!("arcyou_outbox_postponed_total").increment(postponed.len() as u64);
}
