//! Which bus a deployment uses.

use std::sync::Arc;

use super::interface::Bus;
use super::redis::{RedisBus, RedisUrl, RedisUrlError, ShardedRedisBus};
use crate::contract::PubSubMode;
use crate::health::Health;

/// The bus of a deployment. It connects by itself, so this fails only if the URL cannot be used in this mode. Needs a
/// Tokio runtime.
pub fn open(url: &RedisUrl, mode: PubSubMode, health: &Health) -> Result<Arc<dyn Bus>, RedisUrlError> {
    Ok(match mode {
        PubSubMode::Global | PubSubMode::PerConversation => Arc::new(RedisBus::new(url, health)?),
        PubSubMode::Sharded => Arc::new(ShardedRedisBus::new(url, health)?),
    })
}
