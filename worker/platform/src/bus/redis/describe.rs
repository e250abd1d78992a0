//! Errors in one line, for logs and health reports.

use redis::{RedisError, ServerError};

/// The code with which Redis answers a command that the user's ACL does not allow.
pub(super) const DENIED: &str = "NOPERM";

/// An error of Redis or of the connection to it, in one line without secrets.
pub(super) fn describe(error: &RedisError) -> String {
    if error.is_timeout() {
        return "Redis did not answer in time".to_owned();
    }
    if let Some(denial) = denial(error) {
        return describe_answer(DENIED, denial.details());
    }
    match error.code() {
        Some(code) => describe_answer(code, error.detail()),
        None => format!("Redis: {error}"),
    }
}

/// An error that Redis answered.
pub(super) fn describe_answer(code: &str, details: Option<&str>) -> String {
    let advice =
        if code == DENIED { "; docs/operations.md lists the rights that this program needs in Redis" } else { "" };
    format!("{}{advice}", format!("Redis answered {code} {}", details.unwrap_or_default()).trim_end())
}

/// Whether the user's ACL does not allow what was asked.
pub(super) fn is_denied(error: &RedisError) -> bool {
    denial(error).is_some()
}

/// The answer that says so, also to one of several commands.
fn denial(error: &RedisError) -> Option<ServerError> {
    let answers = error.clone().into_server_errors()?;
    answers.iter().map(|(_, answer)| answer).find(|answer| answer.code() == DENIED).cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_called_so() {
        let answer = redis::parse_redis_value(b"-NOPERM this user has no permissions\r\n").unwrap();
        let error = answer.extract_error().unwrap_err();
        assert!(is_denied(&error));
        let text = describe(&error);
        assert!(text.starts_with("Redis answered NOPERM this user") && text.contains("docs/operations.md"), "{text}");
        let answer = redis::parse_redis_value(b"-LOADING\r\n").unwrap();
        assert_eq!(describe(&answer.extract_error().unwrap_err()), "Redis answered LOADING");
    }
}
