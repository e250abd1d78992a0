//! The outbox worker: hands the rows of the outbox to those who consume them.
//!
//! In the order of the data:
//!
//! - `wake`: gateways publish a hint when they see rows that wait, and every consumer is woken by it.
//! - `consumers`: each reads the outbox independently. There is one, `relay`: claim → publish to Redis → mark.
//! - `outbox`: how consumers reach the table (transactions, time-outs, errors).
//! - `schema`: what the worker needs of the schema; nothing starts before that is there.
//! - `prune`: deletes the rows that no consumer needs any more.
//! - `purge`: removes the messages that their conversations do not keep any more.
//! - `gauges`: the state of the connection pool, as metrics.
//!
//! [`run`] starts all of it. What the worker shares with the gateway is in `arcyou_platform`.

mod config;
mod consumers;
mod gauges;
mod outbox;
mod prune;
mod purge;
mod schema;
mod wake;

use std::sync::Arc;

use arcyou_platform::bus::Bus;
use arcyou_platform::health::Health;
use deadpool_postgres::Pool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::consumers::relay::Relay;
use crate::wake::WakeListener;

pub use crate::config::{Config, PruneConfig, RelayConfig, VARIABLES, WorkerConfig};
pub use crate::consumers::relay::parked;
pub use crate::outbox::OutboxError;
pub use crate::schema::NEEDS;

/// Runs every consumer of the outbox until `shutdown`, when `health` stops being ready. Then each finishes the batch in
/// hand, and the shared services (hints, pruning, purging, gauges) stop when the last consumer has ended.
///
/// An outage of PostgreSQL or of the bus does not end the future: consumers retry, and `health` shows the outage. The
/// parts `database` and `schema` are registered by this call itself, before the future is first polled; a bus registers
/// its own parts.
pub fn run(
    config: WorkerConfig,
    pool: Pool,
    bus: Arc<dyn Bus>,
    health: Health,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let wake = WakeListener::new();
    let WorkerConfig { relay, prune } = config;
    let (database, schema) = (health.part("database"), health.part("schema"));
    let relay = Relay::new(relay, pool.clone(), Arc::clone(&bus), health.clone(), wake.hints());
    async move {
        tokio::select! {
            () = schema::until_complete(&pool, &database, &schema) => {}
            () = shutdown.cancelled() => return health.drain(),
            // Connected from the beginning, so that operators see whether Redis is there.
            () = wake.listen(&*bus) => {}
            () = gauges::run(&pool) => {}
        }
        // A task for each: a consumer that is busy or waits does not delay another.
        let mut consumers = JoinSet::new();
        consumers.spawn(relay.run(shutdown.clone()));
        let draining = async {
            shutdown.cancelled().await;
            health.drain();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = all_ended(consumers) => {}
            () = draining => {}
            () = wake.listen(&*bus) => {}
            () = prune::run(&pool, prune) => {}
            () = purge::run(&pool) => {}
            () = gauges::run(&pool) => {}
        }
    }
}

/// Waits for the end of every consumer. A panic in one is a bug and is passed on, which aborts the others: their
/// transactions roll back, and a restarted worker claims the rows again.
async fn all_ended(mut consumers: JoinSet<()>) {
    while let Some(ended) = consumers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
