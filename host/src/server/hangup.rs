//! SIGHUP: the keys that tokens are verified with are read again.

use arcyou_platform::health::Part;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::{Authenticator, KeyError, PublicKeys, ReadAgain};

/// Reads the keys again at each SIGHUP. `part` shows when the keys of before are still in force because the new ones
/// cannot be used. The signal is awaited from this call on. Needs a Tokio runtime.
pub(super) fn read_keys_on_hangup(
    authenticator: &Authenticator,
    part: Part,
) -> impl Future<Output = ()> + Send + 'static {
    let (hangups, keys) = (signal(SignalKind::hangup()), authenticator.keys().cloned());
    async move {
        let Some(keys) = keys else { return };
        tracing::info!(keys = keys.fingerprints().join(" "), "tokens are verified with the keys of JWT_PUBLIC_KEY");
        match hangups {
            Ok(hangups) => keep_reading(hangups, keys, part).await,
            Err(error) => tracing::error!(%error, "SIGHUP cannot be awaited: keys are read at the start alone"),
        }
    }
}

async fn keep_reading(mut hangups: Signal, keys: PublicKeys, part: Part) {
    while hangups.recv().await.is_some() {
        let reading = keys.clone();
        // The file may be on a disk that does not answer.
        if let Ok(read) = tokio::task::spawn_blocking(move || reading.read_again()).await {
            report(read, &keys, &part);
        }
    }
}

fn report(read: Result<ReadAgain, KeyError>, keys: &PublicKeys, part: &Part) {
    let fingerprints = keys.fingerprints();
    let (count, keys) = (fingerprints.len(), fingerprints.join(" "));
    match read {
        Ok(ReadAgain::Done) => {
            part.up();
            tracing::info!(count, keys, "SIGHUP: JWT_PUBLIC_KEY was read again");
        }
        Ok(ReadAgain::NoFile) => {
            tracing::info!("SIGHUP: JWT_PUBLIC_KEY is no file; there is nothing to read again");
        }
        Err(error) => {
            part.up_but(format!("SIGHUP: the keys of before are still in force, since JWT_PUBLIC_KEY {error}"));
            tracing::error!(count, keys, "SIGHUP: the keys of before are still in force, since JWT_PUBLIC_KEY {error}");
        }
    }
}
