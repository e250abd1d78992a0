//! The HTTP server for operators: `/ready` and `/metrics`. It never listens on the public address.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How often the metrics recorder merges recent values into its histograms, which otherwise grow until the next scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long answers in progress may take after shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// `GET /ready`: the state of each part, with status 200 if every essential part is up and 503 otherwise. `GET
/// /metrics`: all metrics as Prometheus text.
pub fn router(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new().route("/ready", get(ready).with_state(health)).route("/metrics", get(render).with_state(metrics))
}

/// Serves [`router`] until `shutdown`. Fails if the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, health, metrics, Router::new(), shutdown).await
}

/// The same with further routes.
pub async fn serve_with(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    extra_routes: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let routes = router(health, metrics.clone()).merge(extra_routes);
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = server => ended,
        () = upkeep(metrics) => Ok(()),
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut timer = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        timer.tick().await;
        metrics.run_upkeep();
    }
}

async fn ready(State(health): State<Health>) -> Response {
    let report = health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string(&report) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn render(State(metrics): State<PrometheusHandle>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}
