//! Reads one field of a body, and makes no values of the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The string in one top-level field of a body.
pub(crate) fn text(body: &str, field: &str) -> Option<String> {
    match serde_json::Deserializer::from_str(body).deserialize_map(Field(field)) {
        Ok(Some(Value::String(text))) => Some(text),
        _ => None,
    }
}

/// Finds one field of an object: the last of that name, as everywhere.
struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut found = None;
        while let Some(Name(name)) = fields.next_key()? {
            if name == self.0 {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
