//! Who wants to hear nothing more from whom.

use axum::extract::State;
use axum::http::StatusCode;
use axum_extra::extract::WithRejection;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::page::Cursor;
use super::problem::{ApiCode, Problem};
use super::state::{Api, Path, Query};
use crate::store::BlockedUser;

/// A page of those whom a user has blocked.
#[derive(Serialize, ToSchema)]
pub(super) struct Blocks {
    blocks: Vec<BlockedUser>,
    /// Give it as `after` for the next page; none: this is the last one.
    next: Option<Uuid>,
}

/// Lists whom a user has blocked, in the order of user ids.
#[utoipa::path(get, operation_id = "list_blocks", path = "/users/{user_id}/blocks", tag = "users",
    params(("user_id" = Uuid, Path,), Cursor), responses((status = 200, body = Blocks)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(user), _): Path<Uuid>,
    WithRejection(query, _): Query<Cursor>,
) -> Result<axum::Json<Blocks>, Problem> {
    caller.may(Scope::ConversationsRead)?;
    let page = api.store.blocks(user, query.after(), query.limit()?).await?;
    let next = page.more.then(|| page.items.last().map(|last| last.user_id)).flatten();
    Ok(axum::Json(Blocks { blocks: page.items, next }))
}

/// Blocks a user for another one: in conversations of these two alone nothing more is said to the one who blocks.
#[utoipa::path(put, operation_id = "block_user", path = "/users/{user_id}/blocks/{blocked_id}", tag = "users",
    params(("user_id" = Uuid, Path,), ("blocked_id" = Uuid, Path,)), responses((status = 204)))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((user, blocked)), _): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::UsersWrite)?;
    caller.sender(Some(user))?;
    if user == blocked {
        return Err(Problem::new(ApiCode::OwnBlock, "users cannot block themselves; name another one"));
    }
    api.store.block(user, blocked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a block back.
#[utoipa::path(delete, operation_id = "unblock_user", path = "/users/{user_id}/blocks/{blocked_id}", tag = "users",
    params(("user_id" = Uuid, Path,), ("blocked_id" = Uuid, Path,)), responses((status = 204)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path((user, blocked)), _): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::UsersWrite)?;
    caller.sender(Some(user))?;
    api.store.unblock(user, blocked).await?;
    Ok(StatusCode::NO_CONTENT)
}
