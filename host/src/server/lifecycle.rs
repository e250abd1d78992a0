//! A gateway's life, from start to drain.

use std::sync::Arc;

use anyhow::Context as _;
use arcyou_platform::bus;
use arcyou_platform::health::Health;
use arcyou_platform::telemetry;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::background::Background;
use super::handshake;
use super::listeners::{Listeners, listen};
use super::open_files::make_room;
use super::services::Services;
use crate::admin;
use crate::auth::Authenticator;
use crate::bounds::connections::ConnectionBounds;
use crate::config::{AcceptLimits, Config};
use crate::fanout::FanoutConfig;
use crate::ingress::Ingress;
use crate::session::connection::Retirement;
use crate::session::shared::{Shared, page_readers};
use crate::store::{SchemaGate, Store};

/// Without these a gateway cannot do its work. Without Redis it can: messages are stored and delivered from the
/// database.
pub const ESSENTIAL: &[&str] = &["database", "schema"];

/// `serve`: runs until `shutdown`. A database or Redis that is away is waited for, and `/ready` says so.
pub async fn serve(mut config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    make_room(&mut config);
    let url = config.redis_url.as_ref().context("REDIS_URL is not set")?;
    let health = Health::with_essential(ESSENTIAL);
    let bus = bus::open(url, config.pubsub_mode, &health)?;
    let services = Services::prepare(&config, bus, health, telemetry::metrics()?).await?;
    let listeners = listen(&config).await?;
    tracing::info!(address = %listeners.public_addr()?, admin = %listeners.admin.local_addr()?, "listening");
    services.serve(config, listeners, shutdown).await;
    Ok(())
}

impl Services {
    /// Serves until `shutdown`, then drains: no new socket, everything accepted is answered, and the sockets are told
    /// to go elsewhere, spread over the drain time.
    pub async fn serve(self, config: Config, listeners: Listeners, shutdown: CancellationToken) {
        let Self { pool, bus, plugins, installation, health, metrics, pages } = self;
        let Config { limits, users, accept, authenticator, drain, .. } = config;
        let AcceptLimits { connections, origins } = accept;
        describe_metrics();
        let background = Background::default();
        let schema = SchemaGate::closed();
        background.schema(pool.clone(), config.migrate_database, schema.clone(), health.part("schema"));
        let store = Store::new(pool).audited(config.audit.enabled).behind_gate(schema.clone());
        background.installation(store.clone(), schema.clone(), installation);
        let wake = background.wake(bus.clone());
        let routes = admin::router(store.clone(), wake.clone(), plugins.clone());
        background.admin(listeners.admin, config.admin.access, health.clone(), metrics, routes);
        report_trust(&authenticator, &health);
        background.keys(&authenticator, health.part("auth"));
        background.database_watch(store.clone(), health.part("database"));
        background.plugins(plugins.clone(), health.part("plugins"));
        let fanout = background.fanout(FanoutConfig::new(config.pubsub_mode), &bus, &store, schema, &health);
        let (batcher, audit) =
            (background.batcher(&store, &wake, config.relay_lag), background.audit(&store, config.audit));
        let ingress = Ingress { store: store.clone(), plugins, batcher, audit, meter: Arc::default() };
        let (users, read_marks) = (background.users(users), background.read_marks(&store, &wake));
        let page_readers = page_readers(store.pool_status().max_size);
        let shared =
            Arc::new(Shared { limits, authenticator, users, store, ingress, fanout, read_marks, page_readers });

        let sockets = TaskTracker::new();
        let bounds = Arc::new(ConnectionBounds::new(connections));
        let retirement = Retirement::new(shutdown.clone(), drain);
        let app = handshake::router(shared, origins, bounds.clone(), sockets.clone(), retirement);
        let app = pages.into_iter().fold(app, |app, add| add(app));
        handshake::serve(listeners.public, app, bounds, shutdown).await;
        sockets.close();
        if timeout(drain, sockets.wait()).await.is_err() {
            tracing::warn!(left = sockets.len(), "sockets were still open at the end of the drain");
        }
        background.end().await;
    }
}

/// Operators see on `/ready` and in the metrics whether tokens are verified at all.
fn report_trust(authenticator: &Authenticator, health: &Health) {
    let part = health.part("auth");
    let verified = match authenticator {
        Authenticator::Rs256(_) => {
            part.up();
            1.0
        }
        Authenticator::Development => {
            part.up_but("JWT_PUBLIC_KEY is dev-placeholder: EVERYBODY IS BELIEVED, no token is verified");
            0.0
        }
    };
    metrics::gauge!("arcyou_tokens_verified").set(verified);
}

fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("arcyou_connections", "Open sockets");
    describe_gauge!("arcyou_tokens_verified", "0 if JWT_PUBLIC_KEY is dev-placeholder and everybody is believed");
    describe_counter!("arcyou_connections_total", "Sockets since the start");
    describe_counter!("arcyou_closed_total", "Sockets that the gateway closed, by close code");
    describe_counter!("arcyou_refused_connections_total", "Connections and sockets that were refused or cut, by bound");
    describe_counter!("arcyou_auth_refused_total", "Tokens that were refused, by failure code");
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
    describe_gauge!("arcyou_relay_lag_seconds", "Age of the oldest row of the outbox that no worker has relayed");
    describe_gauge!(
        "arcyou_commit_rate_limit",
        "Messages a second that may be stored, so that the relay keeps up; 0: any"
    );
    describe_counter!("arcyou_commit_failures_total", "Transactions that failed, by kind; most are tried again");
}
