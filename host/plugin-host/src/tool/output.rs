//! Lines of a report on standard output.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;

use arcyou_platform::terminal::print;

/// Prints one line of a report: a label and a text.
pub(super) fn print_field(label: &str, text: impl Display) {
    print_line(format_args!("{label:<12} {text}"));
}

/// Prints a line. Errors are ignored: a reader such as `head` may close the pipe, and the command must still finish.
pub(super) fn print_line(text: impl Display) {
    let _ = print(&text.to_string());
}

/// Prints a remark to standard error, so that standard output holds nothing but the result.
pub(super) fn print_note(text: &str) {
    let _ = writeln!(io::stderr(), "\n{text}");
}

pub(super) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn kib(bytes: usize) -> String {
    format!("{} KiB", group_digits(bytes.div_ceil(1024) as u64))
}

/// A list of paths, separated by commas.
pub(super) fn join_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(group_digits), ["0", "999", "1,000", "1,234,567"]);
    }
}
