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
    /// For how long workers leave rows to the gateway that has stored them; it leaves them to the workers in turn if it
    /// has not come to telling of them within half of that.
    pub left_for: Duration,
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
            // Far longer than telling takes, even where every processor is busy; and about as long as a worker that
            // hears of nothing takes to look by itself.
            left_for: Duration::from_millis(500),
        }
    }
}
