//! Logs to standard error, metrics to a Prometheus recorder.

use std::io::IsTerminal;
use std::str::FromStr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// The filter when `RUST_LOG` is not set. The libraries named here log details of their own work at `info`.
const DEFAULT_FILTER: &str = "info,refinery_core=warn,tokio_postgres=warn";
/// Upper bounds of the buckets of durations, in seconds: from a local round trip to a time-out.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of the buckets of counts.
const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];

/// The format of log lines (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The text is not the name of a [`LogFormat`].
#[derive(Debug, thiserror::Error)]
#[error("expected `text` or `json`")]
pub struct UnknownFormat;

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `RUST_LOG` is malformed.
    #[error("RUST_LOG is not valid: {0}")]
    Filter(String),
    /// A subscriber is installed already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the process, filtered by `RUST_LOG`. Call it once: a second call fails.
pub fn init(format: LogFormat) -> Result<(), InitError> {
    let directives = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::try_new(directives.as_deref().unwrap_or(DEFAULT_FILTER))
        .map_err(|error| InitError::Filter(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| InitError::AlreadySet)
}

/// Installs a Prometheus recorder for the process. Call it once: a second call fails.
///
/// Histograms whose names end in `_seconds` have buckets from half a millisecond to 30 seconds; those in `_size` or
/// `_count`, from 1 to 5,000.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_count".to_owned()), COUNTS)?
        .install_recorder()
}
