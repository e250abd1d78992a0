//! `/held` on the admin listener: messages that plugins held, for people to decide on.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store::{DecisionPage, HeldPage, NoReviewer, Reviewer, Store, StoreError};
use crate::wake::Wake;

/// Who decides, in their own words.
const X_OPERATOR: &str = "x-operator";

#[derive(Clone)]
struct AdminState {
    store: Store,
    wake: Wake,
}

/// `GET /held?conversation_id=&after=&limit=`, `GET /held/decisions?conversation_id=&held_id=&before=&limit=`,
/// `POST /held/{id}/release`, `POST /held/{id}/refuse`; all answer in JSON. The header `X-Operator` says who decides.
pub(super) fn router(store: Store, wake: Wake) -> Router {
    Router::new()
        .route("/held", get(page))
        .route("/held/decisions", get(decisions))
        .route("/held/{id}/release", post(release))
        .route("/held/{id}/refuse", post(refuse))
        .with_state(AdminState { store, wake })
}

/// Who decides. Whoever names nobody is known by the address that the request comes from.
struct By(Reviewer);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let ConnectInfo(peer) =
            ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let by = match parts.headers.get(X_OPERATOR) {
            Some(name) => String::from_utf8_lossy(name.as_bytes()).parse(),
            None => peer.ip().to_canonical().to_string().parse(),
        };
        by.map(By).map_err(|error: NoReviewer| problem(StatusCode::BAD_REQUEST, &format!("X-Operator: {error}")))
    }
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

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionsQuery {
    conversation_id: Option<Uuid>,
    held_id: Option<i64>,
    before: Option<i64>,
    limit: Option<i64>,
}

async fn decisions(State(state): State<AdminState>, Query(query): Query<DecisionsQuery>) -> Response {
    let DecisionsQuery { conversation_id: conversation, held_id: held, before, limit } = query;
    let limit = limit.unwrap_or(HeldPage::DEFAULT_LIMIT).clamp(1, HeldPage::MAX_LIMIT);
    answer(state.store.review_decisions(DecisionPage { conversation, before, held, limit }).await, |decisions| {
        Some(json!({ "decisions": decisions }))
    })
}

async fn release(State(state): State<AdminState>, Path(id): Path<i64>, By(by): By) -> Response {
    let released = state.store.release(id, &by).await;
    state.wake.hint();
    answer(released, |released| released.as_ref().map(|message| json!(message)))
}

async fn refuse(State(state): State<AdminState>, Path(id): Path<i64>, By(by): By) -> Response {
    answer(state.store.refuse(id, &by).await, |waited| waited.then(|| json!({ "id": id })))
}

fn answer<T>(outcome: Result<T, StoreError>, show: impl FnOnce(&T) -> Option<Value>) -> Response {
    match outcome {
        Ok(found) => match show(&found) {
            Some(body) => Json(body).into_response(),
            None => problem(StatusCode::NOT_FOUND, "no held message waits for a decision under this id"),
        },
        Err(error @ StoreError::Unknown(_)) => problem(StatusCode::GATEWAY_TIMEOUT, &error.to_string()),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}
