//! Conversations: made, listed, deleted.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::object::{Object, objects};
use super::page::Cursor;
use super::participants::NewParticipant;
use super::problem::{ApiCode, Problem};
use super::state::{Api, Json, PATH, Path, Query};
use super::whole_number::WholeNumber;
use crate::store::{Conversation, ConversationChange, NewConversation};

/// As the schema has it: a hundred years.
const MOST_DAYS: i32 = 36_500;

/// A page of conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct Conversations {
    conversations: Vec<Conversation>,
    /// Give it as `after` for the next page; none: this is the last one.
    next: Option<Uuid>,
}

/// Lists all conversations, in the order of their ids.
#[utoipa::path(get, operation_id = "list_conversations", path = "/conversations", tag = "conversations", params(Cursor),
    responses((status = 200, body = Conversations)))]
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
    #[serde(default, deserialize_with = "objects")]
    #[schema(max_items = 10_000)]
    participants: Vec<NewParticipant>,
    /// For how many days messages are kept: 1 to 36,500; without it for ever.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 36_500)]
    keep_days: Option<WholeNumber>,
    /// How many messages are kept; without it all.
    #[schema(value_type = Option<i64>, minimum = 1)]
    keep_messages: Option<WholeNumber>,
}

fn days(WholeNumber(days): WholeNumber) -> Result<i32, Problem> {
    let days = i32::try_from(days).ok().filter(|days| (1..=MOST_DAYS).contains(days));
    days.ok_or_else(|| Problem::invalid(format!("keep_days must be 1 to {MOST_DAYS}, or null for ever")))
}

fn messages(WholeNumber(messages): WholeNumber) -> Result<i64, Problem> {
    let messages = Some(messages).filter(|messages| *messages >= 1);
    messages.ok_or_else(|| Problem::invalid("keep_messages must be 1 or more, or null for all"))
}

/// Makes a conversation, with its first participants.
#[utoipa::path(post, operation_id = "create_conversation", path = "/conversations", tag = "conversations", request_body = MakeConversation,
    responses((status = 201, body = Conversation)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::Json(Object(asked)), _): Json<MakeConversation>,
) -> Result<impl IntoResponse, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    let MakeConversation { id, participants, keep_days, keep_messages } = asked;
    let (keep_days, keep_messages) = (keep_days.map(days).transpose()?, keep_messages.map(messages).transpose()?);
    let id = id.unwrap_or_else(Uuid::new_v4);
    let participants = NewParticipant::checked(participants)?;
    let made = api.store.make_conversation(&NewConversation { id, participants, keep_days, keep_messages }).await?;
    let Some(conversation) = made else {
        let text = format!("the conversation {id} exists; choose another id, or leave it out");
        return Err(Problem::new(ApiCode::ConversationExists, text));
    };
    api.wake.hint();
    let location = [(LOCATION, format!("{}/conversations/{id}", PATH))];
    Ok((StatusCode::CREATED, location, axum::Json(conversation)))
}

/// Shows a conversation.
#[utoipa::path(get, operation_id = "get_conversation", path = "/conversations/{conversation_id}", tag = "conversations", params(("conversation_id" = Uuid, Path,)),
    responses((status = 200, body = Conversation)))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<Uuid>,
) -> Result<axum::Json<Conversation>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    api.store.conversation(id).await?.map(axum::Json).ok_or_else(|| Problem::unknown_conversation(id))
}

/// Deletes a conversation with everything in it. Its open sockets are told.
#[utoipa::path(delete, operation_id = "delete_conversation", path = "/conversations/{conversation_id}", tag = "conversations", params(("conversation_id" = Uuid, Path,)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    if !api.store.delete_conversation(id).await? {
        return Err(Problem::unknown_conversation(id));
    }
    api.wake.hint();
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be different about a conversation; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeConversation {
    /// Whether nobody may send, edit or give reactions.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    read_only: Option<bool>,
    /// For how many days messages are kept: 1 to 36,500, or null for ever.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 36_500)]
    keep_days: Option<Option<WholeNumber>>,
    /// How many messages are kept, or null for all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 1)]
    keep_messages: Option<Option<WholeNumber>>,
}

/// A field that is there, also if it is null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// Makes a conversation read-only or lets everybody write in it again, and says how long its messages are kept.
#[utoipa::path(patch, operation_id = "change_conversation", path = "/conversations/{conversation_id}", tag = "conversations",
    params(("conversation_id" = Uuid, Path,)), request_body = ChangeConversation,
    responses((status = 200, body = Conversation)))]
pub(super) async fn change(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(id), _): Path<Uuid>,
    WithRejection(axum::Json(Object(change)), _): Json<ChangeConversation>,
) -> Result<axum::Json<Conversation>, Problem> {
    caller.may(Scope::ConversationsWrite)?;
    let ChangeConversation { read_only, keep_days, keep_messages } = change;
    let change = ConversationChange {
        read_only,
        keep_days: keep_days.map(|kept| kept.map(days).transpose()).transpose()?,
        keep_messages: keep_messages.map(|kept| kept.map(messages).transpose()).transpose()?,
    };
    let changed = api.store.change_conversation(id, change).await?;
    changed.map(axum::Json).ok_or_else(|| Problem::unknown_conversation(id))
}
