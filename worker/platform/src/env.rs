//! Reads environment variables. Errors are collected, so that all are reported at once; none shows a value.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A source of variables.
pub trait Source {
    /// The value of a variable; None if it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's own environment. A blank variable is as good as none, also for those who only ask whether it is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Source for Process {
    fn get(&self, name: &str) -> Option<String> {
        let value = std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        value.filter(|value| !value.trim().is_empty())
    }
}

impl Source for HashMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).map(|value| (*value).to_owned())
    }
}

/// Everything that is wrong with the environment, one line for each variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Errors(Vec<String>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// Reads variables one by one. A variable that is empty or blank counts as not set.
pub struct Reader<'a> {
    source: &'a dyn Source,
    errors: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of `source`.
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, errors: Vec::new() }
    }

    /// A variable that must be set. `what` describes its value for the error message. After None,
    /// [`finish`](Self::finish) fails.
    pub fn required<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, what: &str) -> Option<T> {
        if self.text(name).is_none() {
            self.reject(name, format_args!("is not set ({what})"));
        }
        self.optional(name)
    }

    /// A variable that may be missing. None also if it is malformed; then [`finish`](Self::finish) fails.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.reject(name, format_args!("is not valid: {error}"));
                None
            }
        }
    }

    /// A variable with a default.
    pub fn or<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// A variable with a default and bounds. A value outside of the bounds is an error.
    pub fn within<T>(&mut self, name: &str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        let value = self.or(name, default);
        if !bounds.contains(&value) {
            self.reject(name, format_args!("must be between {} and {}", bounds.start(), bounds.end()));
        }
        value
    }

    /// Records an error about a variable. `reason` follows the variable's name and must contain no secret.
    pub fn reject(&mut self, name: &str, reason: impl fmt::Display) {
        self.errors.push(format!("{name} {reason}"));
    }

    /// Fails with all errors, if there were any.
    pub fn finish(self) -> Result<(), Errors> {
        if self.errors.is_empty() { Ok(()) } else { Err(Errors(self.errors)) }
    }

    /// Fails with all errors, or returns the result of `build`, which may use `?` on required variables: without errors
    /// they are all present.
    pub fn finish_with<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Errors> {
        self.finish()?;
        build().ok_or_else(|| Errors(vec!["a required variable was not read".to_owned()]))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.source.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_error_is_reported_and_no_value_is_shown() {
        let source = HashMap::from([("PORT", "hunter2"), ("SIZE", "900"), ("OK", " 7 "), ("BLANK", "  ")]);
        let mut reader = Reader::new(&source);
        assert_eq!(reader.required::<String>("URL", "where it is"), None);
        assert_eq!(reader.or::<u16>("PORT", 80), 80);
        reader.within("SIZE", 5, 1..=100);
        assert_eq!(reader.or("OK", 1), 7);
        assert_eq!(reader.optional::<u8>("BLANK"), None);
        let text = reader.finish().unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "URL is not set (where it is)");
        assert!(lines[1].starts_with("PORT is not valid"), "{text}");
        assert_eq!(lines[2], "SIZE must be between 1 and 100");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn what_is_required_is_there_when_nothing_failed() {
        let source = HashMap::from([("URL", "x")]);
        let mut reader = Reader::new(&source);
        let url = reader.required::<String>("URL", "where it is");
        assert_eq!(reader.finish_with(|| Some(url?.len())).unwrap(), 1);
    }
}
