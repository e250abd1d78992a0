//! Text for an operator's terminal.

use std::io::{self, Write as _};

/// Writes a line to standard output. Unlike `println!`, it does not panic when the reader closes the pipe, as `head`
/// does; see [`is_broken_pipe`].
pub fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Whether this is the error of [`print()`] for a reader that has closed the pipe.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Replaces control characters. For text that others wrote: it must not reach the terminal as a command.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `width` characters of a text, made [`printable`], with `…` after them if the text was cut.
pub fn clipped(text: &str, width: usize) -> String {
    let mut chars = text.chars();
    let mut beginning = printable(&chars.by_ref().take(width).collect::<String>());
    if chars.next().is_some() {
        beginning.push('…');
    }
    beginning
}

/// A table: the heads, and below them the rows, each column as wide as its widest cell.
pub fn table<const COLUMNS: usize>(heads: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows);
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default());
    let pad = |line: &[String; COLUMNS]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(pad).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal_or_break_the_table() {
        let row = [printable("evil\u{1b}[2J"), clipped(&"x\n".repeat(100), 80)];
        let text = table(["TYPE", "ERROR"], vec![row]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}') && text.ends_with('…'), "{text}");
    }
}
