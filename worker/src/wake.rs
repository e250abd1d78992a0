//! The hint that the outbox has new rows: one subscription on the bus, passed on to every consumer.
//!
//! A hint is never needed for correctness, because consumers also poll. It only shortens the wait.

use arcyou_platform::bus::{Bus, Signal};
use arcyou_platform::contract::WAKE_CHANNEL;
use tokio::sync::watch;

/// Listens for the hints of gateways.
pub(crate) struct WakeListener {
    hints: watch::Sender<()>,
}

/// One consumer's view of the hints. Hints that arrive while the consumer is busy are merged into one, so nothing
/// queues up and a slow consumer delays no other.
pub(crate) struct WakeHints(watch::Receiver<()>);

impl WakeListener {
    pub(crate) fn new() -> Self {
        Self { hints: watch::Sender::default() }
    }

    /// The hints for one more consumer, from this call on.
    pub(crate) fn hints(&self) -> WakeHints {
        WakeHints(self.hints.subscribe())
    }

    /// Passes hints on until dropped.
    pub(crate) async fn listen(&self, bus: &dyn Bus) {
        let mut subscriber = bus.subscriber();
        subscriber.subscribe(WAKE_CHANNEL.to_owned());
        loop {
            match subscriber.next().await {
                Signal::Message { .. } => {
                    metrics::counter!("arcyou_outbox_wakes_total").increment(1);
                    self.hints.send_replace(());
                }
                // Hints may have been missed before the subscription.
                Signal::Subscribed { .. } => {
                    self.hints.send_replace(());
                }
                Signal::Lost | Signal::Interrupted { .. } => {}
            }
        }
    }
}

impl WakeHints {
    /// Waits for a hint; returns at once if one has arrived since the last call returned. Never returns when the
    /// listener is gone. Cancel-safe: a dropped call consumes no hint.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use arcyou_platform::bus::{LocalBus, Publication};
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn every_consumer_hears_a_hint_also_one_that_was_busy() {
        let (bus, wake) = (LocalBus::new(), WakeListener::new());
        let (mut one, mut two) = (wake.hints(), wake.hints());
        let heard = async {
            // The subscription itself counts as a hint.
            one.next().await;
            two.next().await;
            for _ in 0..3 {
                let hint = Publication { channel: WAKE_CHANNEL.to_owned(), payload: Bytes::new() };
                bus.publish(&[hint]).await.unwrap();
                one.next().await;
            }
            two.next().await;
            let again = tokio::time::timeout(Duration::from_millis(50), two.next()).await;
            assert!(again.is_err(), "hints that were missed are one hint");
        };
        tokio::select! {
            () = wake.listen(&bus) => unreachable!(),
            outcome = tokio::time::timeout(Duration::from_secs(30), heard) => outcome.unwrap(),
        }
    }
}
