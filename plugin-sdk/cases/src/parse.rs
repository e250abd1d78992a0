//! From text to cases.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml::Spanned;

use crate::{Case, CaseError, CaseFile, Expect, Listed, VerdictKind};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    config: Option<Map<String, Value>>,
    #[serde(default)]
    case: Vec<Spanned<Listed>>,
}

impl CaseFile {
    /// Reads TOML, or JSON lines, which begin with `{`. The error shows the line.
    ///
    /// ```
    /// use arcyou_plugin_cases::CaseFile;
    ///
    /// let file = CaseFile::parse(r#"{"body": {"text": "hi"}, "expect": "accept"}"#)?;
    /// assert_eq!(file.cases()[0].body(), serde_json::json!({"text": "hi"}));
    /// let slip = CaseFile::parse("[[case]]\nbody = {}\nexpect = \"acept\"\n").unwrap_err();
    /// assert!(slip.to_string().contains("line 3"));
    /// # Ok::<(), arcyou_plugin_cases::CaseError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let file = if text.trim_start().starts_with('{') { lines(text)? } else { table(text)? };
        if file.cases.is_empty() {
            return Err(CaseError("there is no [[case]] in it".to_owned()));
        }
        Ok(file)
    }
}

fn table(text: &str) -> Result<CaseFile, CaseError> {
    let Table { config, case } = toml::from_str(text).map_err(|error| CaseError(error.to_string()))?;
    let line = |offset: usize| 1 + text[..offset].matches('\n').count();
    let cases = case.into_iter().map(|case| Case { line: line(case.span().start), listed: case.into_inner() });
    Ok(CaseFile { config, cases: cases.collect() })
}

fn lines(text: &str) -> Result<CaseFile, CaseError> {
    let mut cases = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let listed = serde_json::from_str(text).map_err(|error| CaseError(format!("line {line}: {error}")))?;
        cases.push(Case { line, listed });
    }
    Ok(CaseFile { config: None, cases })
}

/// `"accept"`, or a table with what goes with the verdict.
pub(crate) fn expect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Expect, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Expect;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a verdict such as \"accept\", or a table with one")
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Expect, E> {
            let verdict = VerdictKind::deserialize(serde::de::value::StrDeserializer::new(name))?;
            Ok(Expect { verdict, code: None, reason: None, retry_after_ms: None, body: None, annotations: [].into() })
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Expect, M::Error> {
            let expect = Expect::deserialize(MapAccessDeserializer::new(map))?;
            expect.check().map_err(M::Error::custom)?;
            Ok(expect)
        }
    }

    deserializer.deserialize_any(Either)
}

impl Expect {
    /// What goes with another verdict can never come true.
    fn check(&self) -> Result<(), String> {
        use VerdictKind::{Hold, Reject, Replace};
        let Self { verdict, code, reason, retry_after_ms, body, annotations: _ } = self;
        let rules = [
            ("code", code.is_some(), &[Reject][..]),
            ("reason", reason.is_some(), &[Reject, Hold]),
            ("retry_after_ms", retry_after_ms.is_some(), &[Reject]),
            ("body", body.is_some(), &[Replace]),
        ];
        match rules.into_iter().find(|(_, given, goes_with)| *given && !goes_with.contains(verdict)) {
            Some((key, ..)) => Err(format!("`{key}` does not go with the verdict {:?}", verdict.name())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(text: &str) -> String {
        CaseFile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn cases_know_their_lines() {
        let text = "# one\n\n[[case]]\nbody = {}\nexpect = \"hold\"\n\n[[case]]\nname = \"b\"\nexpect = \"fail\"\n[case.body]\nn = 1\n";
        let file = CaseFile::parse(text).unwrap();
        let found: Vec<_> = file.cases().iter().map(|case| (case.line(), case.name(), case.body())).collect();
        assert_eq!(found, [(3, "", json!({})), (7, "b", json!({"n": 1}))]);
        let file =
            CaseFile::parse("{\"body\":{},\"expect\":\"hold\"}\n\n{\"body\":{},\"expect\":{\"verdict\":\"fail\"}}\n")
                .unwrap();
        assert_eq!(file.cases().iter().map(Case::line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_cases_configuration_lies_over_the_files_and_that_over_the_plugins() {
        let case = "[[case]]\nconfig = { a = 2 }\nbody = {}\nexpect = \"accept\"\n";
        let config = |text: &str| {
            let file = CaseFile::parse(text).unwrap();
            file.config(&file.cases()[0], &json!({"a": 0, "c": 0}))
        };
        assert_eq!(config(case), json!({"a": 2, "c": 0}));
        assert_eq!(config(&format!("[config]\na = 1\nb = 1\n{case}")), json!({"a": 2, "b": 1}));
        assert_eq!(config(&format!("[config]\n{case}")), json!({"a": 2}));
    }

    #[test]
    fn slips_are_shown_with_their_line() {
        for (text, line, word) in [
            ("[[cases]]\n", "line 1", "cases"),
            ("[[case]]\nbody = 1\nexpect = \"accept\"\n", "line 2", "map"),
            ("[[case]]\nbody = {}\nexpect = \"acept\"\n", "line 3", "acept"),
            ("[[case]]\nbody = {}\nexpect = 1\n", "line 3", "such as"),
            ("[[case]]\nbody = {}\nexpect = { verdict = \"hold\", code = \"x\" }\n", "line 3", "`code` does not go"),
            ("[[case]]\nbody = {}\nedits = {}\nexpect = \"hold\"\n", "line 3", "body"),
            ("[[case]]\nbody = {}\nedits = { body = {}, version = 0 }\nexpect = \"hold\"\n", "line 3", "nonzero"),
            ("[[case]]\nbody = {}\nedits = { body = {}, id = 7 }\nexpect = \"hold\"\n", "line 3", "message_id"),
            ("[[case]]\nbody = {}\nexpect = { code = \"x\" }\n", "line 3", "verdict"),
            ("{\"body\":{},\"expect\":\"hold\"}\n{\"body\":{}}\n", "line 2", "expect"),
            ("[config]\n", "no [[case]]", ""),
        ] {
            let error = error(text);
            assert!(error.contains(line) && error.contains(word), "{text}: {error}");
        }
    }
}
