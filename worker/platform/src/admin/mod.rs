//! The HTTP server for operators: `/ready` and `/metrics`. It never listens on the public address, and answers no web
//! page; `access` says whom it answers.

mod access;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

pub use self::access::{AdminAccess, AdminConfig, AdminHosts, AdminToken, NoHostName, WeakToken};
use self::access::{Guard, Refusal};

/// How often the metrics recorder merges recent values into its histograms, which otherwise grow until the next scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long answers in progress may take after shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves `GET /ready`, the state of each part, with status 200 if every essential part is up and 503 otherwise, and
/// `GET /metrics`, all metrics as Prometheus text, until `shutdown`. Fails if the listener fails.
pub async fn serve(
    listener: TcpListener,
    access: AdminAccess,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, access, health, metrics, Router::new(), shutdown).await
}

/// The same with further routes, whose handlers may ask for the peer's address.
pub async fn serve_with(
    listener: TcpListener,
    access: AdminAccess,
    health: Health,
    metrics: PrometheusHandle,
    extra_routes: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let guard = Guard::new(access, listener.local_addr()?);
    metrics::describe_counter!("arcyou_admin_refused_total", "Requests that the admin address refused, by reason");
    for refusal in Refusal::ALL {
        metrics::counter!("arcyou_admin_refused_total", "reason" => refusal.reason()).absolute(0);
    }
    let routes = Router::new()
        .route("/ready", get(ready).with_state(health))
        .route("/metrics", get(render).with_state(metrics.clone()))
        .merge(extra_routes)
        .layer(middleware::from_fn_with_state(guard, admit));
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = server => ended,
        () = upkeep(metrics) => Ok(()),
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Err(refusal) = guard.check(request.uri(), request.headers()) else { return next.run(request).await };
    metrics::counter!("arcyou_admin_refused_total", "reason" => refusal.reason()).increment(1);
    let body = serde_json::json!({ "error": refusal.text() }).to_string();
    let mut response = (refusal.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if refusal.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
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
