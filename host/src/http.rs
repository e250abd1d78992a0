//! The public listener: the WebSocket handshake and `/health`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::session::socket::{self, Retirement};

/// What a socket reads at once. Most frames are smaller; a larger one is read in several steps.
const READ_BUFFER: usize = 4 * 1024;
/// Frames are handed to the kernel in pieces of this size, or at the end of what is queued.
const WRITE_BUFFER: usize = 16 * 1024;

#[derive(Clone)]
struct Context {
    gateway: Arc<Gateway>,
    sockets: TaskTracker,
    retirement: Retirement,
}

/// The routes of the public listener. Sockets run on `sockets` until `retirement`.
pub fn router(gateway: Arc<Gateway>, sockets: TaskTracker, retirement: Retirement) -> Router {
    Router::new()
        .route("/", get(upgrade))
        .route("/ws", get(upgrade))
        .route("/health", get(health))
        .with_state(Context { gateway, sockets, retirement })
}

async fn health() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}

async fn upgrade(State(context): State<Context>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let Context { gateway, sockets, retirement } = context;
    let limits = &gateway.limits;
    if !limits.origins.admit(headers.get(ORIGIN).map(|origin| origin.as_bytes())) {
        return (StatusCode::FORBIDDEN, "this origin is not in ALLOWED_ORIGINS\n").into_response();
    }
    let Ok(place) = gateway.places.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "this gateway is full; try another or try later\n").into_response();
    };
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + limits.queue_bytes)
        .max_message_size(limits.max_frame_bytes)
        .max_frame_size(limits.max_frame_bytes)
        .on_upgrade(move |socket| {
            sockets.track_future(async move {
                socket::serve(socket, gateway, retirement).await;
                drop(place);
            })
        })
}
