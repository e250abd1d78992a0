//! How the fan-out works.

use std::time::Duration;

use arcyou_platform::contract::PubSubMode;

use super::resequence::HoldLimits;

/// How the fan-out works.
#[derive(Debug, Clone)]
pub struct FanoutConfig {
    /// Which channels carry which conversations.
    pub mode: PubSubMode,
    /// How long a hole in a conversation may close by itself before the store is asked: several workers reorder.
    pub gap_wait: Duration,
    /// How often every room is compared with the store although all seems well.
    pub sweep: Duration,
    /// How long a socket that has to be served from the store may take nothing.
    pub stall: Duration,
    /// What one conversation may hold back while it waits for a hole to close.
    pub hold: HoldLimits,
    /// Pages of changes that are read from the store at the same time.
    pub readers: usize,
}

impl FanoutConfig {
    /// The defaults.
    pub fn new(mode: PubSubMode) -> Self {
        Self {
            mode,
            gap_wait: Duration::from_millis(75),
            sweep: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            hold: HoldLimits { items: 1024, bytes: 1024 * 1024 },
            readers: 4,
        }
    }
}
