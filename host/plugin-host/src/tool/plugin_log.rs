//! Collects the log lines of plugins.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The lines so far, in order, each with its level.
#[derive(Clone, Default)]
pub(super) struct PluginLog(Arc<Mutex<Vec<String>>>);

impl PluginLog {
    /// Collects the log lines of plugins on all threads from now on. All other log lines are dropped, since the
    /// commands report everything themselves.
    pub(super) fn capture() -> anyhow::Result<Self> {
        let lines = Self::default();
        tracing_subscriber::registry().with(lines.clone()).try_init().context("the log is taken")?;
        Ok(lines)
    }

    /// Removes and returns the lines so far.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for PluginLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "plugin" {
            let mut line = Line(format!("{:5}", event.metadata().level()));
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            "plugin" => Ok(()),
            other => write!(self.0, " {other}={value:?}"),
        };
    }
}
