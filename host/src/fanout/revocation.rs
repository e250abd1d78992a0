//! Removals, checked before they take effect.
//!
//! A removal that is heard may be an old one: the outbox delivers at least once, and the user may be back. So the store
//! is asked first. If it cannot answer in time the member is evicted: the worst of that is a client that has to join
//! again, the worst of the other is somebody who reads what they may no longer read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::hub::Hub;
use super::members::MemberId;
use super::room::Room;

/// A removal takes effect within a second; this leaves time for the rest of the way.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const PAIRS: usize = 1000;

/// Checks doubtful members as they are named.
pub(super) async fn run(hub: Arc<Hub>) {
    loop {
        hub.doubts.added().await;
        let doubts: Vec<(Uuid, Uuid)> = hub.doubts.take().into_iter().collect();
        for pairs in doubts.chunks(PAIRS) {
            check(&hub, pairs).await;
        }
    }
}

async fn check(hub: &Hub, pairs: &[(Uuid, Uuid)]) {
    // Who is there before the question: somebody who joins after it has been checked after it.
    let members: HashMap<(Uuid, Uuid), (Arc<Room>, HashSet<MemberId>)> = pairs
        .iter()
        .filter_map(|(conversation, user)| {
            let room = hub.registry.get(*conversation)?;
            let members = room.members_of(*user);
            Some(((*conversation, *user), (room, members)))
        })
        .collect();
    let answer = tokio::time::timeout(ANSWER_WITHIN, hub.history.not_participants(pairs)).await;
    let gone = match answer {
        Ok(Ok(gone)) => gone,
        Ok(Err(error)) => {
            hub.note_failure("a removal could not be checked and is taken for true", &error);
            pairs.to_vec()
        }
        Err(_) => {
            hub.meter.store_failures.increment(1);
            tracing::warn!("a removal could not be checked in time and is taken for true");
            pairs.to_vec()
        }
    };
    for pair in gone {
        if let Some((room, ids)) = members.get(&pair) {
            room.evict(ids);
        }
    }
}
