//! Reactions, given and taken away.

use arcyou_protocol::{Action, Command, Failure, Reply, Seq, checks};
use axum::extract::State;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::problem::Problem;
use super::state::{Api, Path, Query};

/// Whose reaction it is.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ByUser {
    /// A participant. Not needed with a key that acts for a user.
    user_id: Option<Uuid>,
}

/// What became of a reaction.
#[derive(Serialize, ToSchema)]
pub(super) struct Reacted {
    message_id: i64,
    reaction: String,
    /// How often the message has it now.
    count: i32,
    /// Of the change that made it so; null if it was never there.
    seq: Option<Seq>,
    /// Whether it was so before.
    duplicate: bool,
}

/// Gives a message a reaction.
#[utoipa::path(put, operation_id = "add_reaction", path = "/conversations/{conversation_id}/messages/{message_id}/reactions/{reaction}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), ("reaction" = String, Path, min_length = 1, max_length = 64, pattern = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff]+$"), ByUser),
    responses((status = 200, body = Reacted)))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(place), _): Path<(Uuid, i64, String)>,
    WithRejection(query, _): Query<ByUser>,
) -> Result<axum::Json<Reacted>, Problem> {
    react(&api, &caller, place, query.user_id, false).await
}

/// Takes a reaction away again.
#[utoipa::path(delete, operation_id = "remove_reaction", path = "/conversations/{conversation_id}/messages/{message_id}/reactions/{reaction}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), ("reaction" = String, Path, min_length = 1, max_length = 64, pattern = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff]+$"), ByUser),
    responses((status = 200, body = Reacted)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(place), _): Path<(Uuid, i64, String)>,
    WithRejection(query, _): Query<ByUser>,
) -> Result<axum::Json<Reacted>, Problem> {
    react(&api, &caller, place, query.user_id, true).await
}

async fn react(
    api: &Api,
    caller: &Caller,
    (conversation, message_id, reaction): (Uuid, i64, String),
    named: Option<Uuid>,
    remove: bool,
) -> Result<axum::Json<Reacted>, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let user = caller.required_sender(named)?;
    let reaction = checks::reaction(&reaction)?;
    let action = Action::React { message_id, reaction, remove };
    let command = Command { conversation, idempotency_key: None, action };
    match api.carry_out(user, command).await? {
        Reply::React { message_id, reaction, count, seq, duplicate, .. } => {
            Ok(axum::Json(Reacted { message_id, reaction: reaction.into(), count, seq, duplicate }))
        }
        _ => Err(Failure::internal().into()),
    }
}
