//! `clock`: the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::plugins::contract::host::clock::Host;
use crate::plugins::instance::State;

impl Host for State {
    fn now_ms(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
