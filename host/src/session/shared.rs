//! What all connections of a gateway share.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::{FrameLimits, Operation, SocketLimits, UserOperation};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::Authenticator;
use crate::bounds::users::{Rate, Users};
use crate::cutoffs::Cutoffs;
use crate::fanout::Fanout;
use crate::ingress::Ingress;
use crate::read_marks::ReadMarks;
use crate::store::Store;

/// Reading pages takes one of so many connections.
const PAGE_SHARE: usize = 4;
/// A join counts as one frame for so many conversations: the database is asked once for all of them.
const JOINS_PER_FRAME: usize = 20;
/// Conversations in one join. Their rooms keep what is delivered while the database is read.
const LARGEST_JOIN_LIST: usize = 500;
/// How long a socket waits for its turn to read a page.
const PAGE_TURN_WITHIN: Duration = Duration::from_secs(10);

/// What one connection may do and cost.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Bytes of a frame.
    pub max_frame_bytes: usize,
    /// What a frame's content is held to.
    pub frame: FrameLimits,
    /// Conversations that one socket may have joined.
    pub max_joined: usize,
    /// Bytes that may be queued for one socket.
    pub queue_bytes: usize,
    /// How long a socket may do without a valid token, at its start and after a token's end.
    pub auth_within: Duration,
    /// A client that is silent for this long is pinged, and given up after two and a half times as long.
    pub ping_after: Duration,
    /// Frames before the first `auth`, and in terms of which a flood is measured; none: unlimited.
    pub rate: Option<Rate>,
}

/// How many conversations one join may name: what a user may do at once is enough for all of them, so that waiting
/// helps whoever is refused.
pub fn max_join_list(rate: Option<Rate>) -> usize {
    let at_once = rate.map_or(usize::MAX, |rate| rate.burst.get() as usize);
    at_once.saturating_mul(JOINS_PER_FRAME).min(LARGEST_JOIN_LIST)
}

/// How many frames an operation counts as.
pub(super) fn cost(operation: &Operation) -> NonZeroU32 {
    let joins = match operation {
        Operation::User(UserOperation::JoinList(targets)) => targets.len(),
        _ => 1,
    };
    u32::try_from(joins.div_ceil(JOINS_PER_FRAME)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

impl SessionLimits {
    /// What clients are told.
    pub(super) fn announced(&self) -> SocketLimits {
        SocketLimits {
            frames_per_second: self.rate.map_or(0, |rate| rate.per_second.get()),
            frames_burst: self.rate.map_or(0, |rate| rate.burst.get()),
            max_frame_bytes: self.max_frame_bytes,
            max_body_bytes: self.frame.body.max_bytes,
            max_joined: self.max_joined,
            max_join_list: self.frame.max_join_list,
            joins_per_frame: JOINS_PER_FRAME,
        }
    }
}

/// What all connections share.
pub struct Shared {
    pub(crate) limits: SessionLimits,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) cutoffs: Cutoffs,
    pub(crate) users: Arc<Users>,
    pub(crate) store: Store,
    pub(crate) ingress: Ingress,
    pub(crate) fanout: Fanout,
    pub(crate) read_marks: Arc<ReadMarks>,
    /// Pages of stored messages that may be read at the same time.
    pub(crate) page_readers: Semaphore,
}

impl Shared {
    /// A turn to read a page of stored messages; none if there is none in time. However many sockets read at once, most
    /// connections to the database are free for messages to be stored.
    pub(crate) async fn page_turn(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(PAGE_TURN_WITHIN, self.page_readers.acquire()).await.ok()?.ok()
    }
}

/// How many pages may be read at the same time over a pool of so many connections.
pub(crate) fn page_readers(connections: usize) -> Semaphore {
    Semaphore::new((connections / PAGE_SHARE).max(1))
}
