//! Integers as schemas have them: JSON does not distinguish 7 from 7.0.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// From here on a double may stand for more than one integer.
const TOO_LARGE: f64 = 9_007_199_254_740_992.0;

/// A whole number, however it is written. Its schema is that of an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WholeNumber(pub(super) i64);

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = |number: &f64| number.fract() == 0.0 && number.abs() < TOO_LARGE;
        let exact = number.as_i64().or_else(|| number.as_f64().filter(whole).map(|number| number as i64));
        exact.map(Self).ok_or_else(|| D::Error::custom(format!("{number} is no whole number, or too large")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_written_as_a_double() {
        for (text, number) in [
            ("7", 7),
            ("7.0", 7),
            ("-7e0", -7),
            ("1e3", 1000),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(serde_json::from_str::<WholeNumber>(text).unwrap(), WholeNumber(number), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for text in
            ["7.5", "1e16", "9007199254740993.0", "9223372036854775808", "1e400", "\"7\"", "true", "null", "[7]"]
        {
            assert!(serde_json::from_str::<WholeNumber>(text).is_err(), "{text}");
        }
    }
}
