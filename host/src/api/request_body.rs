//! How large a request's body may be, and how long it may take to come: it waits in memory, and its connection holds a
//! place.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of a request's body: ten thousand participants, or a batch of messages.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// A body may take so long, whatever its size …
const GRACE: Duration = Duration::from_secs(10);
/// … and longer for each part of it that has come: bad lines carry so many bytes in a second.
const BYTES_PER_SECOND: u32 = 64 * 1024;
/// What is left of the body of a request that is answered already is read for so long, …
const LINGER: Duration = Duration::from_secs(5);
/// … and up to so many bytes: whoever sends more is told by the end of the connection.
const MOST_LEFT: usize = 64 << 20;

/// The rest of a body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not come in time")]
pub(super) struct TooSlow;

impl TooSlow {
    /// Whether it is at the bottom of an error.
    pub(super) fn caused(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::caused)
    }
}

/// Whether a request's body is too large by its own account.
pub(super) fn is_too_large(request: &Request) -> bool {
    request.body().size_hint().lower() > MAX_BYTES as u64
}

/// Takes leave of a request that is answered without its body.
pub(super) fn leave(request: Request) {
    drop(Unread(Some(request.into_body().into_data_stream())));
}

/// Holds a request's body to its time.
pub(super) async fn bound(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let since = Instant::now();
    let request = request.map(|body| {
        let body = Unread(Some(body.into_data_stream()));
        let parts = stream::unfold((body, 0_usize), move |(mut body, came)| async move {
            let stream = body.0.as_mut()?;
            match timeout_at(since + allowed(came), stream.next()).await {
                Ok(Some(part)) => {
                    let came = came + part.as_ref().map_or(0, Bytes::len);
                    Some((part.map_err(axum::BoxError::from), (body, came)))
                }
                Ok(None) => {
                    body.0.take();
                    None
                }
                Err(_) => {
                    body.0.take();
                    Some((Err(TooSlow.into()), (body, came)))
                }
            }
        });
        Body::from_stream(parts)
    });
    next.run(request).await
}

/// The rest of a body. Where it is left, it is read a while: a client that still writes would otherwise meet a closed
/// connection instead of its answer.
struct Unread(Option<BodyDataStream>);

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take() else { return };
        // The connection it belongs to is counted for as long as it is read.
        tokio::spawn(timeout(LINGER, async move {
            let mut came = 0;
            while let (Some(Ok(part)), true) = (rest.next().await, came < MOST_LEFT) {
                came += part.len();
            }
        }));
    }
}

/// How long a body may take of which so much has come.
fn allowed(came: usize) -> Duration {
    GRACE + Duration::from_secs_f64(came as f64 / f64::from(BYTES_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_body_has_time_on_a_bad_line_and_drops_have_none() {
        assert_eq!(allowed(MAX_BYTES), Duration::from_secs(138));
        assert_eq!(allowed(10), GRACE + Duration::from_secs_f64(10.0 / 65_536.0));
    }
}
