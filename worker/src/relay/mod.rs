//! Wake → claim → publish → mark. At least once: whatever fails between publishing and marking is published again.

mod horizon;

use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::backoff::{Backoff, jitter};
use arcyou_platform::bus::{Bus, Publication, Refused, Signal, Unavailable, Unpublished};
use arcyou_platform::contract::{WAKE_CHANNEL, envelope_text};
use arcyou_platform::health::Part;
use bytes::Bytes;
use deadpool_postgres::Pool;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::horizon::Horizon;
use crate::RelayConfig;
use crate::outbox::{Claim, Content, Failure, Limits, OutboxError, Postponed, Row};
use crate::retry::{Verdict, verdict};

/// Publishing ends before the database would end the transaction for being idle.
const PUBLISH: Duration = Duration::from_secs(6);
/// Payloads in one batch, about: bounds memory and the time that publishing takes.
const BATCH_BYTES: i64 = 8 * 1024 * 1024;
/// Between tries while PostgreSQL or the bus is away.
const OUTAGE: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) };
/// Between the beginnings of two claims when the first took all there was. Gateways hint at each commit: at a thousand
/// a second, to claim for nearly each of them makes commits wait for the same processors. What comes a moment later is
/// claimed in the same statement; what comes after a pause waits for nothing.
const SPACING: Duration = Duration::from_millis(2);
/// Before a row is tried again whose part of the bus is away: at first this, later half the row's age, up to a limit. A
/// long outage costs few updates so, and who listens there catches up from the database anyway.
const POSTPONED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Listens for hints that the outbox has something new, until dropped.
pub(crate) async fn listen(bus: &dyn Bus, wake: &Notify) {
    let mut subscriber = bus.subscriber();
    subscriber.subscribe(WAKE_CHANNEL.to_owned());
    loop {
        match subscriber.next().await {
            Signal::Message { .. } => {
                metrics::counter!("arcyou_outbox_wakes_total").increment(1);
                wake.notify_one();
            }
            // Hints may have been missed before.
            Signal::Subscribed { .. } => wake.notify_one(),
            Signal::Lost | Signal::Interrupted { .. } => {}
        }
    }
}

pub(crate) struct Relay {
    config: RelayConfig,
    pool: Pool,
    bus: Arc<dyn Bus>,
    part: Part,
    horizon: Horizon,
    /// How many rows the next claim may take: few after an outage, then more and more.
    rows: i64,
    /// The next claim reads each payload apart, since one failed in a way that a row may be the cause of.
    apart: bool,
}

/// Nothing can be relayed for now. No row is to blame.
#[derive(Debug, thiserror::Error)]
enum Outage {
    #[error("PostgreSQL: {0}")]
    Database(#[from] OutboxError),
    #[error("bus: {0}")]
    Bus(#[from] Unavailable),
}

impl Relay {
    pub(crate) fn new(config: RelayConfig, pool: Pool, bus: Arc<dyn Bus>, part: Part) -> Self {
        let horizon = Horizon::new(config.poll_interval / 2, Instant::now());
        let rows = config.batch_size;
        Self { config, pool, bus, part, horizon, rows, apart: false }
    }

    /// Relays until `shutdown`; the batch in hand is finished then.
    pub(crate) async fn run(mut self, wake: &Notify, shutdown: &CancellationToken) {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            // A hint that comes from here on is kept by `wake`, however long the batch takes.
            let pause = match self.batch().await {
                Ok(more) => {
                    failures = 0;
                    if more {
                        continue;
                    }
                    self.config.poll_interval
                }
                Err(outage) => {
                    failures += 1;
                    self.note(&outage, failures);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = sleep(OUTAGE.jittered(failures, jitter())) => continue,
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = wake.notified() => {}
                () = sleep(pause) => {}
            }
            sleep_until(started + SPACING).await;
        }
    }

    fn note(&mut self, outage: &Outage, failures: u32) {
        let kind = match outage {
            Outage::Database(error) if error.may_be_a_row() && !self.apart => {
                // The same rows again, one by one.
                self.apart = true;
                tracing::debug!(%error, "claiming failed; looking for a row that is the cause");
                return;
            }
            Outage::Database(error) => {
                self.part.down(error.to_string());
                "database"
            }
            Outage::Bus(_) => "bus",
        };
        metrics::counter!("arcyou_outbox_outages_total", "part" => kind).increment(1);
        if failures == 1 {
            tracing::warn!(%outage, "relaying is interrupted; nothing is lost, and no row is blamed");
        }
        self.rows = 1;
        self.horizon.reset(Instant::now());
    }

    /// Relays what can be claimed at once. Whether there is probably more.
    async fn batch(&mut self) -> Result<bool, Outage> {
        let started = Instant::now();
        let after = self.horizon.after(started);
        let limits = Limits {
            rows: self.rows,
            payload_bytes: self.config.max_payload_bytes,
            batch_bytes: BATCH_BYTES,
            apart: self.apart,
        };
        let mut claim = Claim::take(&self.pool, after, limits).await?;
        let claiming = started.elapsed();
        let sweep = if after == 0 { "sweep" } else { "recent" };
        metrics::histogram!("arcyou_outbox_claim_seconds", "kind" => sweep).record(claiming.as_secs_f64());
        self.part.up();
        let rows = std::mem::take(&mut claim.rows);
        let (more, highest) = (claim.more, rows.last().map(|row| row.id));
        if rows.is_empty() {
            claim.abandon().await;
        } else {
            self.relay(claim, rows).await?;
        }
        self.horizon.done(after, claiming, highest, Instant::now());
        // Until rows were claimed so: the first try may come while the failed one still holds them.
        self.apart &= highest.is_none();
        self.rows = (self.rows * 2).min(self.config.batch_size);
        Ok(more)
    }

    async fn relay(&self, claim: Claim, rows: Vec<Row>) -> Result<(), Outage> {
        metrics::histogram!("arcyou_outbox_batch_size").record(rows.len() as f64);
        let mut failures = Vec::new();
        let mut claimed = Vec::with_capacity(rows.len());
        let mut publications = Vec::with_capacity(rows.len());
        for Row { id, conversation_id, retries, age, content } in rows {
            match content {
                Content::Event { kind, payload } => {
                    let text = envelope_text(id, &kind, conversation_id, &payload);
                    let channel = self.config.mode.channel(conversation_id);
                    publications.push(Publication { channel, payload: Bytes::from(text) });
                    claimed.push((id, retries, age));
                }
                Content::Unusable(reason) => failures.push(self.failure(id, retries, reason)),
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
        let (mut published, mut postponed) = (Vec::with_capacity(claimed.len()), Vec::new());
        for ((id, retries, age), result) in claimed.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    metrics::histogram!("arcyou_outbox_delay_seconds").record(age.as_secs_f64());
                    published.push(id);
                }
                Err(Unpublished::Refused(Refused(reason))) => failures.push(self.failure(id, retries, reason)),
                Err(Unpublished::Unavailable(Unavailable(reason))) => {
                    tracing::debug!(id, reason, "a row's part of the bus is away");
                    let [least, most] = POSTPONED;
                    postponed.push(Postponed { id, delay: (age / 2).clamp(least, most).mul_f64(1.0 - jitter() / 4.0) });
                }
            }
        }
        let marking = Instant::now();
        claim.finish(&published, &failures, &postponed).await?;
        metrics::histogram!("arcyou_outbox_mark_seconds").record(marking.elapsed().as_secs_f64());
        metrics::counter!("arcyou_outbox_postponed_total").increment(postponed.len() as u64);
        count(&published, &failures);
        Ok(())
    }

    async fn publish(&self, publications: &[Publication]) -> Result<Vec<Result<(), Unpublished>>, Unavailable> {
        if publications.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let results = timeout(PUBLISH, self.bus.publish(publications))
            .await
            .map_err(|_| Unavailable(format!("publishing took longer than {} seconds", PUBLISH.as_secs())))??;
        metrics::histogram!("arcyou_outbox_publish_seconds").record(started.elapsed().as_secs_f64());
        Ok(results)
    }

    fn failure(&self, id: i64, retries: u32, error: String) -> Failure {
        let verdict = verdict(retries.saturating_add(1), self.config.max_retries, self.config.backoff, jitter());
        tracing::warn!(
            id,
            error,
            try_number = retries + 1,
            parked = verdict == Verdict::Park,
            "a row cannot be published"
        );
        Failure { id, error, verdict }
    }
}

fn count(published: &[i64], failures: &[Failure]) {
    let parked = failures.iter().filter(|failure| failure.verdict == Verdict::Park).count();
    metrics::counter!("arcyou_outbox_published_total").increment(published.len() as u64);
    metrics::counter!("arcyou_outbox_failed_total").increment(failures.len() as u64);
    metrics::counter!("arcyou_outbox_parked_total").increment(parked as u64);
}
