//! A gateway's life, from start to drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arcyou_platform::bus;
use arcyou_platform::health::{Health, Program};
use arcyou_platform::telemetry;
use axum::Router;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::background::Background;
use super::handshake;
use super::listeners::{Listeners, listen};
use super::metrics;
use super::open_files::make_room;
use super::services::Services;
use crate::admin;
use crate::api::{self, Api};
use crate::auth::Authenticator;
use crate::batch::{CommitHealth, Committer};
use crate::bounds::connections::ConnectionBounds;
use crate::config::{AcceptLimits, Config};
use crate::fanout::Announcer;
use crate::ingress::Ingress;
use crate::session::connection::Retirement;
use crate::session::shared::{Shared, page_readers};
use crate::store::{SchemaGate, Store};

/// Without these a gateway cannot do its work: without keys of any issuer nobody gets in. Without Redis it can:
/// messages are stored and delivered from the database.
pub const ESSENTIAL: &[&str] = &["auth", "database", "schema"];

/// `serve`: runs until `shutdown`. A database or Redis that is away is waited for, and `/ready` says so.
pub async fn serve(mut config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    make_room(&mut config);
    let url = config.redis_url.as_ref().context("REDIS_URL is not set")?;
    let health = Health::with_essential(ESSENTIAL).of(Program::Gateway);
    let bus = bus::open(url, config.fanout.mode, &health)?;
    // Compiling plugins takes seconds, and whoever wants to stop meanwhile is not kept waiting.
    let preparing = Services::prepare(&config, bus, health, telemetry::metrics()?);
    let Some(services) = shutdown.run_until_cancelled(preparing).await else { return Ok(()) };
    let services = services?;
    let listeners = listen(&config).await?;
    tracing::info!(address = %listeners.public_addr()?, admin = %listeners.admin.local_addr()?, "listening");
    services.serve(config, listeners, shutdown).await;
    Ok(())
}

impl Services {
    /// Serves until `shutdown`, then drains. At once it is not ready any more; for the drain delay it accepts what
    /// balancers, which have not noticed yet, still send; then no new socket, everything accepted is answered, and the
    /// sockets are told to go elsewhere, spread over the drain time.
    pub async fn serve(self, config: Config, listeners: Listeners, shutdown: CancellationToken) {
        let Self { pool, bus, plugins, plugin_values, installation, health, metrics: scrape, pages } = self;
        let Config { limits, users, accept, drain_delay, drain, .. } = config;
        let authenticator = Arc::new(config.authenticator);
        let AcceptLimits { connections, origins } = accept;
        metrics::begin();
        let background = Background::default();
        let schema = SchemaGate::closed();
        background.schema(pool.clone(), config.migrate_database, schema.clone(), health.part("schema"));
        let store =
            Store::new(pool).audited(config.audit.enabled).ruled(config.change_rules).behind_gate(schema.clone());
        background.installation(store.clone(), schema.clone(), installation);
        let wake = background.wake(bus.clone());
        let routes = admin::router(store.clone(), wake.clone(), plugins.clone());
        background.admin(listeners.admin, config.admin.access, health.clone(), scrape, routes);
        report_trust(&authenticator, &health);
        background.keys(&authenticator, health.part("auth"));
        let commits = Arc::new(CommitHealth::new(health.part("storing")));
        background.database_watch(store.clone(), health.part("database"), commits.clone());
        background.plugins(plugins.clone(), health.part("plugins"));
        if let Some(values) = plugin_values {
            background.plugin_values(values, plugins.clone(), health.clone());
        }
        if let Some(dir) = config.records_dir {
            background.failure_records(dir, store.clone(), schema.clone());
        }
        background.held_watch(store.clone(), schema.clone());
        let cutoffs = background.cutoffs(&store, schema.clone());
        let fanout = background.fanout(config.fanout, &bus, &store, schema, &health);
        let announcer = Announcer::start(&fanout, bus.clone(), store.clone());
        let pace = background.pace(&store, fanout.clone(), &wake, config.relay_lag, &health);
        let batcher = background.batcher(Committer::new(store.clone(), announcer, wake.clone(), commits), pace);
        let audit = background.audit(&store, config.audit);
        let ingress = Ingress { store: store.clone(), plugins, batcher, audit, meter: Arc::default() };
        let (users, read_marks) = (background.users(users), background.read_marks(&store, &wake));
        let page_readers = page_readers(store.pool_status().max_size);
        let shared = Arc::new(Shared {
            limits,
            authenticator,
            cutoffs,
            users,
            store,
            ingress,
            fanout,
            read_marks,
            page_readers,
        });

        let bounds = Arc::new(ConnectionBounds::new(connections));
        let api = Api::new(api::Parts {
            store: shared.store.clone(),
            ingress: shared.ingress.clone(),
            wake,
            body_limits: shared.limits.frame.body,
            authenticator: shared.authenticator.clone(),
            bounds: bounds.clone(),
            max_exports: config.api.max_exports,
        });
        let sockets = TaskTracker::new();
        let closing = CancellationToken::new();
        let retirement = Retirement::new(closing.clone(), drain);
        let app = handshake::router(shared, origins, bounds.clone(), health.clone(), sockets.clone(), retirement);
        let (app, of_services) = match (listeners.api, api.router(config.api.origins)) {
            (Some(listener), routes) => (app, Some((listener, routes))),
            (None, routes) => (app.merge(routes), None),
        };
        let app = pages.into_iter().fold(app, |app, add| add(app));
        tokio::join!(
            handshake::serve(listeners.public, app, bounds.clone(), closing.clone()),
            serve_services(of_services, bounds, closing.clone()),
            announce_drain(shutdown, health, drain_delay, closing),
        );
        sockets.close();
        if timeout(drain, sockets.wait()).await.is_err() {
            tracing::warn!(left = sockets.len(), "sockets were still open at the end of the drain");
        }
        background.end().await;
    }
}

/// Serves the API where it has an address of its own.
async fn serve_services(
    listener: Option<(TcpListener, Router)>,
    bounds: Arc<ConnectionBounds>,
    shutdown: CancellationToken,
) {
    if let Some((listener, routes)) = listener {
        handshake::serve(listener, routes.fallback(api::nothing_here), bounds, shutdown).await;
    }
}

/// Says so when `shutdown` comes, and cancels `closing` once balancers have had the time to notice.
async fn announce_drain(shutdown: CancellationToken, health: Health, delay: Duration, closing: CancellationToken) {
    shutdown.cancelled().await;
    health.drain();
    if !delay.is_zero() {
        tracing::info!(seconds = delay.as_secs(), "not ready any more; sockets are accepted until balancers know");
        tokio::time::sleep(delay).await;
    }
    closing.cancel();
}

/// Operators see on `/ready` and in the metrics whether tokens are verified at all.
fn report_trust(authenticator: &Authenticator, health: &Health) {
    let part = health.part("auth");
    let verified = match authenticator {
        // Whether there are keys to verify them with is told where those are kept.
        Authenticator::Verified(_) => 1.0,
        Authenticator::Development => {
            part.up_but("JWT_PUBLIC_KEY is dev-placeholder: EVERYBODY IS BELIEVED, no token is verified");
            0.0
        }
    };
    ::metrics::gauge!("arcyou_tokens_verified").set(verified);
}
