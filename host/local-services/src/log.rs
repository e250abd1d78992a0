//! The part of a service's log file that the current run wrote.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Enough for the messages of a failed start.
const TAIL_LINES: usize = 25;
/// The most that is read of a log.
const MAX_BYTES: u64 = 64 * 1024;

/// The part of a log that was written since this value was made.
#[derive(Debug)]
pub(crate) struct LogSince {
    path: PathBuf,
    start: u64,
}

impl LogSince {
    pub(crate) fn now(path: &Path) -> Self {
        Self { path: path.to_owned(), start: path.metadata().map_or(0, |data| data.len()) }
    }

    /// What was written since; the last 64 KiB if it is more.
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let end = file.metadata().map_or(0, |data| data.len());
            let start = self.start.max(end.saturating_sub(MAX_BYTES));
            // A log that cannot be read counts as empty: it only accompanies an error message.
            if file.seek(SeekFrom::Start(start)).is_ok() {
                let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines, indented for an error message.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if last.is_empty() {
            return format!("  (empty: {})", self.path.display());
        }
        last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_the_current_run_wrote_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let log = LogSince::now(&path);
        assert!(log.tail().contains("empty"));
        std::fs::write(&path, "old\nnew\n").unwrap();
        assert_eq!(log.text(), "new\n");
        assert_eq!(log.tail(), "  new");
    }
}
