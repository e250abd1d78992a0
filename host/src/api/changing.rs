//! Messages are edited and deleted.

use arcyou_protocol::{Action, Command, EditStatus, ErrorCode, Failure, Reply, Seq, StoredChange};
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::commands::{IF_MATCH, etag, idempotency_key, raw, unknown_message};
use super::key::{Caller, Scope};
use super::object::Object;
use super::problem::Problem;
use super::state::{Api, Json, Path, Query};

/// A version that no message has: what replaces it replaces nothing.
const NO_VERSION: i32 = 0;

/// The version that is to be changed: `"3"`; none for `*` or without the header.
fn if_match(headers: &HeaderMap) -> Result<Option<i32>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.trim_start_matches("W/").strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let Some(tag) = tag.filter(|tag| !tag.contains('"')) else {
        let text = "If-Match must have one ETag, that of the version which you know, or *; nothing was changed";
        return Err(Failure::new(ErrorCode::VersionConflict, text).into());
    };
    // A weak one is as good as none.
    Ok(Some(tag.parse().ok().filter(|_| text.starts_with('"')).unwrap_or(NO_VERSION)))
}

/// What a message is to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBody {
    /// Who edits it: its author, by default.
    user_id: Option<Uuid>,
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

/// What became of a change.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// `stored`, `held` or `discarded`.
    status: &'static str,
    message_id: i64,
    /// Null unless it is stored.
    seq: Option<Seq>,
    /// The message's.
    version: Option<i32>,
    /// When it was changed.
    changed_at: Option<String>,
    /// The id under which an edit waits for a reviewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_id: Option<i64>,
    /// Whether it was so before.
    duplicate: bool,
    /// The body as it is stored, if a plugin replaced the one that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    body: Option<Box<RawValue>>,
}

impl Changed {
    fn of(reply: Reply) -> Result<Self, Problem> {
        let (message_id, status, duplicate, body) = match reply {
            Reply::Edit { message_id, status, duplicate, body, .. } => (message_id, status, duplicate, body),
            Reply::Delete { message_id, change, duplicate, .. } => {
                (message_id, EditStatus::Stored(change), duplicate, None)
            }
            _ => return Err(Failure::internal().into()),
        };
        let (status, change, held_id) = match status {
            EditStatus::Stored(change) => ("stored", Some(change), None),
            EditStatus::Held(id) => ("held", None, Some(id)),
            EditStatus::Discarded => ("discarded", None, None),
        };
        let (seq, version, changed_at) = match change {
            Some(StoredChange { seq, version, at }) => (Some(seq), Some(version), Some(at)),
            None => (None, None, None),
        };
        let body = body.and_then(raw);
        Ok(Self { status, message_id, seq, version, changed_at, held_id, duplicate, body })
    }

    fn answer(self) -> Response {
        let status = if self.status == "held" { StatusCode::ACCEPTED } else { StatusCode::OK };
        match self.version {
            Some(version) => (status, [(ETAG, etag(version))], axum::Json(self)).into_response(),
            None => (status, axum::Json(self)).into_response(),
        }
    }
}

/// Edits a message. `If-Match` with its `ETag` refuses to replace a newer version.
#[utoipa::path(patch, operation_id = "edit_message", path = "/conversations/{conversation_id}/messages/{message_id}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), ("If-Match" = Option<String>, Header, description = "the ETag of the version that is to be replaced"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[ -~]+$", description = "1 to 128 bytes: a repeat with the same one is made once")),
    request_body = NewBody,
    responses((status = 200, body = Changed, headers(("ETag" = String))), (status = 202, body = Changed, description = "held for review")))]
pub(super) async fn edit(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    WithRejection(axum::extract::Path((conversation, message_id)), _): Path<(Uuid, i64)>,
    WithRejection(axum::Json(Object(new)), _): Json<NewBody>,
) -> Result<Response, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let body = api.body(&new.body)?;
    let (idempotency_key, if_version) = (idempotency_key(&headers)?, if_match(&headers)?);
    let user = api.author_or(&caller, new.user_id, conversation, message_id).await?;
    let command = Command { conversation, idempotency_key, action: Action::Edit { message_id, body, if_version } };
    Changed::of(api.carry_out(user, command).await?).map(Changed::answer)
}

/// Who changes a message.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ByUser {
    /// Its author, by default; or somebody whose role deletes the messages of others.
    user_id: Option<Uuid>,
}

/// Deletes a message for good. It keeps its place, without a body. `If-Match` with its `ETag` refuses to delete a newer
/// version.
#[utoipa::path(delete, operation_id = "delete_message", path = "/conversations/{conversation_id}/messages/{message_id}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), ("If-Match" = Option<String>, Header, description = "the ETag of the version that is to be deleted"), ByUser),
    responses((status = 200, body = Changed, headers(("ETag" = String)))))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    WithRejection(axum::extract::Path((conversation, message_id)), _): Path<(Uuid, i64)>,
    WithRejection(query, _): Query<ByUser>,
) -> Result<Response, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let if_version = if_match(&headers)?;
    let user = api.author_or(&caller, query.user_id, conversation, message_id).await?;
    let command = Command { conversation, idempotency_key: None, action: Action::Delete { message_id, if_version } };
    Changed::of(api.carry_out(user, command).await?).map(Changed::answer)
}

impl Api {
    /// The user that the request names, or the author of the message.
    async fn author_or(
        &self,
        caller: &Caller,
        named: Option<Uuid>,
        conversation: Uuid,
        message: i64,
    ) -> Result<Uuid, Problem> {
        if let Some(user) = caller.sender(named)? {
            return Ok(user);
        }
        let standing = self.store.standing_message(conversation, message).await?;
        Ok(standing.ok_or_else(unknown_message)?.sender)
    }
}
