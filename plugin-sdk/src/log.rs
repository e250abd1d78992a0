//! Lines for the gateway's log.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// Worth knowing while looking for a fault.
    Debug,
}

/// The gateway cuts lines as well; what is longer need not cross the border.
const LONGEST: usize = 4096;

/// Sends one line to the gateway's log, where it stands with the plugin's name. Natively it goes to standard error.
///
/// The gateway limits how much one call may log. The macros [`error!`](crate::error), [`warn!`](crate::warn),
/// [`info!`](crate::info) and [`debug!`](crate::debug) format their arguments.
pub fn log(level: Level, line: &str) {
    let line = &line[..line.floor_char_boundary(LONGEST)];
    send(level, line);
}

#[cfg(target_arch = "wasm32")]
fn send(level: Level, line: &str) {
    use crate::bindings::log as wire;
    let level = match level {
        Level::Error => wire::Level::Error,
        Level::Warn => wire::Level::Warn,
        Level::Info => wire::Level::Info,
        Level::Debug => wire::Level::Debug,
    };
    wire::log(level, line);
}

#[cfg(not(target_arch = "wasm32"))]
fn send(level: Level, line: &str) {
    eprintln!("{level:?}: {line}");
}

/// Logs something that is broken, formatted as by [`format!`].
///
/// ```
/// arcyou_plugin_sdk::error!("{} words", 3);
/// ```
#[macro_export]
macro_rules! error {
    ($($part:tt)+) => {
        $crate::log($crate::Level::Error, &::std::format!($($part)+))
    };
}

/// Logs something odd, formatted as by [`format!`].
///
/// ```
/// arcyou_plugin_sdk::warn!("{} words", 3);
/// ```
#[macro_export]
macro_rules! warn {
    ($($part:tt)+) => {
        $crate::log($crate::Level::Warn, &::std::format!($($part)+))
    };
}

/// Logs something worth knowing, formatted as by [`format!`].
///
/// ```
/// arcyou_plugin_sdk::info!("{} words", 3);
/// ```
#[macro_export]
macro_rules! info {
    ($($part:tt)+) => {
        $crate::log($crate::Level::Info, &::std::format!($($part)+))
    };
}

/// Logs what helps to find a fault, formatted as by [`format!`].
///
/// ```
/// arcyou_plugin_sdk::debug!("{} words", 3);
/// ```
#[macro_export]
macro_rules! debug {
    ($($part:tt)+) => {
        $crate::log($crate::Level::Debug, &::std::format!($($part)+))
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_lines_are_cut_between_characters() {
        crate::info!("{}", "한".repeat(4000));
        crate::warn!("short");
    }
}
