//! The queue between whoever has something for a socket and the one task that writes it.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

/// A queue bounded in bytes, not in frames: what it may hold is what a socket may cost. Pushing never waits, so that one
/// slow reader never holds up a room; a queue that is over its bound is marked and its socket closed.
#[derive(Debug)]
pub struct Outbound {
    limit: usize,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflowed: bool,
}

/// The queue is over its bound; nothing more is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflowed;

impl Outbound {
    /// An empty queue that holds at most `limit` bytes of frames.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), wake: Notify::new() }
    }

    /// Appends a frame. The first frame that does not fit drops the whole queue: the client resumes from the database.
    pub fn push(&self, frame: Utf8Bytes) -> Result<(), Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        state.bytes += frame.len();
        if state.bytes > self.limit && !state.frames.is_empty() {
            *state = State { overflowed: true, ..State::default() };
            drop(state);
            self.wake.notify_one();
            return Err(Overflowed);
        }
        state.frames.push_back(frame);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes all that is queued, without waiting.
    pub fn drain(&self) -> Result<VecDeque<Utf8Bytes>, Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        state.bytes = 0;
        Ok(std::mem::take(&mut state.frames))
    }

    /// Completes when something was pushed, or the queue overflowed, since the last call. Safe to cancel.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Completes once the queue has overflowed. Safe to cancel.
    pub async fn overflowed(&self) {
        while !self.lock().overflowed {
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
