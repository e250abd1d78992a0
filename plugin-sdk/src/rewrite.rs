//! Rewrites a body while it is read. Nothing is built but the new text, since a tree of values costs ten
//! times as much as reading the body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::numbers::Numbers;

/// The body with the strings in these top-level fields, or in all if none is named, as `rewrite` answers them. None if
/// it answers none.
pub(crate) fn strings(
    body: &str,
    fields: &[String],
    rewrite: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<Option<String>, serde_json::Error> {
    let out = Vec::with_capacity(body.len());
    let mut rewriter = Rewriter { out, replaced: false, rewrite, numbers: Numbers::of(body), passed: 0 };
    serde_json::Deserializer::from_str(body).deserialize_map(Fields { rewriter: &mut rewriter, wanted: fields })?;
    rewriter.replaced.then(|| text(rewriter.out)).transpose()
}

/// The body with this value in one top-level field.
pub(crate) fn field(body: &str, field: &str, value: &RawValue) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(body.len() + value.get().len());
    serde_json::Deserializer::from_str(body).deserialize_map(Replace { out: &mut out, field, value })?;
    text(out)
}

fn text(out: Vec<u8>) -> Result<String, serde_json::Error> {
    String::from_utf8(out).map_err(serde_json::Error::custom)
}

fn write<T: Serialize + ?Sized, E: serde::de::Error>(out: &mut Vec<u8>, value: &T) -> Result<(), E> {
    serde_json::to_writer(out, value).map_err(E::custom)
}

/// A key, with what separates it from the one before.
fn write_key<E: serde::de::Error>(out: &mut Vec<u8>, key: &str) -> Result<(), E> {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write(out, key)?;
    out.push(b':');
    Ok(())
}

/// The new text so far.
struct Rewriter<'a> {
    out: Vec<u8>,
    replaced: bool,
    rewrite: &'a mut dyn FnMut(&str) -> Option<String>,
    /// The body's numbers, and so many of them that have been passed since the last one that was copied.
    numbers: Numbers<'a>,
    passed: usize,
}

impl Rewriter<'_> {
    fn write<T: Serialize + ?Sized, E: serde::de::Error>(&mut self, value: &T) -> Result<(), E> {
        write(&mut self.out, value)
    }

    /// As it was written: a double may have less digits.
    fn copy_number<E: serde::de::Error>(&mut self) -> Result<(), E> {
        let number =
            self.numbers.nth(std::mem::take(&mut self.passed)).ok_or_else(|| E::custom("a number is missing"))?;
        self.out.extend_from_slice(number.as_bytes());
        Ok(())
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object, with the fields whose strings are rewritten; if none is named, all are.
struct Fields<'a, 'r> {
    rewriter: &'a mut Rewriter<'r>,
    wanted: &'a [String],
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.rewriter.out.push(b'{');
        while let Some(Name(name)) = fields.next_key()? {
            write_key(&mut self.rewriter.out, &name)?;
            if self.wanted.is_empty() || self.wanted.iter().any(|field| *field == name) {
                fields.next_value_seed(Value(self.rewriter))?;
            } else {
                let value = fields.next_value::<&RawValue>()?.get();
                self.rewriter.passed += Numbers::of(value).count();
                self.rewriter.out.extend_from_slice(value.as_bytes());
            }
        }
        self.rewriter.out.push(b'}');
        Ok(())
    }
}

/// The body, of which one field gets another value.
struct Replace<'a> {
    out: &'a mut Vec<u8>,
    field: &'a str,
    value: &'a RawValue,
}

impl<'de> Visitor<'de> for Replace<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { out, field, value } = self;
        out.push(b'{');
        let mut found = false;
        while let Some(Name(name)) = fields.next_key()? {
            let old = fields.next_value::<&RawValue>()?;
            let is_field = name == field;
            found |= is_field;
            write_key(out, &name)?;
            out.extend_from_slice(if is_field { value } else { old }.get().as_bytes());
        }
        if !found {
            write_key(out, field)?;
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        Ok(())
    }
}

/// A value in it. The gateway bounds how deep a body is.
struct Value<'a, 'r>(&'a mut Rewriter<'r>);

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match (self.0.rewrite)(text) {
            Some(new) => {
                self.0.replaced = true;
                self.0.write(new.as_str())
            }
            None => self.0.write(text),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.write(&())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.write(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.0.copy_number()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.0.copy_number()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.0.copy_number()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        self.0.out.push(b'[');
        while values.next_element_seed(Value(self.0))?.is_some() {
            self.0.out.push(b',');
        }
        // The last comma becomes the end.
        match self.0.out.last_mut() {
            Some(last) if *last == b',' => *last = b']',
            _ => self.0.out.push(b']'),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
        Fields { rewriter: self.0, wanted: &[] }.visit_map(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let body =
            r#"{"n":[18446744073709551616,7,"a 5",1.50],"m":3,"text":"a 1.5","o":{"p":-0.12345678901234567890123}}"#;
        let shout = &mut |text: &str| Some(text.to_uppercase());
        let all = strings(body, &[], shout).map_err(|error| error.to_string());
        assert_eq!(all, Ok(Some(body.replace("a 5", "A 5").replace("a 1.5", "A 1.5"))));
        let fields = ["text".to_owned(), "o".to_owned()];
        let some = strings(body, &fields, shout).map_err(|error| error.to_string());
        assert_eq!(some, Ok(Some(body.replace("a 1.5", "A 1.5"))));
    }
}
