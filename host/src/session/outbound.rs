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
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflowed: bool,
    nudged: bool,
}

/// The queue is over its bound; nothing more is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflowed;

impl Outbound {
    /// An empty queue that holds at most `limit` bytes of frames.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), wake: Notify::new(), drained: Notify::new() }
    }

    /// Appends a frame. The first frame that does not fit drops the whole queue: the client resumes from the database.
    pub fn push(&self, frame: Utf8Bytes) -> Result<(), Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        if state.bytes + frame.len() > self.limit && !state.frames.is_empty() {
            drop(state);
            self.overflow();
            return Err(Overflowed);
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Appends a frame that can wait, unless it would take the half of the bound that is kept for what cannot. Says
    /// whether it was appended.
    pub fn push_patiently(&self, frame: Utf8Bytes) -> Result<bool, Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        if state.bytes + frame.len() > self.limit / 2 && !state.frames.is_empty() {
            return Ok(false);
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.wake.notify_one();
        Ok(true)
    }

    /// Gives the queue up, as if a frame had not fitted: its socket is to be closed.
    pub fn overflow(&self) {
        *self.lock() = State { overflowed: true, ..State::default() };
        self.wake.notify_one();
        self.drained.notify_waiters();
    }

    /// Wakes the queue's reader without a frame: something else that it looks at has changed.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.wake.notify_one();
    }

    /// Whether there was a [`Self::nudge`] since the last call.
    pub fn take_nudge(&self) -> bool {
        std::mem::take(&mut self.lock().nudged)
    }

    /// Whether frames that can wait should wait.
    pub fn is_congested(&self) -> bool {
        let state = self.lock();
        !state.overflowed && state.bytes > self.limit / 4
    }

    /// Completes once the queue is not congested (or has overflowed). Safe to cancel.
    pub async fn drained(&self) {
        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            // Interest first, then the look: a drain between the two is not lost.
            drained.as_mut().enable();
            if !self.is_congested() {
                return;
            }
            drained.await;
        }
    }

    /// Takes all that is queued, without waiting.
    pub fn drain(&self) -> Result<VecDeque<Utf8Bytes>, Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        state.bytes = 0;
        let frames = std::mem::take(&mut state.frames);
        drop(state);
        self.drained.notify_waiters();
        Ok(frames)
    }

    /// Completes when something was pushed, or the queue was nudged or overflowed, since the last call. For one reader;
    /// safe to cancel.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Completes once the queue has overflowed. Safe to cancel.
    pub async fn overflowed(&self) {
        loop {
            // Not `wake`: what that tells is for the reader of the queue.
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            if self.lock().overflowed {
                return;
            }
            drained.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
