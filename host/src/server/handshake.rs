//! The public listener: the WebSocket handshake and `/health`.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_platform::health::Health;
use arcyou_platform::outage_log::OutageLog;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake_slots::{HandshakeSlots, Slot};
use super::patient_stream::PatientStream;
use crate::api::{self, KeptConnection};
use crate::bounds::connections::ConnectionBounds;
use crate::bounds::refusals::Bound;
use crate::origins::Origins;
use crate::session::connection::{self, Retirement};
use crate::session::read_budget::{BudgetedStream, ReadBudget};
use crate::session::shared::{SessionLimits, Shared};

/// What a socket reads at once, and keeps for it. Most frames are smaller; a larger one is read in several steps.
const READ_BUFFER: usize = 2 * 1024;
/// Frames are handed to the kernel in pieces of this size, or at the end of what is queued.
const WRITE_BUFFER: usize = 16 * 1024;

/// What the protocol of `arcyou_protocol` is called in a handshake.
const SUBPROTOCOL: &str = "arcyou.v1";

/// How long a client may take to its first byte, from there to the end of its request, and to its next request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may go on without becoming a WebSocket, whatever is asked over it.
const HTTP_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a request's line and headers, all of which are kept until the last one has come. Larger ones get 431.
const REQUEST_HEAD_BYTES: usize = 16 * 1024;
/// Bytes in the key of a handshake, which it sends in base64.
const KEY_BYTES: usize = 16;
/// How long requests may take that are under way when no more are accepted.
const LAST_HANDSHAKES: Duration = Duration::from_secs(1);
/// Between attempts to accept connections while that fails.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    bounds: Arc<ConnectionBounds>,
    health: Health,
    sockets: TaskTracker,
    retirement: Retirement,
}

/// The routes of the public listener. Sockets run on `sockets` until `retirement`.
pub fn router(
    shared: Arc<Shared>,
    origins: Origins,
    bounds: Arc<ConnectionBounds>,
    health: Health,
    sockets: TaskTracker,
    retirement: Retirement,
) -> Router {
    Router::new()
        .route("/", get(upgrade))
        .route("/health", get(is_healthy))
        .route("/{*path}", any(upgrade_below))
        .with_state(Context { shared, origins: Arc::new(origins), bounds, health, sockets, retirement })
}

/// Accepts connections until `shutdown`, within `bounds`. What is under way then may finish, for a moment. Each request
/// carries its connection's [`ReadBudget`] as an extension, and the peer's address as [`ConnectInfo`].
pub async fn serve(listener: TcpListener, app: Router, bounds: Arc<ConnectionBounds>, shutdown: CancellationToken) {
    let handshakes = TaskTracker::new();
    let limits = bounds.limits();
    let outage = OutageLog::new();
    let slots = Arc::new(HandshakeSlots::new(limits.handshakes, limits.handshakes_per_address()));
    loop {
        let next = match shutdown.run_until_cancelled(listener.accept()).await {
            // What the kernel has accepted already would be reset with the listener.
            None => listener.accept().now_or_never(),
            next => next,
        };
        let (stream, peer) = match next {
            None => break,
            Some(Ok((stream, peer))) => (stream, peer.ip()),
            Some(Err(_)) if shutdown.is_cancelled() => break,
            Some(Err(error)) => {
                // Most often the process has no file left: others must end first.
                if let Some(line) = outage.failed(Instant::now()) {
                    let (seconds, failures) = (line.lasted.as_secs(), line.failures);
                    tracing::warn!(%error, seconds, failures, "connections could not be accepted");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        outage.worked(Instant::now());
        let (slot, cut) = slots.take(peer, bounds.address_of(peer));
        if let Some(cut) = cut {
            bounds.refused(cut.bound, cut.peer);
        }
        let (app, bounds) = (app.clone(), bounds.clone());
        handshakes.spawn(converse(stream, peer, app, bounds, slot, shutdown.clone()));
    }
    drop(listener);
    handshakes.close();
    let _ = timeout(LAST_HANDSHAKES, handshakes.wait()).await;
}

/// Speaks HTTP until the connection ends or is a WebSocket, which goes on elsewhere. One over which a service asks with
/// its key takes up no slot any more, and may go on until `shutdown`.
async fn converse(
    stream: TcpStream,
    peer: IpAddr,
    app: Router,
    bounds: Arc<ConnectionBounds>,
    slot: Slot,
    shutdown: CancellationToken,
) {
    let kept = KeptConnection::new(peer, bounds.clone());
    let mut speaking = pin!(speak(stream, peer, app, bounds, kept.clone(), shutdown));
    tokio::select! {
        () = &mut speaking => return,
        () = slot.cut.cancelled() => return,
        () = kept.kept() => drop(slot),
    }
    speaking.await;
}

/// How a connection goes on whose request at hand is its last one.
#[derive(Clone, Copy)]
enum LastRequest {
    /// It is answered within [`REQUEST_WITHIN`].
    Soon,
    /// It is answered, however long that takes: its service may just not keep one more connection.
    Whole,
}

/// Waits until the request at hand is the last one.
async fn enough(kept: &KeptConnection, shutdown: &CancellationToken) -> LastRequest {
    tokio::select! {
        () = tokio::time::sleep(HTTP_WITHIN) => LastRequest::Soon,
        () = kept.full() => LastRequest::Whole,
        () = kept.kept() => {
            shutdown.cancelled().await;
            LastRequest::Soon
        }
    }
}

async fn speak(
    stream: TcpStream,
    peer: IpAddr,
    app: Router,
    bounds: Arc<ConnectionBounds>,
    kept: KeptConnection,
    shutdown: CancellationToken,
) {
    // Frames are small and must not wait for one another in the kernel.
    let _ = stream.set_nodelay(true);
    // The limit below begins with the first byte.
    if !matches!(timeout(REQUEST_WITHIN, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let budget = ReadBudget::default();
    let app = app.layer(Extension(budget.clone())).layer(Extension(ConnectInfo(peer))).layer(Extension(kept.clone()));
    let stream = PatientStream::new(BudgetedStream::new(stream, budget.clone()), budget);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(REQUEST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        last = enough(&kept, &shutdown) => Err(last),
    };
    match ended {
        Ok(Err(error)) if error.is_parse_too_large() => bounds.refused(Bound::RequestHead, peer),
        Ok(_) => {}
        Err(last) => {
            // The request at hand is answered still.
            connection.as_mut().graceful_shutdown();
            if matches!(last, LastRequest::Whole) && shutdown.run_until_cancelled(connection.as_mut()).await.is_some() {
                return;
            }
            let _ = timeout(REQUEST_WITHIN, connection).await;
        }
    }
}

/// For balancers. A process that drains is well, but wants no more sockets, and 503 is what every balancer understands.
async fn is_healthy(State(Context { health, .. }): State<Context>) -> impl IntoResponse {
    let (status, body) = match health.is_draining() {
        false => (StatusCode::OK, r#"{"status":"ok"}"#),
        true => (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#),
    };
    (status, [(CONTENT_TYPE, "application/json")], body)
}

/// A proxy may pass on the whole path under which it serves the gateway: whatever ends in `/ws` is a WebSocket.
async fn upgrade_below(
    context: State<Context>,
    budget: Extension<ReadBudget>,
    peer: ConnectInfo<IpAddr>,
    headers: HeaderMap,
    handshake: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    let is_socket = path.ends_with("/ws");
    let is_of_api = path.strip_prefix(api::PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_of_api && !(is_socket && handshake.is_ok()) {
        return api::nothing_here(request).await.into_response();
    }
    if !is_socket {
        return (StatusCode::NOT_FOUND, "there is nothing here; sockets are at / and at paths that end in /ws\n")
            .into_response();
    }
    match handshake {
        _ if request.method() != Method::GET => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Ok(handshake) => upgrade(context, budget, peer, headers, handshake).await,
        Err(rejection) => rejection.into_response(),
    }
}

async fn upgrade(
    State(context): State<Context>,
    Extension(budget): Extension<ReadBudget>,
    ConnectInfo(peer): ConnectInfo<IpAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Context { shared, origins, bounds, sockets, retirement, .. } = context;
    if !origins.admit(headers.get(ORIGIN).map(|origin| origin.as_bytes())) {
        metrics::counter!("arcyou_refused_origins_total").increment(1);
        return (StatusCode::FORBIDDEN, "this origin is not in ALLOWED_ORIGINS\n").into_response();
    }
    if !has_key(&headers) {
        return (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64\n").into_response();
    }
    let admission = match bounds.admit(peer, &headers) {
        Ok(admission) => admission,
        Err(bound) => return refusal(bound),
    };
    let mut response = bounded(upgrade, &shared.limits).on_upgrade(move |socket| {
        sockets.track_future(connection::serve(socket, admission, budget, shared, retirement))
    });
    if let Some(protocol) = subprotocol(&headers) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// The subprotocol that is agreed on: ours if it is offered, otherwise the first one, since many clients give up if
/// theirs is not answered. There is only one that the gateway speaks, whatever it is called.
fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    let mut offered = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty()).peekable();
    let first = offered.peek().copied()?;
    HeaderValue::from_str(offered.find(|name| *name == SUBPROTOCOL).unwrap_or(first)).ok()
}

/// Whether there is the one key that RFC 6455 asks for.
fn has_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return false };
    BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

/// What a client is told whose socket is not opened.
fn refusal(bound: Bound) -> Response {
    let (status, text) = match bound {
        Bound::ConnectionsPerAddress => {
            (StatusCode::TOO_MANY_REQUESTS, "your address has too many open sockets; close some\n")
        }
        Bound::UnauthenticatedPerAddress => (
            StatusCode::TOO_MANY_REQUESTS,
            "your address has too many sockets that have not authenticated; send auth on them, or try later\n",
        ),
        Bound::RefusedTokens => {
            (StatusCode::TOO_MANY_REQUESTS, "too many tokens of your address were refused; try again in a second\n")
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "this gateway is full; try another or try later\n"),
    };
    (status, text).into_response()
}

/// A handshake whose socket buffers and accepts no more than `limits` say.
pub fn bounded(upgrade: WebSocketUpgrade, limits: &SessionLimits) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // What waits is bounded by its queue, and answers to pings by what is read; one frame may be larger than both.
        .max_write_buffer_size(usize::MAX)
        .max_message_size(limits.max_frame_bytes)
        .max_frame_size(limits.max_frame_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_subprotocol_that_is_offered_is_answered() {
        let agreed = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
            }
            subprotocol(&headers).map(|protocol| protocol.to_str().unwrap().to_owned())
        };
        assert_eq!(agreed(&[]), None);
        assert_eq!(agreed(&["", " , "]), None);
        assert_eq!(agreed(&["arcyou.v1"]).as_deref(), Some("arcyou.v1"));
        assert_eq!(agreed(&["chat, arcyou.v1"]).as_deref(), Some("arcyou.v1"));
        assert_eq!(agreed(&["chat", "other,arcyou.v1"]).as_deref(), Some("arcyou.v1"));
        assert_eq!(agreed(&[" chat ,ARCYOU.V1"]).as_deref(), Some("chat"));
    }
}
