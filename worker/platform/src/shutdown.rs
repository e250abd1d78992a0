//! The signal to stop, for both programs.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. A second signal ends the process at once with exit code 1, for an
/// operator who does not want to wait. Call it once, inside a Tokio runtime. Fails if the handlers cannot be installed.
pub fn on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("shutting down; a second signal ends the process at once");
        cancelled.cancel();
        next().await;
        std::process::exit(1);
    });
    Ok(token)
}
