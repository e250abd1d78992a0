//! Users, as the gateway knows them: by what they participate in and have written.

use std::time::Duration;

use axum::extract::State;
use axum_extra::extract::WithRejection;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::page::Cursor;
use super::problem::{ApiCode, Problem};
use super::state::{Api, Path, Query};
use crate::auth::NoUser;
use crate::store::{ErasedPart, Membership, MessagePlace, logged};

/// An erasure goes on for so long before it answers …
const ERASES_FOR: Duration = Duration::from_secs(2);
/// … and for so many parts, …
const MOST_PARTS: usize = 200;
/// … each a transaction that walks so many messages. While it deletes some, nobody else sends in their conversations.
const PART_MESSAGES: i32 = 50;
/// Who waits for a conversation waits for at most 100 ms at once, and then tries again: time in which they have their
/// turn, after a part that has deleted something.
const TURN_OF_OTHERS: Duration = Duration::from_millis(50);

/// Who a user is elsewhere.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Subject {
    /// The user's id, as tokens have it in the claim that names the user.
    #[param(min_length = 1, max_length = 1024)]
    subject: String,
    /// The issuer, as tokens have it in `iss`. Not needed where there is one alone.
    issuer: Option<String>,
}

/// A user.
#[derive(Serialize, ToSchema)]
pub(super) struct FoundUser {
    user_id: Uuid,
}

/// Tells which user somebody is whom an issuer of tokens calls so. Any key may ask. Nobody needs to have been here
/// before: the answer is computed.
#[utoipa::path(get, operation_id = "find_user", path = "/users", tag = "users", params(Subject),
    responses((status = 200, body = FoundUser)))]
pub(super) async fn find(
    State(api): State<Api>,
    _: Caller,
    WithRejection(axum::extract::Query(query), _): Query<Subject>,
) -> Result<axum::Json<FoundUser>, Problem> {
    let Subject { subject, issuer } = query;
    match api.authenticator.user_id(issuer.as_deref(), &subject) {
        Ok(user_id) => Ok(axum::Json(FoundUser { user_id })),
        Err(NoUser::UnknownIssuer) => {
            let text = match issuer {
                Some(issuer) => format!("this gateway believes no issuer {issuer:?}; name one as its tokens do in iss"),
                None => "this gateway believes several issuers; name one as its tokens do in iss".to_owned(),
            };
            Err(Problem::new(ApiCode::UnknownIssuer, text))
        }
        Err(NoUser::Unfit) => {
            let text = "a token of this issuer could not name a user so; docs/identity.md says what becomes of ids";
            Err(Problem::new(ApiCode::UnfitSubject, text))
        }
    }
}

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

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ErasePlace {
    /// The `next` of the answer before; without it the erasure begins.
    #[param(pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}:[0-9]{1,18}$")]
    after: Option<String>,
}

/// How far an erasure has come.
#[derive(Serialize, ToSchema)]
pub(super) struct Erased {
    user_id: Uuid,
    /// Messages that this request deleted.
    deleted: i64,
    /// Ask again with it as `after`; null: all is done.
    next: Option<String>,
}

/// Erases a user, a part with each request: repeat it with `next` as `after` until `next` is null. It begins with the
/// disconnection of the user, takes the user out of all conversations, then deletes what the user wrote and takes back
/// the reactions that the user gave. It may begin anew at any time.
#[utoipa::path(post, operation_id = "erase_user", path = "/users/{user_id}/erase", tag = "users",
    params(("user_id" = Uuid, Path,), ErasePlace), responses((status = 200, body = Erased)))]
pub(super) async fn erase(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(user), _): Path<Uuid>,
    WithRejection(axum::extract::Query(query), _): Query<ErasePlace>,
) -> Result<axum::Json<Erased>, Problem> {
    caller.may(Scope::UsersWrite)?;
    let after = query.after.map(|text| text.parse::<MessagePlace>());
    let mut after = after.transpose().map_err(|error| Problem::invalid(format!("after: {error}")))?;
    let until = Instant::now() + ERASES_FOR;
    let mut deleted = 0;
    for done in 0..MOST_PARTS {
        let part: ErasedPart = match api.store.erase_part(user, after, PART_MESSAGES).await {
            Ok(part) => part,
            // What is done is told. The next request meets what was in the way.
            Err(error) if done > 0 && error.did_nothing_for_now() => {
                logged(error);
                break;
            }
            Err(error) => return Err(error.into()),
        };
        api.wake.hint();
        deleted += part.deleted;
        after = part.next;
        if after.is_none() || Instant::now() >= until {
            break;
        }
        if part.deleted > 0 {
            sleep(TURN_OF_OTHERS).await;
        }
    }
    Ok(axum::Json(Erased { user_id: user, deleted, next: after.map(|place| place.to_string()) }))
}
