//! The keys that tokens are verified with, kept as fresh as their issuers' are: files are read again at SIGHUP,
//! addresses are asked now and then. `/ready` says where keys are older than they should be, or missing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcyou_platform::health::Part;
use futures_util::future::{join, join_all};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::remote::RemoteKeys;
use crate::auth::{Authenticator, KeyError, KeySource, PublicKeys, ReadAgain};

/// Keeps all keys fresh, and `part` true. The signal is awaited from this call on. Needs a Tokio runtime. Without keys,
/// in development, it ends at once.
pub(super) fn keep_keys(authenticator: &Authenticator, part: Part) -> impl Future<Output = ()> + Send + 'static {
    let (hangups, sources) = (signal(SignalKind::hangup()), authenticator.key_sources());
    let report = Arc::new(Report { part, sources, unread: Mutex::default() });
    async move {
        if report.sources.is_empty() {
            return;
        }
        for source in &report.sources {
            if let Some(keys) = &source.local {
                let (keys, of) = (keys.fingerprints().join(" "), name(source));
                tracing::info!(keys, "tokens are verified with the keys of {of}");
            }
        }
        report.tell();
        let fetching = report.sources.iter().filter_map(|source| source.remote.as_ref());
        let fetching = join_all(fetching.map(|keys| keys.keep_fresh(|| report.tell())));
        let reading = async {
            match hangups {
                Ok(hangups) => keep_reading(hangups, &report).await,
                Err(error) => {
                    tracing::error!(%error, "SIGHUP cannot be awaited: files of keys are read at the start alone")
                }
            }
        };
        join(fetching, reading).await;
    }
}

/// What operators call the keys that are given by hand.
fn name(source: &KeySource) -> String {
    match &source.issuer {
        Some(issuer) if source.is_listed => format!("public_key of {issuer} in JWT_ISSUERS"),
        _ => "JWT_PUBLIC_KEY".to_owned(),
    }
}

/// What is known of all keys.
struct Report {
    part: Part,
    sources: Vec<KeySource>,
    /// Why files could not be read again, by source.
    unread: Mutex<Vec<(usize, String)>>,
}

impl Report {
    fn unread(&self) -> MutexGuard<'_, Vec<(usize, String)>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up if every issuer's tokens can be verified with keys that are as they should be; down if no token can be.
    fn tell(&self) {
        let missing: Vec<&RemoteKeys> = self.sources.iter().filter_map(missing).collect();
        let remotes = self.sources.iter().filter_map(|source| source.remote.as_deref());
        let mut faults: Vec<String> = self.unread().iter().map(|(_, fault)| fault.clone()).collect();
        faults.extend(remotes.filter_map(fault));
        if missing.len() < self.sources.len() {
            if faults.is_empty() {
                self.part.up();
            } else {
                self.part.up_but(faults.join("; "));
            }
        } else if !faults.is_empty() {
            // Until then they are being fetched for the first time.
            self.part.down(faults.join("; "));
        }
    }
}

/// The keys without which no token of this issuer can be verified, while they are not there.
fn missing(source: &KeySource) -> Option<&RemoteKeys> {
    let remote = source.remote.as_deref()?;
    (source.local.is_none() && !remote.are_known()).then_some(remote)
}

fn fault(keys: &RemoteKeys) -> Option<String> {
    let (url, reason) = (keys.url(), keys.failure()?);
    Some(if keys.are_known() {
        format!("the keys of {url} are still those of before: {reason}")
    } else {
        format!("the keys of {url} could not be fetched yet: {reason}")
    })
}

async fn keep_reading(mut hangups: Signal, report: &Report) {
    while hangups.recv().await.is_some() {
        for (index, source) in report.sources.iter().enumerate() {
            if let Some(remote) = &source.remote {
                remote.fetch_now();
            }
            let Some(keys) = source.local.clone() else { continue };
            // The file may be on a disk that does not answer.
            if let Ok((read, keys)) = tokio::task::spawn_blocking(move || (keys.read_again(), keys)).await {
                report.was_read(index, &name(source), read, &keys);
            }
        }
        report.tell();
    }
}

impl Report {
    fn was_read(&self, index: usize, name: &str, read: Result<ReadAgain, KeyError>, keys: &PublicKeys) {
        let fingerprints = keys.fingerprints();
        let (count, keys) = (fingerprints.len(), fingerprints.join(" "));
        let mut unread = self.unread();
        unread.retain(|(of, _)| *of != index);
        match read {
            Ok(ReadAgain::Done) => tracing::info!(count, keys, "SIGHUP: {name} was read again"),
            Ok(ReadAgain::NoFile) => tracing::info!("SIGHUP: {name} is no file; there is nothing to read again"),
            Err(error) => {
                let fault = format!("SIGHUP: the keys of before are still in force, since {name} {error}");
                tracing::error!(count, keys, "{fault}");
                unread.push((index, fault));
            }
        }
    }
}
