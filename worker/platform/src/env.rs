//! Reads environment variables. Errors are collected, so that all are reported at once. They show the value of a number
//! or an address, and no other.

mod variables;

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

pub use self::variables::{EXIT_STATUS, Variable, WhenUnset, help, look_alikes};

/// How much of a value an error shows.
const SHOWN_CHARS: usize = 40;

/// A source of variables.
pub trait Source {
    /// The value of a variable; None if it is not set.
    fn get(&self, name: &str) -> Option<String>;

    /// The names of all variables that are set, if this source knows them.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The process's own environment. A blank variable is as good as none, also for those who only ask whether it is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Source for Process {
    fn get(&self, name: &str) -> Option<String> {
        let value = std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        value.filter(|value| !value.trim().is_empty())
    }

    fn names(&self) -> Vec<String> {
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        names.filter(|name| self.get(name).is_some()).collect()
    }
}

impl Source for HashMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).map(|value| (*value).to_owned())
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|name| (*name).to_owned()).collect()
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
    notes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of `source`.
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, errors: Vec::new(), notes: Vec::new() }
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
        match self.unquoted(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.reject(name, format_args!("is not valid: {error}"));
                None
            }
        }
    }

    /// The same for a value that is no secret and whose type explains itself to programmers only: the error says what
    /// is expected, and shows the value.
    pub fn expecting<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        let text = self.unquoted(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.reject(name, format_args!("must be {what}, not {}", shown(&text)));
        }
        value
    }

    /// A variable with a default.
    pub fn or<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// A whole number with a default and bounds. Anything else is an error, which names the bounds and the value.
    pub fn within<T>(&mut self, name: &str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(text) = self.unquoted(name) else { return default };
        match text.parse() {
            Ok(value) if bounds.contains(&value) => value,
            _ => {
                let (least, most) = (bounds.start(), bounds.end());
                self.reject(name, format_args!("must be a whole number from {least} to {most}, not {}", shown(&text)));
                default
            }
        }
    }

    /// Records an error about a variable. `reason` follows the variable's name and must contain no secret.
    pub fn reject(&mut self, name: &str, reason: impl fmt::Display) {
        self.errors.push(format!("{name} {reason}"));
    }

    /// Records what is no error, and what whoever set the variables should know all the same.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Notes variables that are set, that nothing reads, and that look like one of these.
    pub fn note_look_alikes(&mut self, known: &[&[Variable]]) {
        self.notes.extend(look_alikes(self.source, known));
    }

    /// All notes.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Fails with all errors, and the notes after them, if there were any errors.
    pub fn finish(self) -> Result<(), Errors> {
        if self.errors.is_empty() { Ok(()) } else { Err(Errors([self.errors, self.notes].concat())) }
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

    /// The value, unless it is in quotes: a shell takes them away, and `docker run --env-file` leaves them in.
    fn unquoted(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let is_quoted =
            ['"', '\''].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote));
        if is_quoted {
            self.reject(name, "is in quotes, which count as a part of the value; leave them out");
        }
        (!is_quoted).then_some(text)
    }
}

/// The beginning of a value, in one line.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(SHOWN_CHARS).collect();
    let rest = if beginning.len() < text.len() { "…" } else { "" };
    format!("{}{rest}", beginning.escape_debug())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_error_is_reported_and_no_value_is_shown() {
        let source = HashMap::from([("MODE", "hunter2"), ("SIZE", "900"), ("OK", " 7 "), ("BLANK", "  ")]);
        let mut reader = Reader::new(&source);
        assert_eq!(reader.required::<String>("URL", "where it is"), None);
        assert_eq!(reader.or::<char>("MODE", 'x'), 'x');
        reader.within("SIZE", 5, 1..=100);
        assert_eq!(reader.or("OK", 1), 7);
        assert_eq!(reader.optional::<u8>("BLANK"), None);
        let text = reader.finish().unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "URL is not set (where it is)");
        assert!(lines[1].starts_with("MODE is not valid"), "{text}");
        assert_eq!(lines[2], "SIZE must be a whole number from 1 to 100, not 900");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn numbers_and_addresses_are_answered_in_plain_words() {
        let long = "9".repeat(100);
        let source = HashMap::from([
            ("WORD", "abc"),
            ("HUGE", "99999"),
            ("SIGN", "-1"),
            ("ZERO", "0"),
            ("PART", "1.5"),
            ("LONG", long.as_str()),
            ("ADDR", "9098\n"),
            ("BIND", "local\u{1b}host"),
        ]);
        let mut reader = Reader::new(&source);
        for name in ["WORD", "HUGE", "SIGN", "ZERO", "PART", "LONG"] {
            assert_eq!(reader.within::<u16>(name, 80, 1..=65_535), 80);
        }
        assert_eq!(reader.expecting::<std::net::SocketAddr>("ADDR", "an IP address and a port"), None);
        assert_eq!(reader.expecting::<std::net::IpAddr>("BIND", "an IP address"), None);
        let expected = format!(
            "WORD must be a whole number from 1 to 65535, not abc
HUGE must be a whole number from 1 to 65535, not 99999
SIGN must be a whole number from 1 to 65535, not -1
ZERO must be a whole number from 1 to 65535, not 0
PART must be a whole number from 1 to 65535, not 1.5
LONG must be a whole number from 1 to 65535, not {}…
ADDR must be an IP address and a port, not 9098
BIND must be an IP address, not local\\u{{1b}}host",
            &long[..40]
        );
        assert_eq!(reader.finish().unwrap_err().to_string(), expected);
    }

    #[test]
    fn quotes_are_refused_and_notes_come_after_errors() {
        let source = HashMap::from([("URL", "\"postgres://h/d\""), ("SIZE", "'7'"), ("ONE", "\"")]);
        let mut reader = Reader::new(&source);
        reader.note("a note");
        assert_eq!(reader.required::<String>("URL", "where it is"), None);
        assert_eq!(reader.within("SIZE", 5, 1..=100), 5);
        assert_eq!(reader.optional::<char>("ONE"), Some('"'));
        let text = reader.finish().unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines[2] == "a note", "{text}");
        assert!(lines[0].starts_with("URL is in quotes") && lines[1].starts_with("SIZE is in quotes"), "{text}");
    }

    #[test]
    fn what_is_required_is_there_when_nothing_failed() {
        let source = HashMap::from([("URL", "x")]);
        let mut reader = Reader::new(&source);
        let url = reader.required::<String>("URL", "where it is");
        assert_eq!(reader.finish_with(|| Some(url?.len())).unwrap(), 1);
    }
}
