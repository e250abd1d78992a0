//! The numbers of a JSON text as they were written. A parser answers doubles, which have 17 digits at most.

/// A number has at most so many characters when it is written out: as many as the longest double, and enough for
/// PostgreSQL.
pub(crate) const MOST_CHARS: usize = 1100;

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

/// A number without exponent, as PostgreSQL's `numeric` writes it: with all its digits, those after the point too. None
/// if it has too many characters, or if it is not zero although its double is.
pub(crate) fn plain(number: &str, double: f64) -> Option<String> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |number| ("-", number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_zero = mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if !is_zero && double == 0.0 {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let exponent_size = usize::try_from(exponent.unsigned_abs()).ok()?;
    if exponent_size + mantissa.len() > MOST_CHARS {
        return None;
    }
    let zeros = "0".repeat(exponent_size);
    // The point moves through the digits, and the zeros around them.
    let (whole, fraction) = if exponent >= 0 {
        let (moved, left) = fraction.split_at(exponent_size.min(fraction.len()));
        (format!("{whole}{moved}{}", &zeros[moved.len()..]), left.to_owned())
    } else {
        let (left, moved) = whole.split_at(whole.len().saturating_sub(exponent_size));
        (left.to_owned(), format!("{}{moved}{fraction}", &zeros[moved.len()..]))
    };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if is_zero { "" } else { sign };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What PostgreSQL 15 answers for `'…'::jsonb::text`.
    #[test]
    fn numbers_are_written_as_postgresql_writes_them() {
        for (written, kept) in [
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("1e5", "100000"),
            ("1.50", "1.50"),
            ("1e-7", "0.0000001"),
            ("18446744073709551616", "18446744073709551616"),
            ("12e-1", "1.2"),
            ("0e5", "0"),
            ("1.0e2", "100"),
            ("-1.50e1", "-15.0"),
            ("123.456E+1", "1234.56"),
            ("123.456e-5", "0.00123456"),
        ] {
            assert_eq!(plain(written, written.parse().unwrap()).as_deref(), Some(kept), "{written}");
        }
        assert_eq!(plain("1e1100", 1.0), None);
        assert_eq!(plain("1e99999999999", 1.0), None);
        assert_eq!(plain("1e-400", 0.0), None);
    }

    proptest! {
        #[test]
        fn the_double_stays_the_same(number in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?") {
            let double: f64 = number.parse().unwrap();
            if let Some(plain) = plain(&number, double) {
                prop_assert_eq!(plain.parse::<f64>().unwrap(), double);
            }
        }

        #[test]
        fn all_numbers_are_found(value in "\\PC*", numbers in prop::collection::vec(any::<f64>(), 0..5)) {
            let numbers: Vec<String> = numbers.iter().map(|number| serde_json::json!(number).to_string())
                .filter(|number| number != "null").collect();
            let value = serde_json::Value::from(value).to_string();
            let text = format!("{{{value}: [{value}, {}]}}", numbers.join(" ,\n"));
            prop_assert_eq!(Numbers::of(&text).collect::<Vec<_>>(), numbers);
        }
    }
}
