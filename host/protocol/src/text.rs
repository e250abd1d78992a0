//! Borrowed text.

use std::borrow::Cow;

use serde::Deserialize;

/// A string that is borrowed from the source if it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
