//! Logs to standard error, metrics to a Prometheus recorder.

use std::io::IsTerminal;
use std::str::FromStr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::env::{Process, Source as _};
use crate::log_origin::WithoutOrigin;

/// The filter when `RUST_LOG` is not set. The libraries named here log details of their own work at `info`.
const DEFAULT_FILTER: &str = "info,refinery_core=warn,tokio_postgres=warn";
/// Where log lines of our own come from: the crates, and the plugins, whose authors decide what they log.
const OUR_TARGETS: [&str; 2] = ["arcyou", "plugin"];
/// What libraries may log at most, whatever `RUST_LOG` says. Below it some print what passes through them: WebSocket
/// frames with tokens and bodies, statements with their parameters, requests with their headers. All are held to it and
/// not those alone that are known to do so: the next release of any may begin.
const LIBRARIES_AT_MOST: LevelFilter = LevelFilter::INFO;
/// Upper bounds of the buckets of durations, in seconds: from a local round trip to a time-out.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The same for calls of plugins, most of which take microseconds.
const CALLS: (&str, &[f64]) = (
    "arcyou_plugin_call_seconds",
    &[
        0.000_001,
        0.000_002_5,
        0.000_005,
        0.000_01,
        0.000_025,
        0.000_05,
        0.000_1,
        0.000_25,
        0.000_5,
        0.001,
        0.002_5,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        1.0,
    ],
);
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

/// Which lines are logged (`RUST_LOG`).
#[derive(Debug)]
pub struct LogFilter(EnvFilter);

/// The text is no [`LogFilter`].
#[derive(Debug, thiserror::Error)]
pub enum NoFilter {
    /// A word that would be taken for the name of a library, and silence all others.
    #[error(
        "{0} is no level (off, error, warn, info, debug or trace); for a part of this program or a library write its \
         name and a level, as in info,arcyou_gateway=debug"
    )]
    NoLevel(String),
    /// Not the syntax of filters.
    #[error("{0:?} is no filter; write a level, or names with levels, as in info,arcyou_gateway=debug")]
    Malformed(String),
}

impl FromStr for LogFilter {
    type Err = NoFilter;

    fn from_str(text: &str) -> Result<Self, NoFilter> {
        let is_word = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte));
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && is_word(word)) {
            let is_ours = OUR_TARGETS.iter().any(|target| word.starts_with(target));
            if word.parse::<LevelFilter>().is_err() && !is_ours {
                return Err(NoFilter::NoLevel(word.to_owned()));
            }
        }
        EnvFilter::try_new(text).map(Self).map_err(|_| NoFilter::Malformed(text.to_owned()))
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `RUST_LOG` is malformed.
    #[error("RUST_LOG is not valid: {0}")]
    Filter(#[from] NoFilter),
    /// A subscriber is installed already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the process, filtered by `RUST_LOG`. Call it once: a second call fails.
pub fn init(format: LogFormat) -> Result<(), InitError> {
    let LogFilter(filter) = Process.get("RUST_LOG").as_deref().unwrap_or(DEFAULT_FILTER).trim().parse()?;
    let lines = lines(format, filter, std::io::stderr, std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| InitError::AlreadySet)
}

/// Logs what was noted while the environment was read, before there was a log.
pub fn warn_of(notes: &[String]) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// Writes lines of this format: what `filter` lets through, and of libraries no more than [`LIBRARIES_AT_MOST`].
fn lines<W>(format: LogFormat, filter: EnvFilter, writer: W, ansi: bool) -> impl Layer<Registry>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let cap = Targets::new().with_default(LIBRARIES_AT_MOST);
    let cap = cap.with_targets(OUR_TARGETS.map(|target| (target, LevelFilter::TRACE)));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).map_writer(WithoutOrigin).boxed(),
    };
    lines.with_filter(filter.and(cap))
}

/// Installs a Prometheus recorder for the process. Call it once: a second call fails.
///
/// Histograms whose names end in `_seconds` have buckets from half a millisecond to 30 seconds, but for calls of
/// plugins, which have them from a microsecond to a second; those in `_size` or `_count`, from 1 to 5,000.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(CALLS.0.to_owned()), CALLS.1)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_count".to_owned()), COUNTS)?
        .install_recorder()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_filter_that_would_silence_everything_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,arcyou_gateway=debug",
            "arcyou_gateway",
            "plugin=debug, warn",
            "info,hyper::proto=trace",
            "arcyou_gateway[span]=debug",
            DEFAULT_FILTER,
        ] {
            assert!(good.parse::<LogFilter>().is_ok(), "{good}");
        }
        for bad in ["verbose", "info,verbose", "silly", "hyper", "true"] {
            let error = bad.parse::<LogFilter>().unwrap_err().to_string();
            assert!(error.contains("no level") && error.contains("trace"), "{bad}: {error}");
        }
        for bad in ["((", "info,((", "arcyou=loud", "[", "a=b=c"] {
            let error = bad.parse::<LogFilter>().unwrap_err().to_string();
            assert!(error.contains("no filter") && error.contains("arcyou_gateway=debug"), "{bad}: {error}");
        }
    }

    #[test]
    fn lines_of_libraries_carry_no_build_paths() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = Log::default();
            let writer = log.clone();
            let lines = lines(format, EnvFilter::new("info"), move || writer.clone(), false);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                let record = log::Record::builder()
                    .level(log::Level::Info)
                    .target("refinery_core::traits")
                    .args(format_args!("applying a migration"))
                    .module_path(Some("refinery_core::traits"))
                    .file(Some("/build/registry/src/refinery-core/src/traits/mod.rs"))
                    .line(Some(27))
                    .build();
                tracing_log::format_trace(&record).unwrap();
                tracing::info!(target: "arcyou_gateway::server", port = 8080, "we speak");
            });
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("/build") && !text.contains("log."), "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("applying a migration") && text.contains("refinery_core::traits"), "{text}");
            assert!(text.contains("8080") && text.contains("we speak"), "{text}");
        }
    }

    #[test]
    fn libraries_say_no_more_than_info_whatever_is_asked_for() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for filter in ["trace", "info,tungstenite=trace,tokio_postgres=debug,hyper::proto=trace"] {
                let log = Log::default();
                let writer = log.clone();
                let lines = lines(format, EnvFilter::new(filter), move || writer.clone(), false);
                tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                    tracing::trace!(target: "tungstenite::protocol", "received hunter2");
                    tracing::debug!(target: "tokio_postgres::query", "executing hunter2");
                    tracing::debug!(target: "hyper::proto::h1", "parsed hunter2");
                    tracing::trace!(target: "next_years_library", "hunter2");
                    tracing::info!(target: "redis", "a library speaks");
                    tracing::info!(target: "arcyou_gateway::server", "we speak");
                    tracing::trace!(target: "arcyou_gateway::session", "we whisper");
                    tracing::debug!(target: "plugin", "a plugin whispers");
                });
                let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
                assert!(!text.contains("hunter2"), "{filter}: {text}");
                assert!(text.contains("a library speaks") && text.contains("we speak"), "{filter}: {text}");
                let whispers = text.contains("we whisper") && text.contains("a plugin whispers");
                assert_eq!(whispers, filter == "trace", "{filter}: {text}");
            }
        }
    }
}
