//! Messages that plugins held, for a service to decide on.

use arcyou_protocol::Seq;
use axum::extract::State;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::page::limited;
use super::problem::{ApiCode, Problem};
use super::state::{Api, Path, Query};
use crate::store::{HeldMessage, HeldPage, Released, Reviewer};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HeldQuery {
    /// Of this conversation alone.
    conversation_id: Option<Uuid>,
    /// Those after this id: the last one of the page before.
    after: Option<i64>,
    /// Rows: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

/// What waits for a decision, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Held {
    held: Vec<HeldOne>,
}

/// A message or an edit that waits for a decision.
#[derive(Serialize, ToSchema)]
pub(super) struct HeldOne {
    id: i64,
    conversation_id: Uuid,
    sender_id: Uuid,
    /// Whether the sender participates in the conversation now.
    sender_participates: bool,
    /// As the plugins left it.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// The message whose body it is to replace; null: it is a message of its own.
    edits: Option<i64>,
    /// The plugin that held it.
    held_by: String,
    /// Why, in the plugin's words.
    reason: String,
    created_at: String,
}

impl HeldOne {
    fn of(held: HeldMessage) -> Self {
        let HeldMessage {
            id,
            conversation_id,
            sender_id,
            sender_participates,
            body,
            edits,
            held_by,
            reason,
            created_at,
        } = held;
        Self { id, conversation_id, sender_id, sender_participates, body, edits, held_by, reason, created_at }
    }
}

/// Lists what waits for a decision.
#[utoipa::path(get, operation_id = "list_held", path = "/held", tag = "held", params(HeldQuery),
    responses((status = 200, body = Held)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Query(query), _): Query<HeldQuery>,
) -> Result<axum::Json<Held>, Problem> {
    caller.may(Scope::HeldWrite)?;
    let HeldQuery { conversation_id, after, limit } = query;
    let page = HeldPage { conversation: conversation_id, after: after.unwrap_or(0), limit: limited(limit)? };
    let held = api.store.held(page).await?.into_iter().map(HeldOne::of).collect();
    Ok(axum::Json(Held { held }))
}

/// A held message or edit that stands now.
#[derive(Serialize, ToSchema)]
pub(super) struct ReleasedOne {
    /// The id that it had while it was held.
    id: i64,
    message_id: i64,
    seq: Seq,
    created_at: String,
}

/// Releases a held message: it is stored and told now.
#[utoipa::path(post, operation_id = "release_held", path = "/held/{held_id}/release", tag = "held", params(("held_id" = i64, Path,)),
    responses((status = 200, body = ReleasedOne)))]
pub(super) async fn release(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<i64>,
) -> Result<axum::Json<ReleasedOne>, Problem> {
    caller.may(Scope::HeldWrite)?;
    let released = api.store.release(id, &reviewer(&caller)?).await?;
    api.wake.hint();
    let Released { id, message } = released.ok_or_else(|| nothing(id))?;
    Ok(axum::Json(ReleasedOne { id, message_id: message.id, seq: message.seq, created_at: message.created_at }))
}

/// A held message that is never shown.
#[derive(Serialize, ToSchema)]
pub(super) struct Refused {
    id: i64,
}

/// Refuses a held message: it is never shown.
#[utoipa::path(post, operation_id = "refuse_held", path = "/held/{held_id}/refuse", tag = "held", params(("held_id" = i64, Path,)),
    responses((status = 200, body = Refused)))]
pub(super) async fn refuse(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<i64>,
) -> Result<axum::Json<Refused>, Problem> {
    caller.may(Scope::HeldWrite)?;
    let waited = api.store.refuse(id, &reviewer(&caller)?).await?;
    waited.then_some(axum::Json(Refused { id })).ok_or_else(|| nothing(id))
}

fn reviewer(caller: &Caller) -> Result<Reviewer, Problem> {
    caller.name().parse().map_err(|error| Problem::invalid(format!("the key's name: {error}")))
}

fn nothing(id: i64) -> Problem {
    Problem::new(ApiCode::NothingHeld, format!("no held message waits for a decision under the id {id}"))
}
