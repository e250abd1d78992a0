//! Messages are read.

use arcyou_protocol::{Failure, Seq};
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::commands::{etag, unknown_message};
use super::key::{Caller, Scope};
use super::page::limited;
use super::problem::Problem;
use super::state::{Api, Path, Query};
use crate::store::{PageLimits, StoredMessage, Window};

/// A page of messages ends before it passes this many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// Which messages to show.
#[derive(Deserialize, IntoParams)]
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
    // Where one ends just below `before_seq`, nothing is between.
    let reaches = |last: &StoredMessage| after_seq.is_some() && before_seq.is_some_and(|before| last.seq + 1 >= before);
    let has_more = page.more && within == page.items.len() && !page.items.last().is_some_and(reaches);
    let messages =
        page.items.into_iter().take(within).filter_map(|message| RawValue::from_string(message.json).ok()).collect();
    Ok(axum::Json(MessagePage { messages, as_of_seq: found.last_seq, has_more }))
}

#[derive(Deserialize, IntoParams)]
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
