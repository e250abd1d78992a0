//! The numbers of a JSON text as they were written. A parser answers doubles, which have 17 digits at most.

/// The numbers of a text that a parser is reading, in order. What is behind the parser must not be asked for.
pub(crate) struct Numbers<'t> {
    rest: &'t str,
}

impl<'t> Numbers<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        Self { rest: text }
    }

    /// Passes a string, of which the opening quote has been passed.
    fn skip_string(&mut self) {
        while let Some(at) = self.rest.find(['"', '\\']) {
            let mut rest = self.rest[at..].chars();
            let is_end = rest.next() == Some('"');
            if !is_end {
                rest.next();
            }
            self.rest = rest.as_str();
            if is_end {
                break;
            }
        }
    }
}

impl<'t> Iterator for Numbers<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let start = self.rest.find(|char: char| char == '"' || char == '-' || char.is_ascii_digit())?;
            let found = &self.rest[start..];
            if let Some(string) = found.strip_prefix('"') {
                self.rest = string;
                self.skip_string();
                continue;
            }
            let is_part = |char: char| char.is_ascii_digit() || matches!(char, '+' | '-' | '.' | 'e' | 'E');
            let end = found.find(|char| !is_part(char)).unwrap_or(found.len());
            let (number, rest) = found.split_at(end);
            self.rest = rest;
            return Some(number);
        }
    }
}
