//! What a connection may read until the next message is complete.
//!
//! The WebSocket library bounds a message, and the rate limit counts messages; neither sees a message that never ends,
//! in fragments of no bytes. Here bytes count, as they come from the kernel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A message may cost so many times its size on the wire: clients may send it in fragments, but not in nothing but
/// those.
const FRAGMENTATION: u64 = 8;

/// Bytes of one connection that may still be read. Unlimited until it is first renewed: a handshake has limits of its
/// own.
#[derive(Debug, Clone)]
pub struct ReadBudget(Arc<AtomicU64>);

impl Default for ReadBudget {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl ReadBudget {
    /// A message is complete, or the first one may come; the next has at most `largest` bytes.
    pub fn renew(&self, largest: usize) {
        self.0.store((largest as u64).saturating_mul(FRAGMENTATION), Ordering::Relaxed);
    }

    /// Whether it was renewed ever: the connection is a WebSocket.
    pub fn is_limited(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether the budget is used up, so that nothing more is read.
    pub fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn spend(&self, bytes: u64) {
        // One task reads and renews; there is nobody to race with.
        let left = self.0.load(Ordering::Relaxed);
        if left != u64::MAX {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

/// A stream that ends in an error when its budget is spent.
#[derive(Debug)]
pub struct BudgetedStream<S> {
    stream: S,
    budget: ReadBudget,
}

impl<S> BudgetedStream<S> {
    /// What is read from `stream` is taken from `budget`.
    pub fn new(stream: S, budget: ReadBudget) -> Self {
        Self { stream, budget }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BudgetedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.is_spent() {
            return Poll::Ready(Err(io::Error::other("a message does not end")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.budget.spend((buffer.filled().len() - before) as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BudgetedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
