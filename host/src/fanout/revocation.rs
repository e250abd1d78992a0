//! Rights that may have changed, checked before that takes effect.
//!
//! What is heard may be old, since the outbox delivers at least once, and whoever may publish can repeat what they
//! heard. So the store is asked first. If it cannot answer in time the right is taken for lost: the worst of that is a
//! client that has to join again, the worst of the other is somebody who reads what they may no longer read.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::history::HistoryError;
use super::hub::{Doubt, Hub};
use super::members::Listed;
use super::room::Room;
use crate::store::{MemberRole, RoleChange};

/// A removal takes effect within a second; this leaves time for the rest of the way.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const AT_ONCE: usize = 1000;

/// Members of one user in one room.
pub(super) type UsersMembers = HashMap<(Uuid, Uuid), (Arc<Room>, Vec<Listed>)>;

/// Checks doubtful rights as they are named.
pub(super) async fn run(hub: Arc<Hub>) {
    loop {
        hub.doubts.added().await;
        let doubts: Vec<Doubt> = hub.doubts.take().into_iter().collect();
        for doubts in doubts.chunks(AT_ONCE) {
            check_members(&hub, doubts).await;
            check_deletions(&hub, doubts).await;
        }
    }
}

async fn check_members(hub: &Hub, doubts: &[Doubt]) {
    // Who is there before the question: somebody who joins after it has been checked after it.
    let members: UsersMembers = doubts
        .iter()
        .filter_map(|doubt| {
            let Doubt::Member { conversation, user } = *doubt else { return None };
            let room = hub.registry.get(conversation)?;
            let members = room.members_of(user);
            (!members.is_empty()).then_some(((conversation, user), (room, members)))
        })
        .collect();
    let asked = member_roles(&members);
    if asked.is_empty() {
        return;
    }
    let lost =
        |(conversation, user, _): &MemberRole| RoleChange { conversation: *conversation, user: *user, role: None };
    let changes = in_time(hub, hub.history.changed_roles(&asked)).await;
    correct(hub, &members, changes.unwrap_or_else(|| asked.iter().map(lost).collect()));
}

/// What to compare with the store.
pub(super) fn member_roles(members: &UsersMembers) -> Vec<MemberRole> {
    let mut roles = Vec::new();
    for ((conversation, user), (_, listed)) in members {
        let known: BTreeSet<&Arc<str>> = listed.iter().map(|member| &member.role).collect();
        roles.extend(known.into_iter().map(|role| (*conversation, *user, role.clone())));
    }
    roles
}

/// Gives members their new role, or takes the conversation from them.
pub(super) fn correct(hub: &Hub, members: &UsersMembers, changes: Vec<RoleChange>) {
    for RoleChange { conversation, user, role } in changes {
        let Some((room, listed)) = members.get(&(conversation, user)) else { continue };
        if !room.correct(listed, role.map(Arc::from).as_ref()) {
            hub.doubts.add(Doubt::Member { conversation, user });
        }
    }
}

/// A deletion that holds takes the conversation from all. If the conversation exists it was made again: whoever does
/// not participate loses it.
async fn check_deletions(hub: &Hub, doubts: &[Doubt]) {
    let deleted: Vec<Uuid> = doubts
        .iter()
        .filter_map(|doubt| match *doubt {
            Doubt::Deleted { conversation } => Some(conversation),
            Doubt::Member { .. } => None,
        })
        .collect();
    if deleted.is_empty() {
        return;
    }
    let absent = in_time(hub, hub.history.absent(&deleted)).await.unwrap_or_else(|| deleted.clone());
    for conversation in deleted {
        let Some(room) = hub.registry.get(conversation) else { continue };
        if absent.contains(&conversation) {
            hub.registry.remove(&room);
        } else {
            for user in room.users() {
                hub.doubts.add(Doubt::Member { conversation, user });
            }
        }
    }
}

/// The store's answer; none if it cannot give one, or not in time.
async fn in_time<T>(hub: &Hub, answer: impl Future<Output = Result<T, HistoryError>>) -> Option<T> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(HistoryError::Late));
    answer.inspect_err(|error| hub.note_failure("a right could not be checked and is taken for lost", error)).ok()
}
