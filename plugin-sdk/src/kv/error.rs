//! What a call may answer instead of a value.

use std::fmt;

/// Why a call did nothing.
///
/// ```
/// use arcyou_plugin_sdk::{kv, testing};
///
/// testing::fail_kv(Some(kv::Error::Unavailable));
/// assert_eq!(kv::get("x"), Err(kv::Error::Unavailable));
/// testing::fail_kv(None);
/// assert_eq!(kv::get("x"), Ok(None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The store cannot be reached for now. What an increment or a set did is not known.
    Unavailable,
    /// This call of the hook has asked often enough.
    Quota,
    /// The key or the value is larger than the operator allows, or the key is empty.
    TooLarge,
    /// The value is no number that can be incremented.
    NotANumber,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store cannot be reached for now",
            Self::Quota => "more calls than one message may make",
            Self::TooLarge => "the key or the value is too large",
            Self::NotANumber => "the value is no number",
        })
    }
}

impl std::error::Error for Error {}
