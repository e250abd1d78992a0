//! What the parts of a command must be, however it arrives: in a frame of a socket, or in a request over HTTP.

use crate::body::{Body, BodyError, BodyLimits};
use crate::code::ErrorCode;
use crate::server::Failure;

const MAX_KEY_BYTES: usize = 128;
const MAX_REACTION_CHARS: usize = 64;

/// An idempotency key: 1 to 128 bytes of text without U+0000.
///
/// # Errors
/// Says what it must be.
pub fn idempotency_key(text: &str) -> Result<Box<str>, Failure> {
    if (1..=MAX_KEY_BYTES).contains(&text.len()) && !text.contains('\0') {
        return Ok(text.into());
    }
    invalid(format!("idempotency_key must be 1 to {MAX_KEY_BYTES} bytes of text without U+0000"))
}

/// A reaction: 1 to 64 characters that show something.
///
/// # Errors
/// Says what it must be.
pub fn reaction(text: &str) -> Result<Box<str>, Failure> {
    if (1..=MAX_REACTION_CHARS).contains(&text.chars().count()) && !text.contains(is_unseen) {
        return Ok(text.into());
    }
    invalid(format!(
        "reaction must be 1 to {MAX_REACTION_CHARS} characters, none of them a space or a control character"
    ))
}

/// A message's body, made canonical.
///
/// # Errors
/// Says what is wrong with it.
pub fn body(text: &str, limits: &BodyLimits) -> Result<Body, Failure> {
    Body::parse(text, limits).map_err(|error| Failure::new(code_of(&error), error.to_string()))
}

fn invalid<T>(text: String) -> Result<T, Failure> {
    Err(Failure::new(ErrorCode::InvalidField, text))
}

/// What shows nothing by itself, or turns the text around it. (The joiner inside of emoji is none of these.)
fn is_unseen(c: char) -> bool {
    let is_format = matches!(c, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || c.is_whitespace() || is_format
}

fn code_of(error: &BodyError) -> ErrorCode {
    match error {
        BodyError::Malformed(_) => ErrorCode::InvalidJson,
        BodyError::NotAnObject => ErrorCode::InvalidField,
        BodyError::TooLarge(_) => ErrorCode::BodyTooLarge,
        BodyError::TooDeep(_) => ErrorCode::BodyTooDeep,
        BodyError::DuplicateKey(_) => ErrorCode::DuplicateKey,
        BodyError::NumberOutOfRange => ErrorCode::NumberOutOfRange,
        BodyError::UnstorableText => ErrorCode::UnstorableText,
    }
}
