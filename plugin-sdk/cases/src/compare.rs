//! What came out against what should have.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::{Case, VerdictKind};

/// What a plugin made of a case's message.
///
/// ```
/// use arcyou_plugin_cases::{Got, VerdictKind};
///
/// let got = Got { code: Some("too_long".to_owned()), ..Got::new(VerdictKind::Reject) };
/// assert_eq!(got.to_string(), "reject, code \"too_long\"");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    /// The verdict.
    pub verdict: VerdictKind,
    /// A rejection's token.
    pub code: Option<String>,
    /// Why it is rejected or held, or how the plugin failed.
    pub reason: Option<String>,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u32>,
    /// The new body of one that was replaced.
    pub body: Option<Value>,
    /// What the plugin noted.
    pub annotations: BTreeMap<String, String>,
}

/// A case that did not come out as it should have. Its text says what differs, one difference a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    line: usize,
    name: String,
    differences: Vec<String>,
}

impl Got {
    /// A verdict alone.
    pub const fn new(verdict: VerdictKind) -> Self {
        Self { verdict, code: None, reason: None, retry_after_ms: None, body: None, annotations: BTreeMap::new() }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, code, reason, retry_after_ms: _, body, annotations: _ } = self;
        f.write_str(verdict.name())?;
        code.iter().try_for_each(|code| write!(f, ", code {code:?}"))?;
        reason.iter().try_for_each(|reason| write!(f, ", reason {reason:?}"))?;
        body.iter().try_for_each(|body| write!(f, ", body {body}"))
    }
}

impl Mismatch {
    /// A case whose message could not even be judged.
    pub fn unjudged(case: &Case, why: impl Into<String>) -> Self {
        Self { line: case.line(), name: case.name().to_owned(), differences: vec![why.into()] }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, name, differences } = self;
        write!(f, "case at line {line}")?;
        if !name.is_empty() {
            write!(f, ", {name:?}")?;
        }
        differences.iter().try_for_each(|difference| write!(f, "\n    {difference}"))
    }
}

impl std::error::Error for Mismatch {}

impl Case {
    /// Whether this came out as the case wants it.
    ///
    /// ```
    /// use arcyou_plugin_cases::{CaseFile, Got, VerdictKind};
    ///
    /// let text = "[[case]]\nbody = { text = \"A\" }\nexpect = { verdict = \"replace\", body = { text = \"a\" } }\n";
    /// let file = CaseFile::parse(text)?;
    /// let got = Got { body: Some(serde_json::json!({"text": "A"})), ..Got::new(VerdictKind::Replace) };
    /// let mismatch = file.cases()[0].compare(&got).unwrap_err();
    /// assert_eq!(mismatch.to_string(), "case at line 1\n    body.text: expected \"a\", got \"A\"");
    /// # Ok::<(), arcyou_plugin_cases::CaseError>(())
    /// ```
    pub fn compare(&self, got: &Got) -> Result<(), Mismatch> {
        let expect = &self.listed.expect;
        let mut differences = Vec::new();
        if expect.verdict == got.verdict {
            differ(&mut differences, "code", expect.code.as_ref(), got.code.as_ref());
            differ(&mut differences, "reason", expect.reason.as_ref(), got.reason.as_ref());
            differ(&mut differences, "retry_after_ms", expect.retry_after_ms.as_ref(), got.retry_after_ms.as_ref());
            if let Some(body) = &expect.body {
                let got = got.body.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
                differ_in_fields(&mut differences, "body", body, &got);
            }
        } else {
            differences.push(format!("expected {}, got {got}", expect.verdict.name()));
        }
        for (key, value) in &expect.annotations {
            differ(&mut differences, &format!("annotations.{key}"), Some(value), got.annotations.get(key));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Mismatch { line: self.line, name: self.name().to_owned(), differences })
    }
}

/// What is not expected may be anything.
fn differ<T: PartialEq + fmt::Debug>(differences: &mut Vec<String>, what: &str, expected: Option<&T>, got: Option<&T>) {
    if let Some(expected) = expected.filter(|expected| Some(*expected) != got) {
        let got = got.map_or_else(|| "none".to_owned(), |got| format!("{got:?}"));
        differences.push(format!("{what}: expected {expected:?}, got {got}"));
    }
}

/// A difference for each field that is another one, so that a long body shows what matters.
fn differ_in_fields(
    differences: &mut Vec<String>,
    path: &str,
    expected: &Map<String, Value>,
    got: &Map<String, Value>,
) {
    for (key, value) in expected {
        let path = format!("{path}.{key}");
        match (value, got.get(key)) {
            (Value::Object(expected), Some(Value::Object(got))) => differ_in_fields(differences, &path, expected, got),
            (value, Some(got)) if value == got => {}
            (value, Some(got)) => differences.push(format!("{path}: expected {value}, got {got}")),
            (value, None) => differences.push(format!("{path}: expected {value}, got none")),
        }
    }
    for (key, value) in got.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        differences.push(format!("{path}.{key}: expected none, got {value}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::CaseFile;

    /// What differs from this expectation, as lines.
    fn differences(expect: &str, got: &Got) -> Vec<String> {
        let file = CaseFile::parse(&format!("[[case]]\nbody = {{}}\nexpect = {expect}\n")).unwrap();
        file.cases()[0].compare(got).err().map(|mismatch| mismatch.differences).unwrap_or_default()
    }

    #[test]
    fn what_is_not_expected_may_be_anything() {
        let got = Got {
            code: Some("c".into()),
            reason: Some("r".into()),
            retry_after_ms: Some(5),
            annotations: [("k".to_owned(), "v".to_owned()), ("l".to_owned(), "w".to_owned())].into(),
            ..Got::new(VerdictKind::Reject)
        };
        for expect in ["\"reject\"", "{ verdict = \"reject\", code = \"c\", annotations = { k = \"v\" } }"] {
            assert!(differences(expect, &got).is_empty());
        }
        let expect = "{ verdict = \"reject\", code = \"d\", reason = \"r\", retry_after_ms = 6, annotations = { k = \"w\", m = \"x\" } }";
        let expected = [
            "code: expected \"d\", got \"c\"",
            "retry_after_ms: expected 6, got 5",
            "annotations.k: expected \"w\", got \"v\"",
            "annotations.m: expected \"x\", got none",
        ];
        assert_eq!(differences(expect, &got), expected);
        assert_eq!(differences("\"accept\"", &got), ["expected accept, got reject, code \"c\", reason \"r\""]);
    }

    #[test]
    fn bodies_differ_in_fields() {
        let got = Got { body: Some(json!({"a": {"b": 1, "c": [1]}, "new": true})), ..Got::new(VerdictKind::Replace) };
        let body = "{ verdict = \"replace\", body = { a = { b = 2, c = [1] }, gone = \"x\" } }";
        let expected =
            ["body.a.b: expected 2, got 1", "body.gone: expected \"x\", got none", "body.new: expected none, got true"];
        assert_eq!(differences(body, &got), expected);
    }
}
