//! How long a client may take to take an answer: what waits for it costs memory, and a request that is never over costs
//! a place.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::session::read_budget::ReadBudget;

/// A client that has let answers wait takes so many bytes of them, or all, …
const LEAST_BYTES: usize = 64 * 1024;
/// … in this time.
const TAKES_WITHIN: Duration = Duration::from_secs(20);

/// A stream over which HTTP is spoken. It ends in an error when its client does not take what is written. A WebSocket
/// has bounds of its own: there it does nothing.
#[derive(Debug)]
pub(super) struct PatientStream<S> {
    stream: S,
    /// Limited as soon as it is a WebSocket's.
    budget: ReadBudget,
    waiting: Option<Waiting>,
}

/// Something is written that the client has not taken yet.
#[derive(Debug)]
struct Waiting {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> PatientStream<S> {
    pub(super) fn new(stream: S, budget: ReadBudget) -> Self {
        Self { stream, budget, waiting: None }
    }

    /// What became of an attempt to write.
    fn wrote(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken += bytes;
                    if waiting.taken >= LEAST_BYTES {
                        self.waiting = None;
                    }
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending if self.budget.is_limited() => written,
            Poll::Pending => {
                let begin = || Waiting { until: Box::pin(sleep(TAKES_WITHIN)), taken: 0 };
                ready!(self.waiting.get_or_insert_with(begin).until.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    /// Asked for when everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
