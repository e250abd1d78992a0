//! The outbox relay.
//!
//! In the order in which an event passes: a gateway's commit publishes a hint on `WAKE_CHANNEL`, or a second passes;
//! the relay claims rows from the [`outbox`], publishes their envelopes over the bus and marks them. Pruning removes
//! rows that were processed long ago. [`run`] does all of it until it is told to stop. What the worker shares with the
//! gateway is in `arcyou_platform`.

mod config;
mod gauges;
pub mod outbox;
mod prune;
mod relay;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::{Config, RelayConfig};

use arcyou_platform::bus::Bus;
use arcyou_platform::health::Health;

use crate::relay::Relay;

/// Relays the outbox until `shutdown`, then finishes the batch in hand. Outages of PostgreSQL or the bus end nothing:
/// they are waited out, and shown in `health` (the part `database` is this function's, and known from the call on; a
/// bus has its own).
pub fn run(
    config: RelayConfig,
    pool: Pool,
    bus: Arc<dyn Bus>,
    health: Health,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let part = health.part("database");
    async move {
        let wake = Notify::new();
        let (keep, interval) = (config.retention, config.prune_interval);
        let relay = Relay::new(config, pool.clone(), Arc::clone(&bus), part);
        tokio::select! {
            () = relay.run(&wake, &shutdown) => {}
            () = relay::listen(&*bus, &wake) => {}
            () = gauges::run(&pool) => {}
            () = housekeeping(&pool, keep, interval) => {}
        }
    }
}

async fn housekeeping(pool: &Pool, keep: Option<Duration>, interval: Duration) {
    match keep {
        Some(keep) => prune::run(pool, keep, interval).await,
        None => std::future::pending().await,
    }
}
