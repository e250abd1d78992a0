//! What operators see of the plugins while the gateway runs, and reloading when their files change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcyou_outbox_worker::health::Part;
use tokio_util::sync::CancellationToken;

use super::{BreakerState, PluginHost};

/// Reloads the plugins when their files change, and keeps `part` up to date: down while a plugin is not called because it
/// failed too often, or while the files are not what is running because they were refused. Ends with `ends`.
pub async fn supervise(host: Arc<PluginHost>, part: Part, ends: CancellationToken) {
    let refused: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = refused.clone();
    let note = move |result: Result<(), super::LoadError>| {
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = result.err().map(|error| error.to_string());
    };
    let watch = host.watch(note);
    if let Err(error) = &watch {
        tracing::warn!(%error, "the plugins directory cannot be watched: changes need a restart");
    }
    loop {
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match refused.map(|error| format!("the changed files are refused: {error}")).or_else(|| resting(&host)) {
            None => part.up(),
            Some(reason) => part.down(reason),
        }
        if ends.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            return;
        }
    }
}

/// The plugins that are not called.
fn resting(host: &PluginHost) -> Option<String> {
    let open = host.status().into_iter().filter(|status| status.breaker == BreakerState::Open);
    let reasons: Vec<String> = open
        .map(|status| format!("{} is not called: {}", status.plugin, status.last_failure.unwrap_or_default()))
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
