//! What a plugin remembers beyond an instance: values with a time to live, which all gateways share. Needs
//! `grants = ["kv"]` in `plugins.toml`; `[plugin.kv]` sets quotas. Other plugins have keys of their own.
//!
//! While a plugin is made ([`Plugin::new`](crate::Plugin::new)) every call says [`Error::Unavailable`].
//!
//! ```
//! use std::time::Duration;
//! use arcyou_plugin_sdk::kv;
//!
//! // How often has this user written within a minute?
//! let times = kv::increment("user-7", 1, Duration::from_secs(60)).unwrap();
//! assert_eq!(times, 1);
//! assert_eq!(kv::get("user-7").unwrap().as_deref(), Some(b"1".as_slice()));
//! assert!(kv::delete("user-7").unwrap());
//! ```

pub(crate) mod error;

use std::time::Duration;

pub use error::Error;

#[cfg(target_arch = "wasm32")]
use crate::bindings::kv as wire;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::doubles as wire;

#[cfg(target_arch = "wasm32")]
impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Unavailable => Self::Unavailable,
            wire::Error::Quota => Self::Quota,
            wire::Error::TooLarge => Self::TooLarge,
            wire::Error::NotANumber => Self::NotANumber,
        }
    }
}

fn ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

/// The value of a key that is set and has not expired.
///
/// ```
/// assert_eq!(arcyou_plugin_sdk::kv::get("nobody set this"), Ok(None));
/// ```
#[allow(clippy::useless_conversion)]
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    wire::get(key).map_err(Error::from)
}

/// Sets a key, from one millisecond to 30 days.
///
/// ```
/// # use std::time::Duration;
/// # use arcyou_plugin_sdk::kv;
/// kv::set("last", b"hello", Duration::from_secs(60)).unwrap();
/// assert_eq!(kv::get("last").unwrap().unwrap(), b"hello");
/// ```
#[allow(clippy::useless_conversion)]
pub fn set(key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
    wire::set(key, value, ms(ttl)).map_err(Error::from)
}

/// Forgets a key; answers whether there was one.
///
/// ```
/// assert_eq!(arcyou_plugin_sdk::kv::delete("nobody set this"), Ok(false));
/// ```
#[allow(clippy::useless_conversion)]
pub fn delete(key: &str) -> Result<bool, Error> {
    wire::delete(key).map_err(Error::from)
}

/// Adds to a number in one step that no other call can come between, and answers the sum. A key that is not there
/// counts as zero and begins to live for `ttl`; one that is there lives as long as it was going to.
///
/// ```
/// # use std::time::Duration;
/// # use arcyou_plugin_sdk::kv;
/// assert_eq!(kv::increment("n", 2, Duration::from_secs(60)), Ok(2));
/// assert_eq!(kv::increment("n", -1, Duration::from_secs(60)), Ok(1));
/// ```
#[allow(clippy::useless_conversion)]
pub fn increment(key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
    wire::increment(key, by, ms(ttl)).map_err(Error::from)
}
