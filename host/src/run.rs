//! A gateway's life, from start to drain.

use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::bus::Bus;
use arcyou_platform::health::Health;
use deadpool_postgres::Pool;
use metrics::gauge;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, AuditConfig};
use crate::auth::Authenticator;
use crate::batch::{BatchConfig, Batcher};
use crate::fanout::{Fanout, FanoutConfig};
use crate::gateway::{Gateway, Limits};
use crate::http;
use crate::ingress::Ingress;
use crate::plugins::PluginHost;
use crate::session::socket::Retirement;
use crate::store::Store;
use crate::wake::Wake;

/// How long what no client waits for may take at the end.
const UPKEEP_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What a gateway is made of.
pub struct Parts {
    /// What sockets may do and cost.
    pub limits: Limits,
    /// How tokens become users.
    pub authenticator: Authenticator,
    /// How messages are grouped.
    pub batch: BatchConfig,
    /// How events reach sockets.
    pub fanout: FanoutConfig,
    /// How long a drain may take.
    pub drain: Duration,
    /// The database; perhaps through PgBouncer.
    pub pool: Pool,
    /// Where events come from and hints go to.
    pub bus: Arc<dyn Bus>,
    /// The plugin chain.
    pub plugins: Arc<PluginHost>,
    /// Where parts report whether they are ready.
    pub health: Health,
    /// How workers are told of commits.
    pub wake: Wake,
    /// What is kept of plugins' verdicts.
    pub audit: AuditConfig,
}

/// Serves `listener` until `shutdown`, then drains: no new socket, everything accepted is answered, and the sockets are
/// told to go elsewhere, spread over the drain time.
pub async fn run(parts: Parts, listener: TcpListener, shutdown: CancellationToken) {
    let Parts { limits, authenticator, batch, fanout, drain, pool, bus, plugins, health, wake, audit } = parts;
    describe_metrics();
    // What clients depend on outlives them; each stage of the drain ends one of these.
    let (sockets, lanes, upkeep) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    let upkeep_ends = CancellationToken::new();

    let store = Store::new(pool).audited(audit.enabled);
    upkeep.spawn(wake.clone().run(bus.clone(), upkeep_ends.clone()));
    upkeep.spawn(watch_database(store.clone(), health.clone(), upkeep_ends.clone()));
    let (fanout, listening) = Fanout::start(fanout, &bus, Arc::new(store.clone()), &health, upkeep_ends.clone());
    let batcher = Batcher::start(&store, batch, wake.clone(), &lanes);
    let audit = Audit::start(&store, audit, &lanes, &upkeep, upkeep_ends.clone());
    let ingress = Ingress { store: store.clone(), plugins, batcher, audit, meter: Arc::default() };
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let gateway = Arc::new(Gateway { limits, places, authenticator, store, ingress, fanout, wake });

    let retirement = Retirement::new(shutdown.clone(), drain);
    let app = http::router(gateway, sockets.clone(), retirement);
    http::serve(listener, app, shutdown).await;

    sockets.close();
    if timeout(drain, sockets.wait()).await.is_err() {
        tracing::warn!(left = sockets.len(), "sockets were still open at the end of the drain");
    }
    // The last batcher went with the last socket, and its lanes end when everything is answered.
    lanes.close();
    let _ = timeout(UPKEEP_ENDS_WITHIN, lanes.wait()).await;
    upkeep_ends.cancel();
    upkeep.close();
    let _ = timeout(UPKEEP_ENDS_WITHIN, async { tokio::join!(upkeep.wait(), listening.join()) }).await;
}

/// Asks the database every few seconds whether it is there, for `/ready`, and how its pool is doing.
async fn watch_database(store: Store, health: Health, ends: CancellationToken) {
    let part = health.part("database");
    loop {
        let pool = store.pool_status();
        gauge!("arcyou_database_pool_connections").set(pool.size as f64);
        gauge!("arcyou_database_pool_waiting").set(pool.waiting as f64);
        match store.ping().await {
            Ok(()) => part.up(),
            Err(error) => part.down(error.to_string()),
        }
        if ends.run_until_cancelled(tokio::time::sleep(Duration::from_secs(2))).await.is_none() {
            return;
        }
    }
}

fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("arcyou_connections", "Open sockets");
    describe_counter!("arcyou_connections_total", "Sockets since the start");
    describe_counter!("arcyou_closed_total", "Sockets that the gateway closed, by close code");
    describe_counter!(
        "arcyou_sends_total",
        "Sends by outcome: stored, held, discarded, duplicate, or the code of the refusal"
    );
    describe_counter!(
        "arcyou_audit_lost_total",
        "Refused messages without a row in plugin_audit, for lack of room or database"
    );
    describe_counter!("arcyou_plugin_rollbacks_total", "New versions in whose place the one before was put back");
    describe_histogram!("arcyou_ack_seconds", "From a send's frame to its answer");
    describe_histogram!("arcyou_commit_seconds", "Time of one transaction for a batch");
    describe_histogram!("arcyou_commit_size", "Messages in one transaction");
    describe_counter!("arcyou_commit_failures_total", "Transactions that failed, by kind; most are tried again");
}
