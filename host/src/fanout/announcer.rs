//! What this gateway has committed, told at once: to its own rooms, and over the bus to other gateways; then its rows
//! of the outbox are marked.
//!
//! Nothing depends on it. Workers leave these rows to the gateway for a short time only; what it did not mark by then
//! they relay like any other row, and rooms drop what they have had. So each step may fail, or be left out when it is
//! behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arcyou_platform::bus::{Bus, Publication};
use arcyou_platform::contract::{Envelope, envelope_text};
use metrics::{counter, describe_counter};
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout_at};

use super::Fanout;
use super::deliver::deliver;
use super::hub::Hub;
use crate::store::{Store, StoredEvent};

/// Between two transactions that mark rows.
const MARK_EVERY: Duration = Duration::from_millis(25);
/// Commits that wait to be told.
const QUEUE: usize = 256;
/// Commits whose events are published together.
const TOGETHER: usize = 32;

/// Tells of what was committed. Cheap to clone, never waits.
#[derive(Clone)]
pub struct Announcer {
    to_rooms: Sender<Arc<Announced>>,
    to_bus: Sender<Arc<Announced>>,
    bus_takes: Arc<AtomicBool>,
    left_for: Duration,
}

/// The events of one commit.
struct Announced {
    events: Vec<StoredEvent>,
    at: Instant,
}

impl Announcer {
    /// Starts telling; must be called inside a runtime.
    pub fn start(fanout: &Fanout, bus: Arc<dyn Bus>, store: Store) -> Self {
        describe();
        let hub = &fanout.hub;
        let (to_rooms, for_rooms) = channel(QUEUE);
        let (to_bus, for_bus) = channel(QUEUE);
        let (to_marks, published) = channel(QUEUE);
        // Until the first events are published nobody knows whether this gateway may.
        let bus_takes = Arc::new(AtomicBool::new(false));
        hub.spawn(tell_rooms(hub.clone(), for_rooms));
        hub.spawn(publish(hub.clone(), bus, for_bus, to_marks, bus_takes.clone()));
        hub.spawn(mark(hub.clone(), store, published));
        Self { to_rooms, to_bus, bus_takes, left_for: hub.config.left_for }
    }

    /// For how long workers are to leave what is committed next: not at all while the bus does not take it.
    pub fn is_left_for(&self) -> Duration {
        if self.bus_takes.load(Ordering::Relaxed) { self.left_for } else { Duration::ZERO }
    }

    /// Tells of what was just committed; of each conversation in the order of these calls.
    pub fn tell(&self, events: Vec<StoredEvent>) {
        if events.is_empty() {
            return;
        }
        let announced = Arc::new(Announced { events, at: Instant::now() });
        // What does not fit comes from the workers.
        let _ = self.to_rooms.try_send(announced.clone());
        let _ = self.to_bus.try_send(announced);
    }
}

/// Hands events to the rooms of this gateway.
async fn tell_rooms(hub: Arc<Hub>, mut commits: Receiver<Arc<Announced>>) {
    while let Some(announced) = commits.recv().await {
        for event in &announced.events {
            let Some(room) = hub.registry.get(event.conversation) else { continue };
            // The database writes nothing else.
            let Ok(payload) = serde_json::from_str::<&RawValue>(&event.payload) else { continue };
            let kind = event.kind.into();
            deliver(&hub, &room, &Envelope { id: event.id, kind, conversation_id: event.conversation, payload });
            // A large room takes a while, and others wait for this thread.
            tokio::task::consume_budget().await;
        }
    }
}

/// Publishes events; hands on the ids of those that the bus has taken.
async fn publish(
    hub: Arc<Hub>,
    bus: Arc<dyn Bus>,
    mut commits: Receiver<Arc<Announced>>,
    marks: Sender<Vec<i64>>,
    bus_takes: Arc<AtomicBool>,
) {
    let [published, left] =
        ["published", "left"].map(|outcome| counter!("arcyou_announced_events_total", "outcome" => outcome));
    // What has waited for so long is left to the workers: they tell it as it stands by then.
    let stale = hub.config.left_for / 2;
    let mut waiting = Vec::with_capacity(TOGETHER);
    while commits.recv_many(&mut waiting, TOGETHER).await > 0 {
        let all: usize = waiting.iter().map(|announced| announced.events.len()).sum();
        waiting.retain(|announced| announced.at.elapsed() < stale);
        let taken = match publications(&hub, &waiting) {
            None => Vec::new(),
            Some((_, publications)) if publications.is_empty() => Vec::new(),
            Some((ids, publications)) => {
                let answer = timeout_at(Instant::now() + stale, bus.publish(&publications)).await;
                let takes = matches!(answer, Ok(Ok(_)));
                bus_takes.store(takes, Ordering::Relaxed);
                match answer {
                    Ok(Ok(results)) => {
                        ids.into_iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(id, _)| id).collect()
                    }
                    Ok(Err(_)) | Err(_) => Vec::new(),
                }
            }
        };
        published.increment(taken.len() as u64);
        left.increment((all - taken.len()) as u64);
        if !taken.is_empty() {
            let _ = marks.try_send(taken);
        }
        waiting.clear();
    }
}

/// The ids and the publications of these events; none while the key is unknown.
fn publications(hub: &Hub, waiting: &[Arc<Announced>]) -> Option<(Vec<i64>, Vec<Publication>)> {
    let mode = hub.registry.mode();
    hub.event_key.with(|key| {
        let events = waiting.iter().flat_map(|announced| &announced.events);
        events
            .map(|StoredEvent { id, kind, conversation, payload, .. }| {
                let text = envelope_text(key, *id, kind, *conversation, payload);
                (*id, Publication { channel: mode.channel(*conversation), payload: text.into() })
            })
            .unzip()
    })
}

/// Marks rows, many at a time.
async fn mark(hub: Arc<Hub>, store: Store, mut published: Receiver<Vec<i64>>) {
    while let Some(mut ids) = published.recv().await {
        sleep(MARK_EVERY).await;
        while let Ok(more) = published.try_recv() {
            ids.extend(more);
        }
        if let Err(error) = store.mark_told(&ids).await {
            tracing::debug!(%error, rows = ids.len(), "rows could not be marked: workers relay them once more");
            hub.meter.store_failures.increment(1);
        }
    }
}

fn describe() {
    describe_counter!(
        "arcyou_announced_events_total",
        "Events of what this gateway committed: published by itself, or left to the workers"
    );
}
