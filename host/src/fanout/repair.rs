//! Messages that did not arrive, read from the store: for a room that found a hole, and for a member that was paused.

use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::Seq;
use arcyou_protocol::event::live_frame;
use axum::extract::ws::Utf8Bytes;

use super::history::HistoryError;
use super::hub::Hub;
use super::members::MemberId;
use super::room::{FollowUps, Room};

/// What a page of messages should weigh: small beside a socket's queue.
const PAGE_BYTES: usize = 128 * 1024;
const MIN_PAGE: i64 = 16;
const MAX_PAGE: i64 = 500;
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

/// Pages of a conversation, of a size that follows the messages'.
struct Pages {
    limit: i64,
}

/// A part of what the store has, as frames.
struct Page {
    frames: Vec<(Seq, Utf8Bytes)>,
    /// There was nothing after it.
    complete: bool,
}

impl Pages {
    fn new() -> Self {
        Self { limit: 64 }
    }

    async fn read(&mut self, hub: &Hub, room: &Room, after: Seq) -> Result<Page, HistoryError> {
        // The semaphore is never closed.
        let permit = hub.readers.acquire().await.ok();
        let messages = hub.history.messages_after(room.conversation, after, self.limit).await?;
        drop(permit);
        hub.meter.repairs.increment(1);
        let complete = i64::try_from(messages.len()).is_ok_and(|count| count < self.limit);
        let frames: Vec<(Seq, Utf8Bytes)> =
            messages.iter().map(|message| (message.seq, live_frame(room.conversation, &message.json).into())).collect();
        let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
        if let Some(average) = bytes.checked_div(frames.len()) {
            self.limit = i64::try_from(PAGE_BYTES / average.max(1)).unwrap_or(MAX_PAGE).clamp(MIN_PAGE, MAX_PAGE);
        }
        Ok(Page { frames, complete })
    }
}

/// Fills a room's hole once it has stood for `wait`, and whatever opens meanwhile. There is one such task for a room.
async fn repair(hub: Arc<Hub>, room: Arc<Room>, wait: Duration) {
    let mut pages = Pages::new();
    tokio::time::sleep(wait).await;
    while let Some(listing) = room.next_listing() {
        let page = match pages.read(&hub, &room, listing.after).await {
            Ok(page) => page,
            Err(error) => {
                hub.note_failure("missing messages could not be read", &error);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
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
    let mut pages = Pages::new();
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
        match pages.read(&hub, &room, member.cursor).await {
            // Below what was delivered when it was read, a complete page leaves out only what was deleted.
            Ok(page) => room.serve(id, &page.frames, page.complete.then_some(delivered)),
            Err(error) => {
                hub.note_failure("messages for a slow member could not be read", &error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
