//! Users, as the gateway knows them: by what they participate in.

use axum::extract::State;
use axum_extra::extract::WithRejection;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::page::Cursor;
use super::problem::Problem;
use super::state::{Api, Path, Query};
use crate::store::Membership;

/// A page of what a user participates in.
#[derive(Serialize, ToSchema)]
pub(super) struct Memberships {
    conversations: Vec<Membership>,
    /// Give it as `after` for the next page; none: this is the last one.
    next: Option<Uuid>,
}

/// Lists what a user participates in, in the order of conversation ids.
#[utoipa::path(get, operation_id = "list_conversations_of_user", path = "/users/{user_id}/conversations", tag = "users", params(("user_id" = Uuid, Path,), Cursor),
    responses((status = 200, body = Memberships)))]
pub(super) async fn conversations(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(user), _): Path<Uuid>,
    WithRejection(query, _): Query<Cursor>,
) -> Result<axum::Json<Memberships>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    let page = api.store.memberships(user, query.after(), query.limit()?).await?;
    let next = page.more.then(|| page.items.last().map(|last| last.conversation_id)).flatten();
    Ok(axum::Json(Memberships { conversations: page.items, next }))
}

/// When a user was disconnected.
#[derive(Serialize, ToSchema)]
pub(super) struct Disconnected {
    user_id: Uuid,
    /// Tokens that were issued before are refused, in UTC, as RFC 3339 text.
    not_before: String,
}

/// Ends a user's sockets on every gateway, within about a second, and every token that was issued before now.
#[utoipa::path(post, operation_id = "disconnect_user", path = "/users/{user_id}/disconnect", tag = "users",
    params(("user_id" = Uuid, Path,)), responses((status = 200, body = Disconnected)))]
pub(super) async fn disconnect(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(user), _): Path<Uuid>,
) -> Result<axum::Json<Disconnected>, Problem> {
    caller.may(Scope::UsersWrite)?;
    let not_before = api.store.cut_off(user).await?;
    Ok(axum::Json(Disconnected { user_id: user, not_before }))
}
