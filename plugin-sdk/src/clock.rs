//! The time of day. Needs `grants = ["clock"]` in `plugins.toml`.

use std::time::Duration;

/// The time since 1970 began, by the gateway's clock, to the millisecond. Not monotonic. In native tests it is what
/// [`testing::set_clock`](crate::testing::set_clock) says, and otherwise the machine's.
///
/// ```
/// use std::time::Duration;
/// use arcyou_plugin_sdk::{clock, testing};
///
/// testing::set_clock(Duration::from_secs(1_000));
/// assert_eq!(clock::now().as_secs(), 1_000);
/// ```
pub fn now() -> Duration {
    #[cfg(target_arch = "wasm32")]
    return Duration::from_millis(crate::bindings::clock::now_ms());
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::doubles::now()
}
