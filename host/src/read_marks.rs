//! Read marks: moved at once, told at most once a second for each reader.
//!
//! A client may acknowledge each message that it shows, and each told mark is a row of the outbox and an event for
//! every member. So a mark that moves again within a second is told at its end, by its newest value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arcyou_protocol::Failure;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::{ReadMark, Store, Tell, logged};
use crate::wake::Wake;

/// A reader's mark is told this much later than the last time, at least.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Between looks for marks that are due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Marks told by one statement.
const AT_ONCE: usize = 1000;

/// A conversation and a user.
type Reader = (Uuid, Uuid);

/// Moves read marks, and remembers whose was told a moment ago.
#[derive(Debug)]
pub struct ReadMarks {
    store: Store,
    wake: Wake,
    told: Mutex<HashMap<Reader, Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    /// The mark has moved since.
    moved_since: bool,
}

impl ReadMarks {
    /// Nobody's yet; `wake` hears of what is told.
    pub fn new(store: Store, wake: Wake) -> Self {
        Self { store, wake, told: Mutex::default() }
    }

    /// Moves a user's mark forward, never back. The answer is stored; the conversation hears of it within a second or
    /// so.
    pub async fn advance(&self, conversation: Uuid, user: Uuid, message: i64) -> Result<ReadMark, Failure> {
        let reader = (conversation, user);
        let tell = if self.lock().contains_key(&reader) { Tell::Later } else { Tell::Now };
        let mark = self.store.mark_read(conversation, user, message, tell).await.map_err(logged)?;
        if let ReadMark::At { moved: true, .. } = mark {
            let moved_since = tell == Tell::Later;
            let told = Told { at: Instant::now(), moved_since };
            self.lock().entry(reader).and_modify(|told| told.moved_since |= moved_since).or_insert(told);
            if tell == Tell::Now {
                self.wake.hint();
            }
        }
        Ok(mark)
    }

    /// Tells what is due, until `shutdown`, and then the rest.
    pub async fn keep_telling(self: Arc<Self>, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = Instant::now();
            self.tell(|told| now >= told.at + TELL_EVERY).await;
        }
        self.tell(|_| true).await;
    }

    async fn tell(&self, is_due: impl Fn(&Told) -> bool) {
        let due: Vec<(Reader, Told)> = self.lock().extract_if(|_, told| is_due(told)).collect();
        let moved: Vec<Reader> =
            due.into_iter().filter(|(_, told)| told.moved_since).map(|(reader, _)| reader).collect();
        for readers in moved.chunks(AT_ONCE) {
            // While the database is away they wait; a mark that moves meanwhile is told by its newest value all the
            // same.
            let moved_since = self.store.tell_read_marks(readers).await.map_err(logged).is_err();
            let told = Told { at: Instant::now(), moved_since };
            let mut all = self.lock();
            for reader in readers {
                all.entry(*reader).and_modify(|told| told.moved_since |= moved_since).or_insert(told);
            }
        }
        if !moved.is_empty() {
            self.wake.hint();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Reader, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
