//! The queue between whoever has something for a socket and the one task that writes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use arcyou_protocol::Seq;
use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::own_changes::{ChangeFrame, OwnChange, OwnChanges, Released};

/// A queue bounded in bytes, not in frames: what it may hold, and one frame more, is what a socket may cost. A frame
/// counts until it is written, not only until it is taken. Pushing never waits, so that one slow reader never holds up a
/// room; a queue that is over its bound is marked and its socket closed.
#[derive(Debug)]
pub struct Outbound {
    limit: usize,
    state: Mutex<State>,
    /// For those who wait until it is less full, or given up.
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Utf8Bytes>,
    /// Of these frames, of those that wait for a reply, and of those that were taken and are not written.
    bytes: usize,
    /// None for all sockets but those that have just sent something.
    own_changes: Option<Box<OwnChanges>>,
    overflowed: bool,
    notified: bool,
    /// The reader's, while it waits.
    reader: Option<Waker>,
}

/// The queue is over its bound; nothing more is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflowed;

impl Outbound {
    /// An empty queue that holds at most `limit` bytes of frames.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), drained: Notify::new() }
    }

    /// Appends a frame, whatever its size, unless what waits is over the bound already: then the whole queue is dropped,
    /// and the client resumes from the database.
    pub fn push(&self, frame: Utf8Bytes) -> Result<(), Overflowed> {
        let mut state = self.within_bound()?;
        state.push(frame);
        wake(state);
        Ok(())
    }

    /// Appends a change for a socket of `user`, after the reply to its request if this socket has made it. Changes of
    /// one conversation come in the order of these calls.
    pub fn push_change(&self, message: &ChangeFrame<'_>, user: Uuid) -> Result<(), Overflowed> {
        let mut state = self.within_bound()?;
        state.push_change(message, user);
        wake(state);
        Ok(())
    }

    /// The same with a change that can wait, unless it would take the half of the bound that is kept for what cannot.
    /// Says whether it was appended.
    pub fn try_push_backfill(&self, message: &ChangeFrame<'_>, user: Uuid) -> Result<bool, Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        if state.bytes + message.frame().len() > self.limit / 2 && state.bytes > 0 {
            return Ok(false);
        }
        state.push_change(message, user);
        wake(state);
        Ok(true)
    }

    /// Notes that this socket begins to make a change: until [`Self::answer_change`] it may come, but waits.
    pub fn begin_change(&self, conversation: Uuid) {
        self.lock().own_changes.get_or_insert_default().begin(conversation);
    }

    /// Appends the reply to the oldest send to this conversation that has none, and what waited for it.
    pub fn answer_change(
        &self,
        conversation: Uuid,
        reply: Utf8Bytes,
        message: Option<OwnChange>,
    ) -> Result<(), Overflowed> {
        let mut state = self.within_bound()?;
        state.push(reply);
        state.release(conversation, message);
        wake(state);
        Ok(())
    }

    /// Drops what waits for a reply in a conversation whose events have stopped; answers the `seq` of its first
    /// change.
    pub fn forget_changes(&self, conversation: Uuid) -> Option<Seq> {
        let mut state = self.lock();
        let forgotten = state.own_changes.as_mut()?.forget(conversation);
        state.drop_idle();
        let (first, bytes) = forgotten?;
        state.bytes = state.bytes.saturating_sub(bytes);
        Some(first)
    }

    /// The queue, if a frame may be appended: else it overflows.
    fn within_bound(&self) -> Result<MutexGuard<'_, State>, Overflowed> {
        let state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        // What is being written alone may be one large frame.
        if state.bytes > self.limit && !state.is_empty() {
            drop(state);
            self.overflow();
            return Err(Overflowed);
        }
        Ok(state)
    }

    /// Gives the queue up, as if a frame had not fitted: its socket is to be closed.
    pub fn overflow(&self) {
        let mut state = self.lock();
        *state = State { overflowed: true, reader: state.reader.take(), ..State::default() };
        wake(state);
        self.drained.notify_waiters();
    }

    /// Wakes the queue's reader without a frame: something else that it looks at has changed.
    pub fn notify(&self) {
        let mut state = self.lock();
        state.notified = true;
        wake(state);
    }

    /// Whether there was a [`Self::notify`] since the last call.
    pub fn take_notification(&self) -> bool {
        std::mem::take(&mut self.lock().notified)
    }

    /// Whether frames that can wait should wait.
    pub fn is_congested(&self) -> bool {
        let state = self.lock();
        !state.overflowed && self.congests(state.bytes)
    }

    fn congests(&self, bytes: usize) -> bool {
        bytes > self.page_bytes()
    }

    /// What a page of frames that can wait may hold: a part of the bound, so that a page fits into a queue that is not
    /// congested.
    pub fn page_bytes(&self) -> usize {
        self.limit / 4
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

    /// Takes all that is queued, without waiting. Each frame counts until it is [`Self::written`].
    pub fn drain(&self) -> Result<VecDeque<Utf8Bytes>, Overflowed> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(Overflowed);
        }
        Ok(std::mem::take(&mut state.frames))
    }

    /// Notes that this many bytes of what was taken are written.
    pub fn written(&self, bytes: usize) {
        let mut state = self.lock();
        let was_congested = self.congests(state.bytes);
        state.bytes = state.bytes.saturating_sub(bytes);
        let is_congested = self.congests(state.bytes);
        drop(state);
        if was_congested && !is_congested {
            self.drained.notify_waiters();
        }
    }

    /// Completes when there is something to write or to look at: frames, a notification, or that the queue has
    /// overflowed. For one reader; safe to cancel.
    pub async fn changed(&self) {
        poll_fn(|context| self.poll_changed(context)).await;
    }

    fn poll_changed(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.frames.is_empty() || state.overflowed || state.notified {
            return Poll::Ready(());
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Completes once the queue has overflowed. Safe to cancel.
    pub async fn overflowed(&self) {
        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            if self.lock().overflowed {
                return;
            }
            drained.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, frame: Utf8Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Whether nothing is queued, and nothing waits for a reply.
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.own_changes.as_ref().is_some_and(|own_changes| own_changes.is_holding())
    }

    fn push_change(&mut self, message: &ChangeFrame<'_>, user: Uuid) {
        let Some(own_changes) = &mut self.own_changes else { return self.push(message.frame().clone()) };
        match own_changes.pass(message, user) {
            Some(frame) => self.push(frame),
            None => self.bytes += message.frame().len(),
        }
        self.drop_idle();
    }

    fn release(&mut self, conversation: Uuid, message: Option<OwnChange>) {
        let Some(own_changes) = &mut self.own_changes else { return };
        for Released { frame, waited } in own_changes.answer(conversation, message) {
            self.bytes = self.bytes.saturating_sub(waited);
            self.push(frame);
        }
        self.drop_idle();
    }

    fn drop_idle(&mut self) {
        self.own_changes.take_if(|own_changes| own_changes.is_empty());
    }
}

/// Wakes the reader, if it waits, after the lock is given back.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arcyou_protocol::event::live_frame;

    use super::*;

    fn frame(bytes: usize) -> Utf8Bytes {
        "x".repeat(bytes).into()
    }

    fn try_push_backfill(queue: &Outbound, bytes: usize) -> Result<bool, Overflowed> {
        queue.try_push_backfill(&ChangeFrame::new(Uuid::nil(), 1, &frame(bytes)), Uuid::nil())
    }

    #[test]
    fn what_waits_for_a_reply_counts_and_comes_after_it() {
        let (room, me) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let message = |bytes: usize| {
            let text = "x".repeat(bytes);
            live_frame(room, "message.created", &format!(r#"{{"message": {{"sender_id": "{me}", "body": "{text}"}}}}"#))
                .into()
        };
        let queue = Outbound::new(1000);
        queue.begin_change(room);
        queue.push_change(&ChangeFrame::new(room, 1, &message(300)), me).unwrap();
        assert!(queue.drain().unwrap().is_empty() && queue.is_congested());
        queue.answer_change(room, "reply".into(), None).unwrap();
        let frames = queue.drain().unwrap();
        assert_eq!((frames.len(), frames[0].as_str()), (2, "reply"));
        queue.written(frames.iter().map(|frame| frame.len()).sum());
        let is_idle = |state: &State| state.bytes == 0 && state.own_changes.is_none();
        assert!(is_idle(&queue.lock()));
        // What is forgotten counts no more; what waits overflows like anything else.
        queue.begin_change(room);
        queue.push_change(&ChangeFrame::new(room, 2, &message(300)), me).unwrap();
        assert_eq!((queue.forget_changes(room), queue.lock().bytes), (Some(2), 0));
        queue.push_change(&ChangeFrame::new(room, 2, &message(300)), me).unwrap();
        queue.push_change(&ChangeFrame::new(room, 3, &message(800)), me).unwrap();
        assert_eq!(queue.answer_change(room, "reply".into(), None), Err(Overflowed));
    }

    #[test]
    fn what_was_taken_counts_until_it_is_written() {
        let queue = Outbound::new(100);
        queue.push(frame(60)).unwrap();
        assert_eq!(queue.drain().unwrap().len(), 1);
        assert!(queue.is_congested());
        assert_eq!(try_push_backfill(&queue, 10), Ok(false));
        queue.push(frame(20)).unwrap();
        queue.written(30);
        queue.push(frame(50)).unwrap();
        queue.push(frame(1)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(Overflowed));
    }

    #[test]
    fn a_frame_that_is_larger_than_the_queue_passes() {
        let queue = Outbound::new(100);
        for _ in 0..2 {
            assert_eq!(try_push_backfill(&queue, 1000), Ok(true));
            assert_eq!(try_push_backfill(&queue, 1), Ok(false));
            queue.drain().unwrap();
            assert_eq!(try_push_backfill(&queue, 1), Ok(false));
            queue.written(1000);
        }
        queue.push(frame(1000)).unwrap();
        queue.drain().unwrap();
        queue.push(frame(1000)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(Overflowed));
    }
}
