//! `/held` on the admin listener: messages that plugins held, for people to decide on.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::ORIGIN;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store::{HeldPage, Store, StoreError};
use crate::wake::Wake;

#[derive(Clone)]
struct AdminState {
    store: Store,
    wake: Wake,
}

/// `GET /held?conversation_id=&after=&limit=`, `POST /held/{id}/release`, `POST /held/{id}/refuse`; all answer in JSON.
pub(super) fn router(store: Store, wake: Wake) -> Router {
    Router::new()
        .route("/held", get(page))
        .route("/held/{id}/release", post(release))
        .route("/held/{id}/refuse", post(refuse))
        .layer(middleware::from_fn(no_browsers))
        .with_state(AdminState { store, wake })
}

/// The admin address asks nobody who they are: a page in the browser of somebody who can reach it must not decide for
/// them.
async fn no_browsers(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "this address is not for web pages");
    }
    next.run(request).await
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    conversation_id: Option<Uuid>,
    #[serde(default)]
    after: i64,
    limit: Option<i64>,
}

async fn page(State(state): State<AdminState>, Query(query): Query<PageQuery>) -> Response {
    let PageQuery { conversation_id, after, limit } = query;
    let limit = limit.unwrap_or(HeldPage::DEFAULT_LIMIT).clamp(1, HeldPage::MAX_LIMIT);
    answer(state.store.held(HeldPage { conversation: conversation_id, after, limit }).await, |held| {
        Some(json!({ "held": held }))
    })
}

async fn release(State(state): State<AdminState>, Path(id): Path<i64>) -> Response {
    let released = state.store.release(&[id]).await;
    state.wake.hint();
    answer(released, |released| released.first().map(|message| json!(message)))
}

async fn refuse(State(state): State<AdminState>, Path(id): Path<i64>) -> Response {
    answer(state.store.refuse(&[id]).await, |refused| refused.first().map(|id| json!({ "id": id })))
}

fn answer<T>(outcome: Result<T, StoreError>, show: impl FnOnce(&T) -> Option<Value>) -> Response {
    match outcome {
        Ok(found) => match show(&found) {
            Some(body) => Json(body).into_response(),
            None => problem(StatusCode::NOT_FOUND, "no held message waits for a decision under this id"),
        },
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}
