//! Messages are sent, one by one and in batches.

use std::collections::HashMap;
use std::sync::Arc;

use arcyou_protocol::{Action, Command, Failure, Reply, SendStatus, Seq, StoredIds, checks};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::commands::{idempotency_key, raw};
use super::key::{Caller, Scope};
use super::object::{Object, objects};
use super::problem::{Problem, ProblemDocument};
use super::state::{Api, Json, Path};
use super::whole_number::WholeNumber;
use crate::authorize::{Role, RoleCache, Submitted};

/// Messages of one batch.
const MOST_AT_ONCE: usize = 1000;

/// A message to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Who sends it: a participant. Not needed with a key that acts for a user.
    sender_id: Option<Uuid>,
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// The message that it replies to.
    #[schema(value_type = Option<i64>, minimum = 1)]
    reply_to: Option<WholeNumber>,
}

/// What became of a message.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// `stored`, `held` or `discarded`.
    status: &'static str,
    /// Null unless it is stored.
    message_id: Option<i64>,
    seq: Option<Seq>,
    created_at: Option<String>,
    /// The id under which it waits for a reviewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_id: Option<i64>,
    /// Whether an earlier request with the same key did it.
    duplicate: bool,
    /// The body as it is stored, if a plugin replaced the one that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    body: Option<Box<RawValue>>,
}

impl Sent {
    fn of(reply: Reply) -> Result<Self, Problem> {
        let Reply::Send { status, duplicate, body } = reply else { return Err(Failure::internal().into()) };
        let (status, ids, held_id) = match status {
            SendStatus::Stored(ids) => ("stored", Some(ids), None),
            SendStatus::Held(id) => ("held", None, Some(id)),
            SendStatus::Discarded => ("discarded", None, None),
        };
        let (message_id, seq, created_at) = match ids {
            Some(StoredIds { id, seq, created_at }) => (Some(id), Some(seq), Some(created_at)),
            None => (None, None, None),
        };
        Ok(Self { status, message_id, seq, created_at, held_id, duplicate, body: body.and_then(raw) })
    }

    fn http_status(&self) -> StatusCode {
        match self.status {
            "stored" if !self.duplicate => StatusCode::CREATED,
            "held" => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        }
    }
}

/// A message that takes its place among those of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchedMessage {
    conversation_id: Uuid,
    /// Who sends it: a participant. Not needed with a key that acts for a user.
    sender_id: Option<Uuid>,
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// The message that it replies to.
    #[schema(value_type = Option<i64>, minimum = 1)]
    reply_to: Option<WholeNumber>,
    /// 1 to 128 characters: a repeat with the same one is stored once.
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000]+$")]
    idempotency_key: Option<String>,
}

/// Messages to be sent, of whichever conversations.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<BatchedMessage>,
}

/// What became of each message, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchSent {
    results: Vec<BatchResult>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum BatchResult {
    Sent(Sent),
    Problem {
        #[schema(value_type = ProblemDocument)]
        problem: Problem,
    },
}

/// Sends a message. `Idempotency-Key` makes a repeat safe.
#[utoipa::path(post, operation_id = "send_message", path = "/conversations/{conversation_id}/messages", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[ -~]+$", description = "1 to 128 bytes: a repeat with the same one is stored once")),
    request_body = NewMessage,
    responses((status = 201, body = Sent, description = "stored"), (status = 200, body = Sent, description = "stored before, or discarded by a plugin"),
        (status = 202, body = Sent, description = "held for review")))]
pub(super) async fn send(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    WithRejection(axum::extract::Path(conversation), _): Path<Uuid>,
    WithRejection(axum::Json(Object(message)), _): Json<NewMessage>,
) -> Result<impl IntoResponse, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let NewMessage { sender_id, body, reply_to } = message;
    let sender = caller.required_sender(sender_id)?;
    let action = Action::Send { body: api.body(&body)?, reply_to: checked_id(reply_to)? };
    let idempotency_key = idempotency_key(&headers)?;
    let command = Command { conversation, idempotency_key, action };
    let sent = Sent::of(api.carry_out(sender, command).await?)?;
    Ok((sent.http_status(), axum::Json(sent)))
}

/// Sends up to 1,000 messages, each for itself: one that is refused does not stop the others, unless the request itself
/// is not as it should be. Those of one conversation are stored in their order.
#[utoipa::path(post, operation_id = "send_messages", path = "/messages", tag = "messages", request_body = Batch,
    responses((status = 200, body = BatchSent)))]
pub(super) async fn send_batch(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::Json(Object(batch)), _): Json<Batch>,
) -> Result<axum::Json<BatchSent>, Problem> {
    caller.may(Scope::MessagesWrite)?;
    if batch.messages.is_empty() || batch.messages.len() > MOST_AT_ONCE {
        return Err(Problem::invalid(format!("messages must be a list of 1 to {MOST_AT_ONCE}; send several batches")));
    }
    let submitted = batch.messages.into_iter().enumerate().map(|(place, message)| {
        api.submitted(&caller, message).map_err(|problem| problem.about(&format!("messages[{place}]")))
    });
    // Nothing is stored of a batch that is not as it should be.
    let submitted: Vec<Submitted> = submitted.collect::<Result<_, Problem>>()?;
    let mut accepted = Vec::with_capacity(submitted.len());
    // One question for all, and not one for each.
    let member = |submitted: &Submitted| (submitted.command.conversation, submitted.sender);
    let roles = api.store.roles(&submitted.iter().map(member).collect()).await?;
    let roles: HashMap<_, Arc<str>> = roles.into_iter().map(|(member, role)| (member, role.into())).collect();
    for submitted in submitted {
        let role = roles.get(&member(&submitted)).cloned().map_or(Role::NoParticipant, Role::Known);
        accepted.push(api.ingress.accept(submitted, role, &mut RoleCache::default()).await);
    }
    let mut results = Vec::with_capacity(accepted.len());
    for accepted in accepted {
        let sent = accepted.await.map_err(Problem::from).and_then(Sent::of);
        results.push(sent.map_or_else(|problem| BatchResult::Problem { problem }, BatchResult::Sent));
    }
    Ok(axum::Json(BatchSent { results }))
}

impl Api {
    fn submitted(&self, caller: &Caller, message: BatchedMessage) -> Result<Submitted, Problem> {
        let BatchedMessage { conversation_id, sender_id, body, reply_to, idempotency_key } = message;
        let sender = caller.required_sender(sender_id)?;
        let action = Action::Send { body: self.body(&body)?, reply_to: checked_id(reply_to)? };
        let idempotency_key = idempotency_key.as_deref().map(checks::idempotency_key).transpose()?;
        Ok(Submitted { sender, command: Command { conversation: conversation_id, idempotency_key, action } })
    }
}

fn checked_id(id: Option<WholeNumber>) -> Result<Option<i64>, Problem> {
    match id {
        Some(WholeNumber(id)) if id < 1 => Err(Problem::invalid("reply_to must be the id of a message")),
        id => Ok(id.map(|WholeNumber(id)| id)),
    }
}
