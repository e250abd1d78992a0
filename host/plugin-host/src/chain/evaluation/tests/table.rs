//! The table of all combinations in the SDK's guide matches the evaluation, and it is complete.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use super::super::*;

const CAME: &str = "{}";
const REPLACED: &str = "{\"n\":1}";

type NamedResult = (&'static str, fn() -> HookResult);

/// Every result of a hook, with the table's word for it.
const ANSWERS: [NamedResult; 8] = [
    ("go on", || judged(CheckedVerdict::Accept, vec![])),
    ("go on", || judged(CheckedVerdict::Accept, vec![("key".into(), "value".into())])),
    ("go on", || HookResult::Passed),
    ("reject", || {
        judged(
            CheckedVerdict::Reject(CheckedRejection { code: "c".into(), reason: "r".into(), retry_after_ms: None }),
            vec![],
        )
    }),
    ("discard", || judged(CheckedVerdict::Discard, vec![])),
    ("hold", || judged(CheckedVerdict::Hold("look".into()), vec![])),
    ("fail", || HookResult::Failed("why".into())),
    ("replace", || {
        let limits = BodyLimits { max_bytes: 100, max_depth: 3 };
        judged(CheckedVerdict::Replace(Body::parse(REPLACED, &limits).unwrap()), vec![])
    }),
];

fn judged(verdict: CheckedVerdict, annotations: Vec<(String, String)>) -> HookResult {
    HookResult::Judged(CheckedJudgement { verdict, annotations })
}

/// A validator or a filter. A validator has a second result for a replaced body.
struct Plugin<'a> {
    provenance: Arc<Provenance>,
    hook: Hook,
    answers: [usize; 2],
    asked: &'a RefCell<Vec<(Hook, String)>>,
}

impl Judge for Plugin<'_> {
    fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    fn has(&self, hook: Hook) -> bool {
        self.hook == hook
    }

    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (HookResult, Option<Instant>) {
        self.asked.borrow_mut().push((hook, input.body.to_owned()));
        (ANSWERS[self.answers[usize::from(input.body == REPLACED)]].1(), None)
    }
}

/// The rows of the table, without its header.
fn rows() -> Vec<[&'static str; 5]> {
    let guide = include_str!("../../../../../../plugin-sdk/README.md");
    let table = guide.lines().skip_while(|line| !line.starts_with("| validators, first |")).skip(2);
    let cells =
        |line: &'static str| -> Vec<&'static str> { line.trim_matches('|').split('|').map(str::trim).collect() };
    table.take_while(|line| line.starts_with('|')).map(|line| cells(line).try_into().unwrap()).collect()
}

/// The decision, in the words of the table.
fn describe(decision: &Decision) -> [String; 2] {
    let body = if decision.replacement.is_some() { "as replaced" } else { "as it came" };
    let outcome = match &decision.disposition {
        Disposition::Accepted => format!("stored {body}"),
        Disposition::Held { .. } => format!("held {body}"),
        Disposition::Discarded { .. } => "discarded".to_owned(),
        Disposition::Rejected(_) => "rejected".to_owned(),
        Disposition::Failed { .. } => "failed".to_owned(),
    };
    [outcome, decision.by().map_or("nobody", |by| &by.plugin).to_owned()]
}

#[test]
fn the_guides_table_is_what_happens_in_every_combination() {
    let (rows, mut used) = (rows(), std::collections::BTreeSet::new());
    assert_eq!(rows.len(), 14);
    // A validator must not replace.
    let validators = 0..ANSWERS.len() - 1;
    for first in validators.clone() {
        for filter in 0..ANSWERS.len() {
            for second in validators.clone() {
                let asked = RefCell::default();
                let plugin = |name: &str, hook, answers| {
                    let provenance = Provenance { plugin: name.into(), sha256: "00".into(), version: None };
                    Plugin { provenance: Arc::new(provenance), hook, answers, asked: &asked }
                };
                let chain = [
                    plugin("filter", Hook::Filter, [filter, filter]),
                    plugin("validator", Hook::Validate, [first, second]),
                ];
                let input = HookInput {
                    conversation: "c",
                    sender: "s",
                    role: "member",
                    body: CAME,
                    annotations: &[],
                    edits: None,
                    deadline: None,
                    now: None,
                };
                let decision = evaluate(&chain, &input);
                let answers = [first, filter, second].map(|answer| ANSWERS[answer].0);
                let fits = |row: &[&str; 5]| {
                    let [cells @ .., _, _] = row;
                    cells.iter().zip(answers).all(|(cell, answer)| [answer, "not asked"].contains(cell))
                };
                let fitting: Vec<usize> = (0..rows.len()).filter(|row| fits(&rows[*row])).collect();
                assert_eq!(fitting.len(), 1, "{answers:?}");
                let row = rows[fitting[0]];
                used.insert(fitting[0]);
                assert_eq!(describe(&decision), [row[3], row[4]], "{answers:?}");
                let calls = [(Hook::Validate, CAME), (Hook::Filter, CAME), (Hook::Validate, REPLACED)];
                let expected = calls.into_iter().zip(row).filter(|(_, cell)| *cell != "not asked");
                let expected: Vec<_> = expected.map(|((hook, body), _)| (hook, body.to_owned())).collect();
                assert_eq!(*asked.borrow(), expected, "{answers:?}");
            }
        }
    }
    assert_eq!(used.len(), rows.len(), "a row that no combination matches");
}
