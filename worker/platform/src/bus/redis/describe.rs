//! Errors in one line, for logs and health reports.

/// An error of Redis or of the connection to it, in one line without secrets.
pub(super) fn describe(error: &redis::RedisError) -> String {
    if error.is_timeout() {
        return "Redis did not answer in time".to_owned();
    }
    match error.code() {
        Some(code) => format!("Redis answered {code} {}", error.detail().unwrap_or_default()).trim_end().to_owned(),
        None => format!("Redis: {error}"),
    }
}
