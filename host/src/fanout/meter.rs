//! What the fan-out counts. Handles are made once: the hot path looks nothing up.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// The fan-out's counters.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    /// Events that came over the bus.
    pub(super) received: Counter,
    /// Of those, what nobody of this installation published.
    pub(super) forged: Counter,
    /// Of those, what could not be read.
    pub(super) garbage: Counter,
    /// Events given to rooms, each once however many sockets it goes to.
    pub(super) delivered: Counter,
    /// Events that a room had had already.
    pub(super) duplicates: Counter,
    /// Times that a room found messages missing.
    pub(super) gaps: Counter,
    /// Pages of messages read to fill gaps.
    pub(super) repairs: Counter,
    /// Rooms compared with the store.
    pub(super) catch_ups: Counter,
    /// Questions that the store did not answer.
    pub(super) store_failures: Counter,
    /// Sockets whose queue was over its bound.
    pub(super) overflows: Counter,
    /// Members that were put on their own catch-up because their queue was half full.
    pub(super) pauses: Counter,
    /// Members that lost their right while they listened.
    pub(super) evictions: Counter,
    pub(super) lapses: Counter,
    pub(super) members: Gauge,
    /// Conversations with a local member.
    pub(super) rooms: Gauge,
    delay: Histogram,
}

impl Meter {
    pub(super) fn new() -> Self {
        describe();
        Self {
            received: counter!("arcyou_fanout_events_received_total"),
            forged: counter!("arcyou_fanout_events_forged_total"),
            garbage: counter!("arcyou_fanout_events_unreadable_total"),
            delivered: counter!("arcyou_fanout_events_delivered_total"),
            duplicates: counter!("arcyou_fanout_events_repeated_total"),
            gaps: counter!("arcyou_fanout_gaps_total"),
            repairs: counter!("arcyou_fanout_repair_pages_total"),
            catch_ups: counter!("arcyou_fanout_catch_ups_total"),
            store_failures: counter!("arcyou_fanout_store_failures_total"),
            overflows: counter!("arcyou_fanout_queue_overflows_total"),
            pauses: counter!("arcyou_fanout_member_pauses_total"),
            evictions: counter!("arcyou_fanout_evictions_total"),
            lapses: counter!("arcyou_fanout_lapses_total"),
            members: gauge!("arcyou_fanout_members"),
            rooms: gauge!("arcyou_fanout_rooms"),
            delay: histogram!("arcyou_fanout_delivery_seconds"),
        }
    }

    /// Notes how long a message took from its storing to the sockets' queues.
    pub(super) fn delay(&self, created_ms: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let waited = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(created_ms);
        // The database's clock may be ahead of this one.
        self.delay.record(waited.max(0) as f64 / 1000.0);
    }
}

fn describe() {
    describe_counter!("arcyou_fanout_events_received_total", "Events that came over the bus");
    describe_counter!(
        "arcyou_fanout_events_forged_total",
        "Publications without this installation's mark: forged, or another installation's"
    );
    describe_counter!("arcyou_fanout_events_unreadable_total", "Publications that are not events");
    describe_counter!("arcyou_fanout_events_delivered_total", "Events delivered to rooms, each once");
    describe_counter!("arcyou_fanout_events_repeated_total", "Events that a room had delivered already");
    describe_counter!("arcyou_fanout_gaps_total", "Times that a room found messages missing");
    describe_counter!(
        "arcyou_fanout_repair_pages_total",
        "Pages of messages read from the database for rooms and members behind"
    );
    describe_counter!("arcyou_fanout_catch_ups_total", "Rooms compared with the database");
    describe_counter!(
        "arcyou_fanout_store_failures_total",
        "Questions of the fan-out that the database did not answer"
    );
    describe_counter!("arcyou_fanout_queue_overflows_total", "Members dropped because their socket does not keep up");
    describe_counter!(
        "arcyou_fanout_member_pauses_total",
        "Members served from the database until their socket keeps up again"
    );
    describe_counter!("arcyou_fanout_evictions_total", "Members that lost the conversation while they listened");
    describe_counter!("arcyou_fanout_lapses_total", "Members dropped because what they missed was purged");
    describe_gauge!("arcyou_fanout_members", "Conversations joined by sockets");
    describe_gauge!("arcyou_fanout_rooms", "Conversations with a socket here");
    describe_histogram!(
        "arcyou_fanout_delivery_seconds",
        metrics::Unit::Seconds,
        "From storing a message to the sockets' queues, by the database's and this machine's clock"
    );
}
