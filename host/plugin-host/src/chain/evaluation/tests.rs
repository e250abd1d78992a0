//! The fold against a model, and the checks on what plugins answer.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const LIMITS: BodyLimits = BodyLimits { max_bytes: 200, max_depth: 4 };

fn body(text: &str) -> Body {
    Body::parse(text, &LIMITS).unwrap()
}

/// What a scripted plugin does with each message.
#[derive(Debug, Clone)]
enum Act {
    Accept,
    Note,
    Reject,
    Replace(u8),
    Discard,
    Hold,
    Pass,
    Fail,
    /// Accepts the original and refuses whatever came out of a filter.
    RejectReplaced,
}

#[derive(Debug, Clone)]
struct Scripted {
    provenance: Arc<Provenance>,
    validates: Option<Act>,
    filters: Option<Act>,
    calls: Arc<Mutex<Vec<(usize, Hook, String)>>>,
    index: usize,
}

impl Judge for Scripted {
    fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    fn has(&self, hook: Hook) -> bool {
        self.act(hook).is_some()
    }

    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (Answer, Option<Instant>) {
        self.calls.lock().unwrap().push((self.index, hook, input.body.to_owned()));
        (answer(self.act(hook).unwrap(), input.body), None)
    }
}

impl Scripted {
    fn act(&self, hook: Hook) -> Option<&Act> {
        match hook {
            Hook::Validate => self.validates.as_ref(),
            Hook::Filter => self.filters.as_ref(),
            Hook::OnJoin => None,
        }
    }
}

fn provenance(plugin: &str) -> Arc<Provenance> {
    Arc::new(Provenance { plugin: plugin.into(), sha256: "00".into(), version: None })
}

fn refusal() -> Refusal {
    Refusal { code: "no".into(), reason: "because".into(), retry_after_ms: Some(1) }
}

fn answer(act: &Act, seen: &str) -> Answer {
    let outcome = match act {
        Act::Accept | Act::Note => Outcome::Accept,
        Act::RejectReplaced if seen == "{}" => Outcome::Accept,
        Act::Reject | Act::RejectReplaced => Outcome::Reject(refusal()),
        Act::Replace(n) => Outcome::Replace(body(&format!("{{\"n\":{n}}}"))),
        Act::Discard => Outcome::Discard,
        Act::Hold => Outcome::Hold("look".into()),
        Act::Pass => return Answer::Passed,
        Act::Fail => return Answer::Failed,
    };
    let notes = if matches!(act, Act::Note) { vec![("seen".into(), seen.into())] } else { vec![] };
    Answer::Judged(Judged { outcome, notes })
}

fn act(filter: bool) -> impl Strategy<Value = Option<Act>> {
    let common = prop_oneof![
        6 => Just(Act::Accept), 3 => Just(Act::Note), 1 => Just(Act::Reject), 1 => Just(Act::Discard),
        1 => Just(Act::Hold), 1 => Just(Act::Pass), 1 => Just(Act::Fail)
    ];
    let own = if filter { any::<u8>().prop_map(Act::Replace).boxed() } else { Just(Act::RejectReplaced).boxed() };
    prop::option::of(prop_oneof![4 => common, 1 => own])
}

fn chain() -> impl Strategy<Value = Vec<Scripted>> {
    prop::collection::vec((act(false), act(true)), 0..6).prop_map(|acts| {
        let calls = Arc::default();
        let scripted = |(index, (validates, filters))| {
            let provenance = provenance(&format!("p{index}"));
            Scripted { provenance, validates, filters, calls: Arc::clone(&calls), index }
        };
        acts.into_iter().enumerate().map(scripted).collect()
    })
}

/// The rules once more, as plainly as can be: the list of calls that must happen, and how it ends.
fn model(chain: &[Scripted]) -> (Vec<(usize, Hook, String)>, Disposition, Option<usize>) {
    let (mut calls, mut seen, mut decided) = (Vec::new(), "{}".to_owned(), None);
    for pass in 0..3 {
        let hook = if pass == 1 { Hook::Filter } else { Hook::Validate };
        if pass == 2 && seen == "{}" {
            continue;
        }
        for plugin in chain {
            let Some(act) = plugin.act(hook) else { continue };
            calls.push((plugin.index, hook, seen.clone()));
            let by = plugin.provenance.clone();
            let disposition = match answer(act, &seen) {
                Answer::Passed => continue,
                Answer::Failed => Disposition::Failed { by },
                Answer::Judged(Judged { outcome: Outcome::Accept, .. }) => continue,
                Answer::Judged(Judged { outcome: Outcome::Replace(body), .. }) => {
                    body.as_str().clone_into(&mut seen);
                    decided = Some(plugin.index);
                    continue;
                }
                Answer::Judged(Judged {
                    outcome: Outcome::Reject(Refusal { code, reason, retry_after_ms }), ..
                }) => Disposition::Rejected(Rejection { by, code, reason, retry_after_ms }),
                Answer::Judged(Judged { outcome: Outcome::Discard, .. }) => Disposition::Discarded { by },
                Answer::Judged(Judged { outcome: Outcome::Hold(reason), .. }) => Disposition::Held { by, reason },
            };
            return (calls, disposition, Some(plugin.index));
        }
    }
    (calls, Disposition::Stands, decided)
}

fn judge(chain: &[Scripted]) -> Decision {
    fold(
        chain,
        &HookInput { conversation: "c", sender: "s", role: "member", body: "{}", notes: &[], until: None, now: None },
    )
}

proptest! {
    #[test]
    fn the_fold_keeps_the_rules(chain in chain()) {
        let decision = judge(&chain);
        let (calls, disposition, decided) = model(&chain);
        if let Some(first) = chain.first() {
            prop_assert_eq!(&*first.calls.lock().unwrap(), &calls);
        }
        prop_assert_eq!(&decision.disposition, &disposition);
        prop_assert_eq!(decision.by(), decided.map(|index| &chain[index].provenance));
        // What stands was accepted, as it is, by every validator that did not fail.
        let last = decision.replacement.as_ref().map_or("{}", |replacement| replacement.body.as_str());
        if decision.disposition == Disposition::Stands {
            for plugin in chain.iter().filter(|plugin| plugin.has(Hook::Validate)) {
                prop_assert!(calls.contains(&(plugin.index, Hook::Validate, last.to_owned())));
            }
        }
        // Each plugin says a thing once, and last about what it saw last.
        for (at, note) in decision.notes.iter().enumerate() {
            prop_assert!(!decision.notes[at + 1..].iter().any(|later| later.plugin == note.plugin && later.key == note.key));
        }
    }

    #[test]
    fn no_answer_is_believed_blindly(code in any::<String>(), reason in any::<String>(), key in any::<String>()) {
        let rejection = bindings::Rejection { code, reason: reason.repeat(20), retry_after_ms: None };
        if let Ok(judged) = check(Hook::Filter, judgement(Verdict::Reject(rejection)), &LIMITS) {
            let Outcome::Reject(refusal) = judged.outcome else { panic!("it was a refusal") };
            prop_assert!(refusal.reason.len() <= 1024 && !refusal.reason.contains(char::is_control));
            prop_assert!(refusal.code.is_ascii() && refusal.code.len() <= 64);
        }
        let note = AnnotationResult { key, value: reason };
        let _ = check(Hook::Validate, Judgement { verdict: Verdict::Accept, annotations: vec![note] }, &LIMITS);
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    Judgement { verdict, annotations: Vec::new() }
}

fn fault(hook: Hook, judgement: Judgement) -> FaultKind {
    check(hook, judgement, &LIMITS).unwrap_err().kind
}

#[test]
fn impossible_answers_are_failures() {
    let replace = |text: &str| judgement(Verdict::Replace(text.to_owned()));
    assert_eq!(fault(Hook::Validate, replace("{}")), FaultKind::InvalidVerdict);
    for garbage in [
        "",
        "[]",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1e999}",
        "{\"a\":\"\\u0000\"}",
        &format!("{{\"a\":\"{}\"}}", "x".repeat(200)),
    ] {
        assert_eq!(fault(Hook::Filter, replace(garbage)), FaultKind::InvalidReplacement, "{garbage}");
    }
    let notes = |count: usize, key: &str| Judgement {
        verdict: Verdict::Accept,
        annotations: (0..count).map(|_| AnnotationResult { key: key.into(), value: "v".into() }).collect(),
    };
    assert_eq!(fault(Hook::Filter, notes(33, "k")), FaultKind::InvalidVerdict);
    assert_eq!(fault(Hook::Filter, notes(1, "")), FaultKind::InvalidVerdict);
    assert_eq!(fault(Hook::Filter, notes(1, "a\0")), FaultKind::InvalidVerdict);
    assert!(check(Hook::Filter, notes(32, "k"), &LIMITS).is_ok());
}

#[test]
fn a_replacement_is_made_canonical() {
    let judged = check(Hook::Filter, judgement(Verdict::Replace(" { \"a\" : 1 } ".into())), &LIMITS).unwrap();
    assert_eq!(judged.outcome, Outcome::Replace(body("{\"a\":1}")));
}

#[test]
fn annotations_are_an_object_for_each_plugin() {
    let note = |plugin: &str, key: &str| Note { plugin: plugin.into(), key: key.into(), value: "v\"".into() };
    let notes = vec![note("b", "x"), note("a", "x"), note("a", "y")];
    let decision = Decision { notes, ..Decision::default() };
    assert_eq!(decision.annotations().as_deref(), Some(r#"{"a":{"x":"v\"","y":"v\""},"b":{"x":"v\""}}"#));
    assert_eq!(Decision::default().annotations(), None);
}
