//! The configuration of one plugin.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::condition::{Condition, Percent};
use super::failure_policy::{BreakerConfig, RollbackConfig};
use crate::capabilities::Grants;
use crate::runtime::limits::{Isolation, Limits};

/// What happens to a message if the plugin fails or is not called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    /// The message is rejected, and the sender is told the plugin's name.
    #[default]
    Reject,
    /// The message continues as if the plugin had accepted it.
    Accept,
}

/// Whether a plugin's verdicts have an effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Verdicts have an effect.
    #[default]
    Enforce,
    /// Verdicts are only counted and logged. The message continues unchanged.
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

/// A plugin's position in the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) order: i32,
    /// Plugins that come later, regardless of `order`.
    pub(crate) before: Vec<String>,
    /// Plugins that come earlier, regardless of `order`.
    pub(crate) after: Vec<String>,
}

/// The conversations that a version of a plugin is responsible for, while another version is a canary.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Share {
    /// All conversations: there is no canary.
    #[default]
    All,
    /// The canary: it has this share of the conversations of the plugin with this name.
    Canary(String, Percent),
    /// The plugin itself: it has the conversations outside the canary's share.
    Rest(Percent),
}

/// The configuration of one plugin. Two equal entries for the same file are the same plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) enabled: bool,
    /// Whether the cases beside the file must pass before it is loaded.
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
    /// Whether `plugins.toml` mentions it.
    pub(crate) fn is_listed(&self) -> bool {
        *self != Self::unlisted(&self.file)
    }

    /// The defaults for a file that `plugins.toml` does not mention.
    pub(crate) fn unlisted(file: &str) -> Self {
        Self {
            name: file.strip_suffix(".wasm").unwrap_or(file).to_owned(),
            file: file.to_owned(),
            enabled: true,
            cases: true,
            // After all plugins that are listed.
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
