//! How batches are made.

use std::time::Duration;

/// How the lanes are cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchConfig {
    /// Transactions under way at once: enough that a lone message seldom waits for another, few enough that under load
    /// each is large.
    pub lanes: usize,
    /// Messages in one transaction at most.
    pub max_rows: usize,
    /// Messages that wait for the lanes at most; more are refused.
    pub queue: usize,
    /// How long a message may wait for the database before its sender is told to try again.
    pub patience: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { lanes: 4, max_rows: 256, queue: 4 * 4096, patience: Duration::from_secs(5) }
    }
}
