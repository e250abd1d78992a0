//! Changes that did not arrive, read from the store: for a room that found a hole, and for a member that was paused.

use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::Seq;
use arcyou_protocol::event::live_frame;
use axum::extract::ws::Utf8Bytes;

use super::history::HistoryError;
use super::hub::Hub;
use super::members::MemberId;
use super::room::{FollowUps, Room};
use crate::store::{ChangeEvent, PageLimits};

/// What a page of changes may hold: small beside a socket's queue.
const PAGE: PageLimits = PageLimits { rows: 500, bytes: 128 * 1024 };
/// How long a room waits for its members to write one page before it gives them the next.
const BREATHE: Duration = Duration::from_millis(10);
const BREATHS: usize = 25;
/// Between two tries when the store does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Starts what a change of a room made necessary; a repair after `wait`.
pub(super) fn follow_up(hub: &Arc<Hub>, room: &Arc<Room>, follow_ups: FollowUps, wait: Duration) {
    for member in follow_ups.paused {
        hub.meter.pauses.increment(1);
        hub.spawn(serve(hub.clone(), room.clone(), member));
    }
    if follow_ups.repair {
        hub.meter.gaps.increment(1);
        hub.spawn(repair(hub.clone(), room.clone(), wait));
    }
}

/// A part of what the store has, as frames.
struct Frames {
    frames: Vec<(Seq, Utf8Bytes)>,
    /// There was nothing after it.
    complete: bool,
    /// It begins after this change, since what was before is purged.
    purged: Option<Seq>,
}

async fn read(hub: &Hub, room: &Room, after: Seq, limits: PageLimits) -> Result<Frames, HistoryError> {
    // The semaphore is never closed.
    let permit = hub.readers.acquire().await.ok();
    let page = hub.history.changes_after(room.conversation, after, limits).await?;
    drop(permit);
    hub.meter.repairs.increment(1);
    let frame = |change: ChangeEvent| (change.seq, live_frame(room.conversation, &change.kind, &change.payload).into());
    Ok(Frames { frames: page.items.into_iter().map(frame).collect(), complete: !page.more, purged: page.purged })
}

/// Fills a room's hole once it has stood for `wait`, and whatever opens meanwhile. There is one such task for a room.
async fn repair(hub: Arc<Hub>, room: Arc<Room>, wait: Duration) {
    tokio::time::sleep(wait).await;
    while let Some(listing) = room.next_listing() {
        let page = match read(&hub, &room, listing.after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                hub.note_failure("missing messages could not be read", &error);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        skip_purged(&hub, &room, &page);
        let mut rest = page.frames.as_slice();
        loop {
            let (slice, later) = rest.split_at(room.slice().min(rest.len()));
            let follow_ups = room.fill(listing, slice, page.complete && later.is_empty());
            follow_up(&hub, &room, follow_ups, Duration::ZERO);
            rest = later;
            if rest.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if page.complete {
            // What still waits arrived while the store was asked: its predecessors are on their way.
            tokio::time::sleep(hub.config.gap_wait).await;
        } else {
            let_write(std::slice::from_ref(&room)).await;
        }
    }
}

/// Takes the room to where the store begins, if that is further on.
fn skip_purged(hub: &Arc<Hub>, room: &Arc<Room>, page: &Frames) {
    if let Some(purged) = page.purged {
        follow_up(hub, room, room.skip_purged(purged), Duration::ZERO);
    }
}

/// Gives the members time to write what they have, but not for longer than a slow one may cost the others.
pub(super) async fn let_write(rooms: &[Arc<Room>]) {
    for _ in 0..BREATHS {
        if !rooms.iter().any(|room| room.is_congested()) {
            return;
        }
        tokio::time::sleep(BREATHE).await;
    }
}

/// Serves a member whose queue was half full during a catch-up, as fast as its socket takes it, until it is level with
/// the room. One that takes nothing for too long is given up like one whose queue overflowed.
async fn serve(hub: Arc<Hub>, room: Arc<Room>, id: MemberId) {
    /// How often to look whether the member is still there.
    const LOOK: Duration = Duration::from_secs(1);
    let mut stalled = Duration::ZERO;
    let mut last = None;
    while let Some((member, delivered)) = room.paused(id) {
        if tokio::time::timeout(LOOK, member.outbound.drained()).await.is_err() {
            stalled += LOOK;
            if stalled >= hub.config.stall {
                member.outbound.overflow();
                hub.meter.overflows.increment(1);
                return room.leave(id);
            }
            continue;
        }
        stalled = Duration::ZERO;
        if last.replace(member.cursor) == Some(member.cursor) {
            // A frame that is large beside the queue waits until it is empty.
            tokio::time::sleep(BREATHE).await;
        }
        // No more than its queue takes: what does not fit would be read again.
        let limits = PageLimits { bytes: PAGE.bytes.min(member.outbound.page_bytes()), ..PAGE };
        match read(&hub, &room, member.cursor, limits).await {
            // Below what was delivered when it was read, a complete page leaves out only what was deleted.
            Ok(page) => {
                skip_purged(&hub, &room, &page);
                room.serve(id, &page.frames, page.complete.then_some(delivered));
            }
            Err(error) => {
                hub.note_failure("messages for a slow member could not be read", &error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
