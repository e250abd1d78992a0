//! Who participates in a conversation.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::object::{Object, objects};
use super::page::Cursor;
use super::problem::{ApiCode, Problem};
use super::state::{Api, Json, Path, Query};
use crate::store::{Participant, PutParticipants};

/// Participants of one request.
const MOST_AT_ONCE: usize = 10_000;
const MAX_ROLE_CHARS: usize = 64;
const DEFAULT_ROLE: &str = "member";

/// A user who is to participate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewParticipant {
    user_id: Uuid,
    /// 1 to 64 characters; by default `member`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    role: Option<String>,
}

impl NewParticipant {
    /// Each user once, with a role that can be one. Of a user who is named twice the last role counts.
    pub(super) fn checked(asked: Vec<Self>) -> Result<BTreeMap<Uuid, String>, Problem> {
        if asked.len() > MOST_AT_ONCE {
            return Err(Problem::invalid(format!(
                "one request adds at most {MOST_AT_ONCE} participants; send several"
            )));
        }
        let mut participants = BTreeMap::new();
        for Self { user_id, role } in asked {
            participants.insert(user_id, checked_role(role)?);
        }
        Ok(participants)
    }
}

fn checked_role(role: Option<String>) -> Result<String, Problem> {
    let role = role.unwrap_or_else(|| DEFAULT_ROLE.to_owned());
    let fits = (1..=MAX_ROLE_CHARS).contains(&role.chars().count()) && !role.chars().any(char::is_control);
    if fits {
        Ok(role)
    } else {
        Err(Problem::invalid(format!(
            "role must be 1 to {MAX_ROLE_CHARS} characters, none of them a control character"
        )))
    }
}

/// A page of participants.
#[derive(Serialize, ToSchema)]
pub(super) struct ParticipantPage {
    participants: Vec<Participant>,
    /// Give it as `after` for the next page; none: this is the last one.
    next: Option<Uuid>,
}

/// Lists who participates, in the order of user ids.
#[utoipa::path(get, operation_id = "list_participants", path = "/conversations/{conversation_id}/participants", tag = "participants",
    params(("conversation_id" = Uuid, Path,), Cursor),
    responses((status = 200, body = ParticipantPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(conversation), _): Path<Uuid>,
    WithRejection(query, _): Query<Cursor>,
) -> Result<axum::Json<ParticipantPage>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    let page = api.store.participants(conversation, query.after(), query.limit()?).await?;
    if page.items.is_empty() && api.store.conversation(conversation).await?.is_none() {
        return Err(Problem::unknown_conversation(conversation));
    }
    let next = page.more.then(|| page.items.last().map(|last| last.user_id)).flatten();
    Ok(axum::Json(ParticipantPage { participants: page.items, next }))
}

/// Users who are to participate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddParticipants {
    #[serde(deserialize_with = "objects")]
    #[schema(max_items = 10_000)]
    participants: Vec<NewParticipant>,
}

/// How many were added, and how many were there already, with another role or with the same.
#[derive(Serialize, ToSchema)]
pub(super) struct Added {
    added: i64,
    changed: i64,
    unchanged: i64,
}

/// Adds participants, all or none. Whoever participates already gets the role that is given.
#[utoipa::path(post, operation_id = "add_participants", path = "/conversations/{conversation_id}/participants", tag = "participants",
    params(("conversation_id" = Uuid, Path,)), request_body = AddParticipants,
    responses((status = 200, body = Added)))]
pub(super) async fn add(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(conversation), _): Path<Uuid>,
    WithRejection(axum::Json(Object(asked)), _): Json<AddParticipants>,
) -> Result<axum::Json<Added>, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    let participants = NewParticipant::checked(asked.participants)?;
    put_all(&api, conversation, participants).await.map(axum::Json)
}

async fn put_all(api: &Api, conversation: Uuid, participants: BTreeMap<Uuid, String>) -> Result<Added, Problem> {
    let asked = participants.len() as i64;
    let done = api.store.put_participants(conversation, &participants).await?;
    let PutParticipants { added, changed } = done.ok_or_else(|| Problem::unknown_conversation(conversation))?;
    if added + changed > 0 {
        api.wake.hint();
    }
    Ok(Added { added, changed, unchanged: asked - added - changed })
}

/// The role of a participant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Role {
    /// 1 to 64 characters; by default `member`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    role: Option<String>,
}

/// Adds a participant, or changes a participant's role.
#[utoipa::path(put, operation_id = "put_participant", path = "/conversations/{conversation_id}/participants/{user_id}", tag = "participants",
    params(("conversation_id" = Uuid, Path,), ("user_id" = Uuid, Path,)), request_body = Role,
    responses((status = 200, body = Added)))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((conversation, user)), _): Path<(Uuid, Uuid)>,
    WithRejection(axum::Json(Object(asked)), _): Json<Role>,
) -> Result<axum::Json<Added>, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    let participants = BTreeMap::from([(user, checked_role(asked.role)?)]);
    put_all(&api, conversation, participants).await.map(axum::Json)
}

/// Removes a participant, whose sockets hear nothing more of the conversation.
#[utoipa::path(delete, operation_id = "remove_participant", path = "/conversations/{conversation_id}/participants/{user_id}", tag = "participants",
    params(("conversation_id" = Uuid, Path,), ("user_id" = Uuid, Path,)),
    responses((status = 204)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((conversation, user)), _): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    if !api.store.remove_participant(conversation, user).await? {
        let text = format!("the user {user} does not participate in the conversation {conversation}");
        return Err(Problem::new(ApiCode::UnknownParticipant, text));
    }
    api.wake.hint();
    Ok(StatusCode::NO_CONTENT)
}
