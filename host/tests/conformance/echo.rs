//! An echo over the gateway's own WebSocket layer: its listener, its bounds, its way to end a socket.

use std::sync::Arc;

use arcyou_gateway::server::handshake;
use arcyou_gateway::session::read_budget::ReadBudget;
use arcyou_gateway::session::shared::SessionLimits;
use arcyou_gateway::session::wire::{answer_farewell, close_code, farewell};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::StreamExt as _;

pub fn router(limits: SessionLimits) -> Router {
    Router::new().route("/", get(upgrade)).with_state(Arc::new(limits))
}

async fn upgrade(
    State(limits): State<Arc<SessionLimits>>,
    Extension(budget): Extension<ReadBudget>,
    upgrade: WebSocketUpgrade,
) -> Response {
    handshake::bounded(upgrade, &limits).on_upgrade(move |socket| echo(socket, budget, limits))
}

async fn echo(mut socket: WebSocket, budget: ReadBudget, limits: Arc<SessionLimits>) {
    budget.renew(limits.max_frame_bytes);
    while let Some(frame) = socket.next().await {
        match frame {
            Ok(Message::Close(_)) => return answer_farewell(&mut socket).await,
            Ok(message) => {
                budget.renew(limits.max_frame_bytes);
                // Pings are answered by the library.
                if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if let Some(code) = close_code(&error, &budget) {
                    farewell(&mut socket, code).await;
                }
                return;
            }
        }
    }
}
