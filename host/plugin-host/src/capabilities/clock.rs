//! `clock`: the current time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::host::clock::Host;

pub(crate) struct WallClock;

impl Host for WallClock {
    fn now_ms(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
