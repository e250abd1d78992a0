//! An echo over the gateway's own WebSocket layer: its listener, its bounds, its way to end a socket.

use std::sync::Arc;

use arcyou_gateway::gateway::Limits;
use arcyou_gateway::http;
use arcyou_gateway::session::allowance::Allowance;
use arcyou_gateway::session::socket::{answer_farewell, close_code, farewell};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::StreamExt as _;

pub fn router(limits: Limits) -> Router {
    Router::new().route("/", get(upgrade)).with_state(Arc::new(limits))
}

async fn upgrade(
    State(limits): State<Arc<Limits>>,
    Extension(allowance): Extension<Allowance>,
    upgrade: WebSocketUpgrade,
) -> Response {
    http::bounded(upgrade, &limits).on_upgrade(move |socket| echo(socket, allowance, limits))
}

async fn echo(mut socket: WebSocket, allowance: Allowance, limits: Arc<Limits>) {
    allowance.renew(limits.max_frame_bytes);
    while let Some(frame) = socket.next().await {
        match frame {
            Ok(Message::Close(_)) => return answer_farewell(&mut socket).await,
            Ok(message) => {
                allowance.renew(limits.max_frame_bytes);
                // Pings are answered by the library.
                if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if let Some(code) = close_code(&error, &allowance) {
                    farewell(&mut socket, code).await;
                }
                return;
            }
        }
    }
}
