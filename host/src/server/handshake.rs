//! The public listener: the WebSocket handshake and `/health`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::AcceptLimits;
use crate::origins::Origins;
use crate::session::connection::{self, Retirement};
use crate::session::read_budget::{BudgetedStream, ReadBudget};
use crate::session::shared::{SessionLimits, Shared};

/// What a socket reads at once, and keeps for it. Most frames are smaller; a larger one is read in several steps.
const READ_BUFFER: usize = 2 * 1024;
/// Frames are handed to the kernel in pieces of this size, or at the end of what is queued.
const WRITE_BUFFER: usize = 16 * 1024;

/// How long a client may take to send its request.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may go on without becoming a WebSocket, whatever is asked over it.
const HTTP_WITHIN: Duration = Duration::from_secs(60);
/// Connections that are not WebSockets yet; more wait in the kernel. Those that never send a request are closed soon.
const HANDSHAKES: usize = 4096;
/// How long requests may take that are under way when no more are accepted.
const LAST_HANDSHAKES: Duration = Duration::from_secs(1);
/// Between attempts to accept connections while that fails.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    /// One for each socket that there may be.
    places: Arc<Semaphore>,
    sockets: TaskTracker,
    retirement: Retirement,
}

/// The routes of the public listener. Sockets run on `sockets` until `retirement`.
pub fn router(shared: Arc<Shared>, accept: AcceptLimits, sockets: TaskTracker, retirement: Retirement) -> Router {
    let AcceptLimits { max_connections, origins } = accept;
    let (origins, places) = (Arc::new(origins), Arc::new(Semaphore::new(max_connections)));
    Router::new()
        .route("/", get(upgrade))
        .route("/ws", get(upgrade))
        .route("/health", get(health))
        .with_state(Context { shared, origins, places, sockets, retirement })
}

/// Accepts connections until `shutdown`. What is under way then may finish, for a moment. Each request carries its
/// connection's [`ReadBudget`] as an extension.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) {
    let handshakes = TaskTracker::new();
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Some(Ok(place)) = shutdown.run_until_cancelled(places.clone().acquire_owned()).await else { break };
        let stream = match shutdown.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                // Most often the process has no file left: others must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let app = app.clone();
        handshakes.spawn(async move {
            converse(stream, app).await;
            drop(place);
        });
    }
    handshakes.close();
    let _ = timeout(LAST_HANDSHAKES, handshakes.wait()).await;
}

/// Speaks HTTP until the connection ends or is a WebSocket, which goes on elsewhere.
async fn converse(stream: TcpStream, app: Router) {
    // Frames are small and must not wait for one another in the kernel.
    let _ = stream.set_nodelay(true);
    // The limit below begins with the first byte.
    if !matches!(timeout(HANDSHAKE_WITHIN, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let budget = ReadBudget::default();
    let app = app.layer(Extension(budget.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_WITHIN)
        .serve_connection(TokioIo::new(BudgetedStream::new(stream, budget)), TowerToHyperService::new(app))
        .with_upgrades();
    let mut connection = pin!(connection);
    if timeout(HTTP_WITHIN, connection.as_mut()).await.is_err() {
        // The request at hand is answered still.
        connection.as_mut().graceful_shutdown();
        let _ = timeout(HANDSHAKE_WITHIN, connection).await;
    }
}

async fn health() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}

async fn upgrade(
    State(context): State<Context>,
    Extension(budget): Extension<ReadBudget>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Context { shared, origins, places, sockets, retirement } = context;
    if !origins.admit(headers.get(ORIGIN).map(|origin| origin.as_bytes())) {
        return (StatusCode::FORBIDDEN, "this origin is not in ALLOWED_ORIGINS\n").into_response();
    }
    let Ok(place) = places.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "this gateway is full; try another or try later\n").into_response();
    };
    bounded(upgrade, &shared.limits).on_upgrade(move |socket| {
        sockets.track_future(async move {
            connection::serve(socket, budget, shared, retirement).await;
            drop(place);
        })
    })
}

/// A handshake whose socket buffers and accepts no more than `limits` say.
pub fn bounded(upgrade: WebSocketUpgrade, limits: &SessionLimits) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + limits.queue_bytes)
        .max_message_size(limits.max_frame_bytes)
        .max_frame_size(limits.max_frame_bytes)
}
