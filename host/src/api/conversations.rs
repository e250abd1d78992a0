//! Conversations: made, listed, deleted.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::participants::NewParticipant;
use super::problem::{ApiCode, Problem};
use super::{Api, Json, Path, Query};
use crate::store::{Conversation, NewConversation};

/// Rows of a page, if the request does not say.
pub(super) const DEFAULT_PAGE: i64 = 100;
/// Rows of a page at most.
pub(super) const MAX_PAGE: i64 = 1000;

/// A page of conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct Conversations {
    conversations: Vec<Conversation>,
    /// Give it as `after` for the next page; none: this is the last one.
    next: Option<Uuid>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Cursor {
    /// The `next` of the page before.
    after: Option<Uuid>,
    /// Rows: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

impl Cursor {
    pub(super) fn after(&self) -> Option<Uuid> {
        self.after
    }

    pub(super) fn limit(&self) -> Result<i64, Problem> {
        limited(self.limit)
    }
}

/// The rows that a request asks for.
pub(super) fn limited(limit: Option<i64>) -> Result<i64, Problem> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => Err(Problem::invalid(format!("limit must be 1 to {MAX_PAGE}"))),
    }
}

/// Lists all conversations, in the order of their ids.
#[utoipa::path(get, path = "/conversations", tag = "conversations", params(Cursor),
    responses((status = 200, body = Conversations), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(query, _): Query<Cursor>,
) -> Result<axum::Json<Conversations>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    let page = api.store.conversations(query.after(), query.limit()?).await?;
    let next = page.more.then(|| page.items.last().map(|last| last.id)).flatten();
    Ok(axum::Json(Conversations { conversations: page.items, next }))
}

/// A conversation to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeConversation {
    /// A UUID of your own; without one the gateway draws one.
    id: Option<Uuid>,
    /// At most 10,000; add more afterwards.
    #[serde(default)]
    #[schema(max_items = 10_000)]
    participants: Vec<NewParticipant>,
}

/// Makes a conversation, with its first participants.
#[utoipa::path(post, path = "/conversations", tag = "conversations", request_body = MakeConversation,
    responses((status = 201, body = Conversation), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::Json(asked), _): Json<MakeConversation>,
) -> Result<impl IntoResponse, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    let id = asked.id.unwrap_or_else(Uuid::new_v4);
    let participants = NewParticipant::checked(asked.participants)?;
    let made = api.store.make_conversation(&NewConversation { id, participants }).await?;
    let Some(conversation) = made else {
        let text = format!("the conversation {id} exists; choose another id, or leave it out");
        return Err(Problem::new(ApiCode::ConversationExists, text));
    };
    api.wake.hint();
    let location = [(LOCATION, format!("{}/conversations/{id}", super::PATH))];
    Ok((StatusCode::CREATED, location, axum::Json(conversation)))
}

/// Shows a conversation.
#[utoipa::path(get, path = "/conversations/{conversation_id}", tag = "conversations", params(("conversation_id" = Uuid, Path,)),
    responses((status = 200, body = Conversation), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<Uuid>,
) -> Result<axum::Json<Conversation>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    api.store.conversation(id).await?.map(axum::Json).ok_or_else(|| unknown(id))
}

/// Deletes a conversation with everything in it. Its open sockets are told.
#[utoipa::path(delete, path = "/conversations/{conversation_id}", tag = "conversations", params(("conversation_id" = Uuid, Path,)),
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    if !api.store.delete_conversation(id).await? {
        return Err(unknown(id));
    }
    api.wake.hint();
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn unknown(id: Uuid) -> Problem {
    Problem::new(ApiCode::UnknownConversation, format!("there is no conversation {id}"))
}
