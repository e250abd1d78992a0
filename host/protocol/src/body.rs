//! A message's body: parsed once, made canonical, within limits.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::numbers::{Numbers, plain};

/// Limits for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of the canonical text.
    pub max_bytes: usize,
    /// Nesting levels of objects and arrays, including the outermost object.
    pub max_depth: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        // Deep enough for documents that people write, and shallow enough for every reader's stack.
        Self { max_bytes: 32 * 1024, max_depth: 32 }
    }
}

/// The canonical text of a JSON object: no white space, no duplicate keys, numbers without exponents and within the
/// range of a double but with all their digits, nothing that PostgreSQL's `jsonb` cannot hold. Plugins, the database
/// and readers all see this same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Box<str>);

/// Why a text is not a body. Each error says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON at all.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// Larger than [`BodyLimits::max_bytes`].
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Deeper than [`BodyLimits::max_depth`].
    #[error("the body is nested deeper than {0} levels")]
    TooDeep(usize),
    /// The same key twice in one object: readers would disagree about which one counts.
    #[error("the body has the key {0:?} twice in one object")]
    DuplicateKey(String),
    /// A number beyond the range of a double, or with an absurd number of digits.
    #[error(
        "the body holds a number that is out of range for a double, or has more than {} digits",
        crate::numbers::MOST_CHARS
    )]
    NumberOutOfRange,
    /// U+0000 or half of a surrogate pair.
    #[error("the body holds text that cannot be stored (\\u0000 or a lone surrogate)")]
    UnstorableText,
}

impl Body {
    /// Parses `text` and makes it canonical. Keys keep their order.
    pub fn parse(text: &str, limits: &BodyLimits) -> Result<Self, BodyError> {
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(BodyError::NotAnObject);
        }
        let writer = Writer::new(text, limits);
        // Escapes such as \u0041 become shorter, so the text may be longer than its canonical form. The buffer must
        // still have a limit.
        let mut out = String::with_capacity(text.len().min(limits.max_bytes));
        let mut source = serde_json::Deserializer::from_str(text);
        let parsed =
            Value { writer: &writer, out: &mut out, depth: 1 }.deserialize(&mut source).and_then(|()| source.end());
        match (writer.fault.take(), parsed) {
            (Some(fault), _) => Err(fault),
            (None, Ok(())) if out.len() > limits.max_bytes => Err(BodyError::TooLarge(limits.max_bytes)),
            (None, Ok(())) => Ok(Self(out.into_boxed_str())),
            (None, Err(error)) => Err(classify(&error)),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// serde_json does not expose the kind of a syntax error, only its text. Tests check both phrases.
fn classify(error: &serde_json::Error) -> BodyError {
    let text = error.to_string();
    if text.starts_with("number out of range") {
        BodyError::NumberOutOfRange
    } else if text.contains("surrogate") || text.contains("unexpected end of hex escape") {
        BodyError::UnstorableText
    } else {
        BodyError::Malformed(text)
    }
}

/// The state of one parse: the limits, and the error that ended it.
struct Writer<'a> {
    limits: &'a BodyLimits,
    fault: Cell<Option<BodyError>>,
    /// The numbers as they were written, since a double may have less digits.
    numbers: RefCell<Numbers<'a>>,
    /// So many of them were integers and have been passed.
    integers: Cell<usize>,
}

impl<'a> Writer<'a> {
    fn new(text: &'a str, limits: &'a BodyLimits) -> Self {
        let numbers = RefCell::new(Numbers::of(text));
        Self { limits, fault: Cell::new(None), numbers, integers: Cell::new(0) }
    }

    fn write_integer<E: serde::de::Error>(&self, out: &mut String, value: impl fmt::Display) -> Result<(), E> {
        self.integers.set(self.integers.get() + 1);
        write!(out, "{value}").map_err(E::custom)
    }

    fn write_number<E: serde::de::Error>(&self, out: &mut String, value: f64) -> Result<(), E> {
        let written = self.numbers.borrow_mut().nth(self.integers.take());
        match written.and_then(|written| plain(written, value)) {
            Some(text) => {
                out.push_str(&text);
                Ok(())
            }
            None => Err(self.fail(BodyError::NumberOutOfRange)),
        }
    }

    fn fail<E: serde::de::Error>(&self, fault: BodyError) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }

    fn check_size<E: serde::de::Error>(&self, out: &str) -> Result<(), E> {
        if out.len() > self.limits.max_bytes {
            return Err(self.fail(BodyError::TooLarge(self.limits.max_bytes)));
        }
        Ok(())
    }

    fn write_text<E: serde::de::Error>(&self, out: &mut String, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(self.fail(BodyError::UnstorableText));
        }
        out.push_str(&serde_json::to_string(text).map_err(E::custom)?);
        self.check_size(out)
    }
}

/// Copies one JSON value from a deserializer to `out`.
struct Value<'w, 'o> {
    writer: &'w Writer<'w>,
    out: &'o mut String,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.writer.write_integer(self.out, value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.writer.write_integer(self.out, value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.writer.write_number(self.out, value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.writer.write_text(self.out, value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { writer, out, depth } = self;
        if depth > writer.limits.max_depth {
            return Err(writer.fail(BodyError::TooDeep(writer.limits.max_depth)));
        }
        out.push('[');
        let start = out.len();
        loop {
            let before = out.len();
            if before > start {
                out.push(',');
            }
            if items.next_element_seed(Value { writer, out, depth: depth + 1 })?.is_none() {
                out.truncate(before);
                break;
            }
            writer.check_size::<A::Error>(out)?;
        }
        out.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { writer, out, depth } = self;
        if depth > writer.limits.max_depth {
            return Err(writer.fail(BodyError::TooDeep(writer.limits.max_depth)));
        }
        let mut seen = HashSet::new();
        out.push('{');
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.is_empty() {
                out.push(',');
            }
            writer.write_text::<A::Error>(out, &key)?;
            out.push(':');
            if seen.contains(&key) {
                return Err(writer.fail(BodyError::DuplicateKey(key)));
            }
            seen.insert(key);
            entries.next_value_seed(Value { writer, out, depth: depth + 1 })?;
            writer.check_size::<A::Error>(out)?;
        }
        out.push('}');
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 1000, max_depth: 4 };

    fn parse(text: &str) -> Result<String, BodyError> {
        Body::parse(text, &LIMITS).map(|body| body.as_str().to_owned())
    }

    #[test]
    fn canonical_text_keeps_order_and_drops_white_space() {
        let text = " { \"b\" : [ 1 , -2.50, true , null ] , \"a\" : { } , \"\\u0041\": \"\\u00e9\\n\" } ";
        assert_eq!(parse(text).unwrap(), r#"{"b":[1,-2.50,true,null],"a":{},"A":"é\n"}"#);
        assert_eq!(parse(r#"{"a":[],"b":[[]]}"#).unwrap(), r#"{"a":[],"b":[[]]}"#);
    }

    #[test]
    fn each_fault_has_its_own_error() {
        assert_eq!(parse("[1]"), Err(BodyError::NotAnObject));
        assert_eq!(parse("\"x\""), Err(BodyError::NotAnObject));
        assert!(matches!(parse("{\"a\":}"), Err(BodyError::Malformed(_))));
        assert!(matches!(parse("{} x"), Err(BodyError::Malformed(_))));
        assert_eq!(parse(r#"{"a":1,"\u0061":2}"#), Err(BodyError::DuplicateKey("a".into())));
        assert_eq!(parse(r#"{"a":1e999}"#), Err(BodyError::NumberOutOfRange));
        assert_eq!(parse(r#"{"a":1e131000}"#), Err(BodyError::NumberOutOfRange));
        assert_eq!(parse(r#"{"a":1e-400}"#), Err(BodyError::NumberOutOfRange), "it would become zero");
        assert_eq!(parse(r#"{"a":0e-20000}"#), Err(BodyError::NumberOutOfRange), "it would have 20,000 zeros");
        assert_eq!(parse(r#"{"a":"x\u0000y"}"#), Err(BodyError::UnstorableText));
        assert_eq!(parse(r#"{"a\u0000":1}"#), Err(BodyError::UnstorableText));
        assert_eq!(parse(r#"{"a":"\ud800"}"#), Err(BodyError::UnstorableText));
        assert_eq!(parse(r#"{"a":"\ud800\ud800"}"#), Err(BodyError::UnstorableText));
        assert_eq!(parse(r#"{"a":"\udc00x"}"#), Err(BodyError::UnstorableText));
        assert_eq!(parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1000))), Err(BodyError::TooLarge(1000)));
        assert_eq!(parse(r#"{"a":[[[[1]]]]}"#), Err(BodyError::TooDeep(4)));
        assert_eq!(parse(r#"{"a":[[[1]]]}"#).unwrap(), r#"{"a":[[[1]]]}"#);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(parse(&deep), Err(BodyError::TooDeep(4)));
    }

    #[test]
    fn no_number_becomes_another_one() {
        let text = r#"{"a":[18446744073709551616,7,-0.12345678901234567890123],"\"1.5\\":"2.5","b":[3,1.10,1E2,-0,9]}"#;
        let kept = r#"{"a":[18446744073709551616,7,-0.12345678901234567890123],"\"1.5\\":"2.5","b":[3,1.10,100,0,9]}"#;
        assert_eq!(parse(text).unwrap(), kept);
    }

    #[test]
    fn the_limit_is_that_of_the_numbers_written_out() {
        let numbers = ["1e300"; 5].join(",");
        assert_eq!(parse(&format!("{{\"a\":[{numbers}]}}")), Err(BodyError::TooLarge(1000)));
    }

    /// A pattern for small objects, some of them malformed.
    const OBJECTS: &str = concat!(
        r#"\{("[a-c]{1,2}":(-?[0-9]{1,30}(\.[0-9]{1,5})?([eE][-+]?[0-9]{1,3})?|"#,
        r#""[^"\\\x00-\x1f]{0,5}"|\[null,true\]|\{\}),?){0,4}\}"#
    );

    proptest! {
        #[test]
        fn parsing_again_changes_nothing(text in OBJECTS) {
            if let Ok(once) = parse(&text) {
                prop_assert_eq!(parse(&once).unwrap(), once);
            }
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
