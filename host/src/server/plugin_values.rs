//! Whether plugins can keep their values, looked at as long as one of them may.

use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::health::Health;
use arcyou_plugin_host::{KvError, PluginHost, RedisKv};

/// Between looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The name of the part.
const PART: &str = "plugin_values";

/// Tries all that plugins may do with values, since a Redis may answer and not do it: a user without the rights, a
/// replica, memory that is full. Never ends.
pub(super) async fn watch(values: Arc<RedisKv>, plugins: Arc<PluginHost>, health: Health) {
    loop {
        if plugins.keeps_values() {
            let part = health.part(PART);
            match values.probe().await {
                Ok(()) => part.up(),
                Err(KvError::Unavailable(reason)) if reason.contains("NOPERM") => part.needs_mending(reason),
                Err(KvError::Unavailable(reason)) => part.down(reason),
                Err(KvError::NotANumber) => part.down("a value that was set a moment ago is another"),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
