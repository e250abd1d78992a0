//! The evaluation against a model, and the checks of plugins' judgements.

#![allow(clippy::unwrap_used)]

mod table;

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
    Annotate,
    Reject,
    Replace(u8),
    Discard,
    Hold,
    Pass,
    Fail,
    /// Accepts the original body and rejects any replacement.
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

    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (HookResult, Option<Instant>) {
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

fn rejection() -> CheckedRejection {
    CheckedRejection { code: "no".into(), reason: "because".into(), retry_after_ms: Some(1) }
}

fn answer(act: &Act, seen: &str) -> HookResult {
    let verdict = match act {
        Act::Accept | Act::Annotate => CheckedVerdict::Accept,
        Act::RejectReplaced if seen == "{}" => CheckedVerdict::Accept,
        Act::Reject | Act::RejectReplaced => CheckedVerdict::Reject(rejection()),
        Act::Replace(n) => CheckedVerdict::Replace(body(&format!("{{\"n\":{n}}}"))),
        Act::Discard => CheckedVerdict::Discard,
        Act::Hold => CheckedVerdict::Hold("look".into()),
        Act::Pass => return HookResult::Passed,
        Act::Fail => return HookResult::Failed("why".into()),
    };
    let annotations = if matches!(act, Act::Annotate) { vec![("seen".into(), seen.into())] } else { vec![] };
    HookResult::Judged(CheckedJudgement { verdict, annotations })
}

fn act(filter: bool) -> impl Strategy<Value = Option<Act>> {
    let common = prop_oneof![
        6 => Just(Act::Accept), 3 => Just(Act::Annotate), 1 => Just(Act::Reject), 1 => Just(Act::Discard),
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

/// The rules once more, as plainly as possible: the list of calls that must happen, and the result.
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
                HookResult::Passed => continue,
                HookResult::Failed(reason) => Disposition::Failed { by, reason },
                HookResult::Judged(CheckedJudgement { verdict: CheckedVerdict::Accept, .. }) => continue,
                HookResult::Judged(CheckedJudgement { verdict: CheckedVerdict::Replace(body), .. }) => {
                    body.as_str().clone_into(&mut seen);
                    decided = Some(plugin.index);
                    continue;
                }
                HookResult::Judged(CheckedJudgement {
                    verdict: CheckedVerdict::Reject(CheckedRejection { code, reason, retry_after_ms }),
                    ..
                }) => Disposition::Rejected(Rejection { by, code, reason, retry_after_ms }),
                HookResult::Judged(CheckedJudgement { verdict: CheckedVerdict::Discard, .. }) => {
                    Disposition::Discarded { by }
                }
                HookResult::Judged(CheckedJudgement { verdict: CheckedVerdict::Hold(reason), .. }) => {
                    Disposition::Held { by, reason }
                }
            };
            return (calls, disposition, Some(plugin.index));
        }
    }
    (calls, Disposition::Accepted, decided)
}

fn judge(chain: &[Scripted]) -> Decision {
    evaluate(
        chain,
        &HookInput {
            conversation: "c",
            sender: "s",
            role: "member",
            body: "{}",
            annotations: &[],
            edits: None,
            deadline: None,
            now: None,
        },
    )
}

proptest! {
    #[test]
    fn the_evaluation_follows_the_rules(chain in chain()) {
        let decision = judge(&chain);
        let (calls, disposition, decided) = model(&chain);
        if let Some(first) = chain.first() {
            prop_assert_eq!(&*first.calls.lock().unwrap(), &calls);
        }
        prop_assert_eq!(&decision.disposition, &disposition);
        prop_assert_eq!(decision.by(), decided.map(|index| &chain[index].provenance));
        // A body that is stored was accepted by every validator that did not fail.
        let last = decision.replacement.as_ref().map_or("{}", |replacement| replacement.body.as_str());
        if decision.disposition == Disposition::Accepted {
            for plugin in chain.iter().filter(|plugin| plugin.has(Hook::Validate)) {
                prop_assert!(calls.contains(&(plugin.index, Hook::Validate, last.to_owned())));
            }
        }
        // Each plugin has one annotation per key.
        for (at, note) in decision.annotations.iter().enumerate() {
            let is_same = |later: &Annotation| later.plugin == note.plugin && later.key == note.key;
            prop_assert!(!decision.annotations[at + 1..].iter().any(is_same));
        }
    }

    #[test]
    fn judgements_are_always_checked(code in any::<String>(), reason in any::<String>(), key in any::<String>()) {
        let rejection = bindings::Rejection { code, reason: reason.repeat(20), retry_after_ms: None };
        if let Ok(judged) = check_judgement(Hook::Filter, judgement(Verdict::Reject(rejection)), &LIMITS) {
            let CheckedVerdict::Reject(rejection) = judged.verdict else { panic!("it was a rejection") };
            prop_assert!(rejection.reason.len() <= 1024 && !rejection.reason.contains(char::is_control));
            prop_assert!(rejection.code.is_ascii() && rejection.code.len() <= 64);
        }
        let annotations = vec![AnnotationResult { key, value: reason }];
        let _ = check_judgement(Hook::Validate, Judgement { verdict: Verdict::Accept, annotations }, &LIMITS);
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    Judgement { verdict, annotations: Vec::new() }
}

fn fault(hook: Hook, judgement: Judgement) -> FaultKind {
    check_judgement(hook, judgement, &LIMITS).unwrap_err().kind
}

#[test]
fn invalid_judgements_are_faults() {
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
    assert!(check_judgement(Hook::Filter, notes(32, "k"), &LIMITS).is_ok());
}

#[test]
fn a_replacement_is_made_canonical() {
    let judged = check_judgement(Hook::Filter, judgement(Verdict::Replace(" { \"a\" : 1 } ".into())), &LIMITS).unwrap();
    assert_eq!(judged.verdict, CheckedVerdict::Replace(body("{\"a\":1}")));
}

#[test]
fn annotations_are_an_object_for_each_plugin() {
    let note = |plugin: &str, key: &str| Annotation { plugin: plugin.into(), key: key.into(), value: "v\"".into() };
    let annotations = vec![note("b", "x"), note("a", "x"), note("a", "y")];
    let decision = Decision { annotations, ..Decision::default() };
    assert_eq!(decision.annotations_json().as_deref(), Some(r#"{"a":{"x":"v\"","y":"v\""},"b":{"x":"v\""}}"#));
    assert_eq!(Decision::default().annotations_json(), None);
}
