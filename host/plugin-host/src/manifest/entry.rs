//! One plugin as it is configured.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::condition::{Condition, Percent};
use super::failure_policy::{BreakerConfig, RollbackConfig};
use crate::capabilities::Grants;
use crate::runtime::limits::{Isolation, Limits};

/// What becomes of a message whose plugin failed or is not called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    /// It is refused, with the plugin's name.
    #[default]
    Reject,
    /// It goes on as if the plugin had accepted it.
    Accept,
}

/// Whether a plugin's verdict counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is counted and logged, and the message goes on as it was.
    Observe,
}

impl Mode {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Where a plugin stands among the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) order: i32,
    /// Plugins that come later, whatever the numbers say.
    pub(crate) before: Vec<String>,
    /// Plugins that come earlier, whatever the numbers say.
    pub(crate) after: Vec<String>,
}

/// Which conversations a version of a plugin is for, while another version is tried on some.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Share {
    /// There is no other version.
    #[default]
    All,
    /// The new version, on so many of the conversations of the plugin with this name.
    Canary(String, Percent),
    /// The old version, on the others.
    Rest(Percent),
}

/// One plugin as it is configured. Two equal entries over the same file are the same plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) enabled: bool,
    /// Whether the cases that stand beside the file must hold before it is loaded.
    pub(crate) cases: bool,
    pub(crate) position: Position,
    pub(crate) when: Condition,
    pub(crate) share: Share,
    pub(crate) mode: Mode,
    pub(crate) isolation: Isolation,
    pub(crate) on_error: OnError,
    pub(crate) limits: Limits,
    pub(crate) breaker: BreakerConfig,
    pub(crate) grants: Grants,
    pub(crate) rollback: RollbackConfig,
    pub(crate) config: Json,
}

impl Entry {
    /// A file that `plugins.toml` does not mention.
    pub(crate) fn unlisted(file: &str) -> Self {
        Self {
            name: file.strip_suffix(".wasm").unwrap_or(file).to_owned(),
            file: file.to_owned(),
            enabled: true,
            cases: true,
            // After all that are listed.
            position: Position { order: i32::MAX, ..Position::default() },
            when: Condition::default(),
            share: Share::default(),
            mode: Mode::default(),
            isolation: Isolation::default(),
            on_error: OnError::default(),
            limits: Limits::default(),
            breaker: BreakerConfig::default(),
            grants: Grants::default(),
            rollback: RollbackConfig::default(),
            config: Json::Object(serde_json::Map::new()),
        }
    }
}
