//! Leaves out of JSON lines where a library's line was written. Libraries that log through the crate `log` have it in
//! fields that the text format hides and the flattened JSON does not: paths of the machine that built the program.

use std::io::{self, Write};

use serde_json::{Map, Value};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// How the fields begin.
const ORIGIN: &str = "log.";
/// What every line with such fields contains.
const MARK: &[u8] = b"\"log.target\"";

/// Makes writers of lines without those fields.
#[derive(Debug, Clone)]
pub(crate) struct WithoutOrigin<W>(pub(crate) W);

/// Gets each line whole, in one call.
#[derive(Debug)]
pub(crate) struct Line<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for WithoutOrigin<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Line(self.0.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        Line(self.0.make_writer_for(metadata))
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match without_origin(line) {
            Some(mut shorter) => {
                shorter.push(b'\n');
                self.0.write_all(&shorter)?;
            }
            None => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// None: there is nothing to leave out.
fn without_origin(line: &[u8]) -> Option<Vec<u8>> {
    if !line.windows(MARK.len()).any(|part| part == MARK) {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    fields.retain(|name, _| !name.starts_with(ORIGIN));
    serde_json::to_vec(&fields).ok()
}
