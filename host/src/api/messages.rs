//! Messages: sent, read, edited and deleted, by the same line as the requests of sockets.

use arcyou_protocol::body::Body;
use arcyou_protocol::{Action, Command, EditStatus, Failure, Reply, SendStatus, Seq, StoredChange, StoredIds, checks};
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::page::limited;
use super::problem::{Problem, ProblemDocument};
use super::state::{Api, Json, Path, Query};
use crate::authorize::{RoleCache, Submitted};
use crate::store::{PageLimits, Window};

/// The header that makes a repeat safe.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Messages of one batch.
const MOST_AT_ONCE: usize = 1000;
/// A page of messages ends before it passes this many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// Beyond it a double does not tell integers apart.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A message to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Who sends it: a participant. Not needed with a key that acts for a user.
    sender_id: Option<Uuid>,
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// The message that it replies to.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1)]
    reply_to: Option<i64>,
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

fn raw(body: Body) -> Option<Box<RawValue>> {
    RawValue::from_string(body.as_str().to_owned()).ok()
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
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1)]
    reply_to: Option<i64>,
    /// 1 to 128 characters: a repeat with the same one is stored once.
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000]+$")]
    idempotency_key: Option<String>,
}

/// Messages to be sent, of whichever conversations.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
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
    WithRejection(axum::Json(message), _): Json<NewMessage>,
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
    WithRejection(axum::Json(batch), _): Json<Batch>,
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
    let mut role_cache = RoleCache::default();
    for submitted in submitted {
        accepted.push(api.ingress.accept(submitted, None, &mut role_cache).await);
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

    /// Lets a user's command through the inbound line, and waits for what becomes of it.
    pub(super) async fn carry_out(&self, sender: Uuid, command: Command) -> Result<Reply, Problem> {
        let accepted = self.ingress.accept(Submitted { sender, command }, None, &mut RoleCache::default()).await;
        Ok(accepted.await?)
    }

    fn body(&self, text: &RawValue) -> Result<Body, Problem> {
        Ok(checks::body(text.get(), &self.body_limits)?)
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().map_err(|_| Problem::invalid("Idempotency-Key must be ASCII text"))?;
    Ok(Some(checks::idempotency_key(key)?))
}

/// JSON does not distinguish 7 from 7.0, and neither do schemas.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = |number: f64| number.fract() == 0.0 && number.abs() <= MOST_EXACT;
    let id = number.as_i64().or_else(|| number.as_f64().filter(|number| whole(*number)).map(|number| number as i64));
    id.map(Some).ok_or_else(|| D::Error::custom("it must be a whole number, the id of a message"))
}

fn checked_id(id: Option<i64>) -> Result<Option<i64>, Problem> {
    match id {
        Some(id) if id < 1 => Err(Problem::invalid("reply_to must be the id of a message")),
        id => Ok(id),
    }
}

/// Which messages to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Those above this place, oldest first.
    after_seq: Option<Seq>,
    /// Those below this place, newest first unless `after_seq` is given too; without either, the newest ones.
    before_seq: Option<Seq>,
    /// This message and the replies to it alone.
    thread: Option<i64>,
    /// The user whose own reactions are marked.
    viewer_id: Option<Uuid>,
    /// Rows: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

/// A page of messages, as they stand.
#[derive(Serialize, ToSchema)]
pub(super) struct MessagePage {
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Box<RawValue>>,
    /// Every change up to this one is in them, and perhaps later ones.
    as_of_seq: Seq,
    /// Whether there are more in that direction.
    has_more: bool,
}

/// Shows messages.
#[utoipa::path(get, operation_id = "list_messages", path = "/conversations/{conversation_id}/messages", tag = "messages",
    params(("conversation_id" = Uuid, Path,), PageQuery),
    responses((status = 200, body = MessagePage)))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(conversation), _): Path<Uuid>,
    WithRejection(axum::extract::Query(query), _): Query<PageQuery>,
) -> Result<axum::Json<MessagePage>, Problem> {
    caller.may(Scope::MessagesRead)?;
    let PageQuery { after_seq, before_seq, thread, viewer_id, limit } = query;
    let window = match (after_seq, before_seq) {
        (Some(seq), _) => Window::After(seq),
        (None, before) => Window::Before(before.unwrap_or(Seq::MAX)),
    };
    let rows = u32::try_from(limited(limit)?).unwrap_or(1);
    // Before the page, which may then have more than is said, but not less.
    let found =
        api.store.conversation(conversation).await?.ok_or_else(|| Problem::unknown_conversation(conversation))?;
    let limits = PageLimits { rows, bytes: PAGE_BYTES };
    let page = api.store.messages(conversation, window, limits, viewer_id.unwrap_or_default(), thread).await?;
    let within =
        page.items.iter().take_while(|message| after_seq.is_none() || message.seq < before_seq.unwrap_or(Seq::MAX));
    let within = within.count();
    let has_more = page.more && within == page.items.len();
    let messages =
        page.items.into_iter().take(within).filter_map(|message| RawValue::from_string(message.json).ok()).collect();
    Ok(axum::Json(MessagePage { messages, as_of_seq: found.last_seq, has_more }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Viewer {
    /// The user whose own reactions are marked.
    viewer_id: Option<Uuid>,
}

/// Shows a message. Its version is the `ETag`.
#[utoipa::path(get, operation_id = "get_message", path = "/conversations/{conversation_id}/messages/{message_id}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), Viewer),
    responses((status = 200, body = Object, headers(("ETag" = String)))))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((conversation, message)), _): Path<(Uuid, i64)>,
    WithRejection(query, _): Query<Viewer>,
) -> Result<Response, Problem> {
    caller.may(Scope::MessagesRead)?;
    let viewer = query.viewer_id.unwrap_or_default();
    let found = api.store.message(conversation, message, viewer).await?;
    let (version, json) = found.ok_or_else(unknown_message)?;
    let json = RawValue::from_string(json).map_err(|_| Failure::internal())?;
    Ok(([(ETAG, etag(version))], axum::Json(json)).into_response())
}

fn unknown_message() -> Problem {
    Failure::new(arcyou_protocol::ErrorCode::UnknownMessage, "this conversation has no such message").into()
}

fn etag(version: i32) -> String {
    format!("\"{version}\"")
}

/// A version that no message has: what replaces it replaces nothing.
const NO_VERSION: i32 = 0;

/// The version that is to be replaced: `"3"`; none for `*` or without the header.
fn if_match(headers: &HeaderMap) -> Option<i32> {
    let text = headers.get(IF_MATCH)?.to_str().unwrap_or_default().trim();
    if text == "*" {
        return None;
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    Some(version.unwrap_or(NO_VERSION))
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
    WithRejection(axum::Json(new), _): Json<NewBody>,
) -> Result<Response, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let body = api.body(&new.body)?;
    let (if_version, idempotency_key) = (if_match(&headers), idempotency_key(&headers)?);
    let user = api.author_or(&caller, new.user_id, conversation, message_id).await?;
    let command = Command { conversation, idempotency_key, action: Action::Edit { message_id, body, if_version } };
    Changed::of(api.carry_out(user, command).await?).map(Changed::answer)
}

/// Who changes a message.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ByUser {
    /// Its author, by default; or somebody whose role deletes the messages of others.
    user_id: Option<Uuid>,
}

/// Deletes a message for good. It keeps its place, without a body.
#[utoipa::path(delete, operation_id = "delete_message", path = "/conversations/{conversation_id}/messages/{message_id}", tag = "messages",
    params(("conversation_id" = Uuid, Path,), ("message_id" = i64, Path,), ByUser),
    responses((status = 200, body = Changed, headers(("ETag" = String)))))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((conversation, message_id)), _): Path<(Uuid, i64)>,
    WithRejection(query, _): Query<ByUser>,
) -> Result<Response, Problem> {
    caller.may(Scope::MessagesWrite)?;
    let user = api.author_or(&caller, query.user_id, conversation, message_id).await?;
    let command = Command { conversation, idempotency_key: None, action: Action::Delete { message_id } };
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
