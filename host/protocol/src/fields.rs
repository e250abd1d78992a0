//! The fields of a request, each read when it is asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::code::ErrorCode;
use crate::server::Failure;
use crate::text::Text;

/// Limit for `ref` and `temp_id`: what a client writes, without the quotes of a string.
const MAX_ECHO_BYTES: usize = 256;

/// A field's spellings; errors call it by the first one.
pub(crate) type Spellings = &'static [&'static str];

pub(crate) const CONVERSATION_ID: Spellings = &["conversation_id", "conversationId"];

/// Why a field cannot be used.
#[derive(Debug)]
pub(crate) struct FieldError {
    pub(crate) code: ErrorCode,
    /// Names the field, and says what it must be.
    pub(crate) text: String,
}

impl From<Failure> for FieldError {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, text: failure.text }
    }
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, FieldError> {
    Err(FieldError { code: ErrorCode::InvalidField, text: text.into() })
}

/// The fields of an object, not parsed yet. Of a repeated field, the last value counts. Unknown fields are ignored.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(6);
                while let Some(entry) = entries.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((entry.0.0, entry.1));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Fields<'a> {
    /// The field unless it is absent or null, in the first spelling that is there.
    pub(crate) fn raw(&self, names: Spellings) -> Option<&'a RawValue> {
        let spelled =
            |name: &&str| self.0.iter().rev().find(|(key, _)| key == name).filter(|(_, raw)| raw.get() != "null");
        names.iter().find_map(spelled).map(|(_, raw)| *raw)
    }

    pub(crate) fn text(&self, names: Spellings) -> Result<Option<String>, FieldError> {
        let Some(raw) = self.raw(names) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(text) => Ok(Some(text)),
            Err(_) if raw.get().starts_with('"') => {
                invalid(format!("{} must be Unicode text, without half of a surrogate pair", names[0]))
            }
            Err(_) => invalid(format!("{} must be a string", names[0])),
        }
    }

    pub(crate) fn required_text(&self, names: Spellings) -> Result<String, FieldError> {
        self.text(names)?.map_or_else(|| missing(names), Ok)
    }

    pub(crate) fn flag(&self, names: Spellings) -> Result<Option<bool>, FieldError> {
        match self.raw(names).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => invalid(format!("{} must be true or false", names[0])),
        }
    }

    pub(crate) fn integer(&self, names: Spellings) -> Result<Option<i64>, FieldError> {
        let Some(raw) = self.raw(names) else { return Ok(None) };
        match whole_number(raw.get()) {
            Some(number) => Ok(Some(number)),
            None => invalid(format!("{} must be a whole number of at most 63 bits", names[0])),
        }
    }

    /// The same where nothing is below 0.
    pub(crate) fn natural(&self, names: Spellings) -> Result<Option<i64>, FieldError> {
        match self.integer(names)? {
            Some(number) if number < 0 => invalid(format!("{} must not be negative", names[0])),
            number => Ok(number),
        }
    }

    pub(crate) fn required_natural(&self, names: Spellings) -> Result<i64, FieldError> {
        self.natural(names)?.map_or_else(|| missing(names), Ok)
    }

    /// Any spelling of a UUID names the same conversation.
    pub(crate) fn conversation(&self) -> Result<Uuid, FieldError> {
        let text = self.required_text(CONVERSATION_ID)?;
        Uuid::try_parse(&text).or_else(|_| invalid("conversation_id must be a UUID"))
    }

    /// What the reply repeats, exactly as the client wrote it.
    pub(crate) fn echo(&self, names: Spellings) -> Result<Option<Box<str>>, FieldError> {
        let Some(raw) = self.raw(names) else { return Ok(None) };
        let text = raw.get();
        let written = match text.as_bytes().first() {
            // A string is decoded once to make sure that it is valid.
            Some(b'"') => serde_json::from_str::<String>(text).ok().map(|_| text.len() - 2),
            Some(b'-' | b'0'..=b'9') => Some(text.len()),
            _ => None,
        };
        if written.is_none_or(|bytes| bytes > MAX_ECHO_BYTES) {
            let name = names[0];
            return invalid(format!("{name} must be a string or a number of at most {MAX_ECHO_BYTES} bytes"));
        }
        Ok(Some(text.into()))
    }
}

pub(crate) fn missing<T>(names: Spellings) -> Result<T, FieldError> {
    Err(FieldError { code: ErrorCode::MissingField, text: format!("{} is missing", names[0]) })
}

/// The value of a JSON number, if it is a whole one that fits: `70`, `70.0` and `7e1` are the same number, and clients
/// whose language has only doubles write any of them. Exact, so not by way of a double.
fn whole_number(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    if let Ok(plain) = text.parse() {
        return Some(plain);
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if matches!(significant, "" | "-") {
        return Some(0);
    }
    let exponent: i64 = exponent.parse().ok()?;
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let shift = exponent.checked_add(zeros)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let factor = 10_i64.checked_pow(u32::try_from(shift).ok()?)?;
    significant.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_spelled_in_any_way() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e-7", 0),
            ("0e99999999999999999999", 0),
            ("41", 41),
            ("41.0", 41),
            ("41.000", 41),
            ("4.1e1", 41),
            ("4100e-2", 41),
            ("0.0041E+4", 41),
            ("-70e-1", -7),
            ("1e18", 1_000_000_000_000_000_000),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807.0", i64::MAX),
            ("-922337203685477580.8e1", i64::MIN),
        ] {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        for text in [
            "41.5",
            "1e-1",
            "9223372036854775808",
            "1e19",
            "1e99999999999999999999",
            "1e-9223372036854775808",
            "0.1e9223372036854775807",
            "\"41\"",
            "true",
            "[41]",
            "{}",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
