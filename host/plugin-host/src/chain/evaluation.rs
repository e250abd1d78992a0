//! The rules by which the results of hooks decide about a message. Pure: no WebAssembly, no clock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use arcyou_protocol::body::{Body, BodyLimits};

use super::provenance::Provenance;
use crate::bindings::{self, AnnotationResult, Hook, Judgement, Verdict};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::input::{Annotation, HookInput};
use crate::text::{is_token, sanitize};

/// Bytes of a reason.
pub(super) const REASON_BYTES: usize = 1024;
/// Bytes of an annotation's key and of its value.
const KEY_BYTES: usize = 64;
const VALUE_BYTES: usize = 1024;
/// Annotations of one judgement.
const MAX_ANNOTATIONS: usize = 32;

/// A verdict that follows the rules of its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckedVerdict {
    Accept,
    Reject(CheckedRejection),
    Replace(Body),
    Discard,
    Hold(String),
}

/// A rejection whose code and reason follow the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedRejection {
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) retry_after_ms: Option<u32>,
}

/// A judgement that follows the rules: the verdict, and the keys and values of its annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedJudgement {
    pub(crate) verdict: CheckedVerdict,
    pub(crate) annotations: Vec<(String, String)>,
}

/// Checks a plugin's judgement, which is not trusted. An invalid one is a fault of the plugin; text that is too long is
/// cut off.
pub(crate) fn check_judgement(
    hook: Hook,
    judgement: Judgement,
    limits: &BodyLimits,
) -> Result<CheckedJudgement, Fault> {
    let Judgement { verdict, annotations } = judgement;
    let verdict = match verdict {
        Verdict::Accept => CheckedVerdict::Accept,
        Verdict::Reject(bindings::Rejection { code, reason, retry_after_ms }) => {
            if !is_token(&code) {
                let code = sanitize(&code, KEY_BYTES);
                return Err(Fault::new(
                    FaultKind::InvalidVerdict,
                    format!("its code {code:?} is no token [a-z0-9_.-]"),
                ));
            }
            CheckedVerdict::Reject(CheckedRejection {
                code,
                reason: sanitize(&reason, REASON_BYTES).into_owned(),
                retry_after_ms,
            })
        }
        Verdict::Replace(_) if hook != Hook::Filter => {
            return Err(Fault::new(FaultKind::InvalidVerdict, "a validator must not replace the body"));
        }
        Verdict::Replace(text) => {
            let body = Body::parse(&text, limits);
            CheckedVerdict::Replace(body.map_err(|error| Fault::new(FaultKind::InvalidReplacement, error.to_string()))?)
        }
        Verdict::Discard => CheckedVerdict::Discard,
        Verdict::Hold(reason) => CheckedVerdict::Hold(sanitize(&reason, REASON_BYTES).into_owned()),
    };
    Ok(CheckedJudgement { verdict, annotations: check_annotations(annotations)? })
}

fn check_annotations(annotations: Vec<AnnotationResult>) -> Result<Vec<(String, String)>, Fault> {
    if annotations.len() > MAX_ANNOTATIONS {
        let count = annotations.len();
        return Err(Fault::new(
            FaultKind::InvalidVerdict,
            format!("{count} annotations, {MAX_ANNOTATIONS} are allowed"),
        ));
    }
    let mut checked = Vec::with_capacity(annotations.len());
    for AnnotationResult { key, value } in annotations {
        if key.is_empty() || key.len() > KEY_BYTES || key.contains(char::is_control) {
            return Err(Fault::new(FaultKind::InvalidVerdict, "an annotation's key has 1 to 64 bytes of plain text"));
        }
        checked.push((key, sanitize(&value, VALUE_BYTES).into_owned()));
    }
    Ok(checked)
}

/// A plugin, as the evaluation sees it.
pub(crate) trait Judge {
    fn provenance(&self) -> &Arc<Provenance>;
    fn has(&self, hook: Hook) -> bool;
    /// Calls a hook. Returns its result, and the current time if the clock was read.
    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (HookResult, Option<Instant>);
}

/// The result of one hook of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HookResult {
    Judged(CheckedJudgement),
    /// No effect: the plugin failed, was not called or is only observed, and the message continues.
    Passed,
    /// The plugin failed or was not called, and its `on_error` rejects the message. For operators: why.
    Failed(Cow<'static, str>),
}

/// What the chain decides about a message, and which plugin decided it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Disposition {
    /// It is stored.
    #[default]
    Accepted,
    /// It is kept for review.
    Held { by: Arc<Provenance>, reason: String },
    /// It is acknowledged to the sender and not stored.
    Discarded { by: Arc<Provenance> },
    /// A plugin rejects it.
    Rejected(Rejection),
    /// A plugin failed or was not called, and its `on_error` rejects the message.
    Failed { by: Arc<Provenance>, reason: Cow<'static, str> },
}

/// Why a plugin rejects a message or a join. The sender sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin. The sender sees its name.
    pub by: Arc<Provenance>,
    /// The plugin's own code: `[a-z0-9_.-]`, 1 to 64 bytes.
    pub code: String,
    /// A sentence for people, without control characters, at most 1 KiB.
    pub reason: String,
    /// When a retry makes sense.
    pub retry_after_ms: Option<u32>,
}

/// The body that replaces the sender's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The last plugin that replaced it.
    pub by: Arc<Provenance>,
    pub body: Body,
}

/// The result of the whole chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub disposition: Disposition,
    /// The last replacement, if there was one.
    pub replacement: Option<Replacement>,
    pub(crate) annotations: Vec<Annotation>,
}

impl Disposition {
    /// The plugin that ended the chain. None if the message is accepted.
    pub fn by(&self) -> Option<&Arc<Provenance>> {
        match self {
            Self::Accepted => None,
            Self::Held { by, .. } | Self::Discarded { by } | Self::Failed { by, .. } => Some(by),
            Self::Rejected(rejection) => Some(&rejection.by),
        }
    }
}

impl From<Disposition> for Decision {
    fn from(disposition: Disposition) -> Self {
        Self { disposition, ..Self::default() }
    }
}

impl Decision {
    /// The plugin that ended the chain, or else the last one that replaced the body.
    pub fn by(&self) -> Option<&Arc<Provenance>> {
        self.disposition.by().or(self.replacement.as_ref().map(|replacement| &replacement.by))
    }

    /// The annotations as JSON text, with an object for each plugin: `{"plugin":{"key":"value"}}`.
    pub fn annotations_json(&self) -> Option<String> {
        if self.annotations.is_empty() {
            return None;
        }
        let mut by_plugin: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for Annotation { plugin, key, value } in &self.annotations {
            by_plugin.entry(plugin).or_default().insert(key, value);
        }
        serde_json::to_string(&by_plugin).ok()
    }
}

/// The order of hooks for a message. First every validator sees it as it was sent. Then the filters run in their order,
/// each on the result of the one before. If one replaced the body, every validator sees the result.
const MESSAGE_STAGES: &[Hook] = &[Hook::Validate, Hook::Filter, Hook::Validate];
const JOIN_STAGES: &[Hook] = &[Hook::OnJoin];

/// A running evaluation: which judge comes next, and the decision so far. The first rejection, discard or hold ends it.
/// The caller calls the judges, with or without waiting; the order is the same.
pub(crate) struct Evaluation<'a, J> {
    judges: &'a [J],
    input: HookInput<'a>,
    stages: &'static [Hook],
    stage: usize,
    next: usize,
    decision: Decision,
    ended: bool,
}

/// Evaluates a message.
#[cfg(test)]
pub(crate) fn evaluate<J: Judge>(judges: &[J], message: &HookInput<'_>) -> Decision {
    Evaluation::of_message(judges, message).run()
}

impl<'a, J: Judge> Evaluation<'a, J> {
    /// The evaluation of a message.
    pub(crate) fn of_message(judges: &'a [J], input: &HookInput<'a>) -> Self {
        Self::new(judges, input, MESSAGE_STAGES)
    }

    /// The evaluation of a join.
    pub(crate) fn of_join(judges: &'a [J], input: &HookInput<'a>) -> Self {
        Self::new(judges, input, JOIN_STAGES)
    }

    fn new(judges: &'a [J], input: &HookInput<'a>, stages: &'static [Hook]) -> Self {
        Self { judges, input: *input, stages, stage: 0, next: 0, decision: Decision::default(), ended: false }
    }

    /// Calls all judges, one after the other, without waiting.
    pub(crate) fn run(mut self) -> Decision {
        while let Some((judge, hook)) = self.next_judge() {
            let (result, now) = judge.judge(hook, &self.input());
            self.apply(judge, result, now);
        }
        self.into_decision()
    }

    /// The next judge and the hook to call.
    pub(crate) fn next_judge(&mut self) -> Option<(&'a J, Hook)> {
        while !self.ended {
            let hook = *self.stages.get(self.stage)?;
            while let Some(judge) = self.judges.get(self.next) {
                self.next += 1;
                if judge.has(hook) {
                    return Some((judge, hook));
                }
            }
            if hook == Hook::Filter && self.decision.replacement.is_none() {
                return None;
            }
            (self.stage, self.next) = (self.stage + 1, 0);
        }
        None
    }

    /// The input for the next judge.
    pub(crate) fn input(&self) -> HookInput<'_> {
        let replacement = self.decision.replacement.as_ref();
        let body = replacement.map_or(self.input.body, |replacement| replacement.body.as_str());
        HookInput { body, annotations: &self.decision.annotations, ..self.input }
    }

    /// Applies the result of the last judge.
    pub(crate) fn apply(&mut self, judge: &J, result: HookResult, now: Option<Instant>) {
        self.input.now = now;
        self.ended = self.decision.apply(judge, result).is_break();
    }

    pub(crate) fn into_decision(self) -> Decision {
        self.decision
    }
}

impl Decision {
    fn apply<J: Judge>(&mut self, judge: &J, result: HookResult) -> ControlFlow<()> {
        let by = judge.provenance();
        let judged = match result {
            HookResult::Judged(judged) => judged,
            HookResult::Passed => return ControlFlow::Continue(()),
            HookResult::Failed(reason) => return self.end(Disposition::Failed { by: by.clone(), reason }),
        };
        for (key, value) in judged.annotations {
            // A validator may run twice. Its second annotation replaces the first.
            self.annotations.retain(|annotation| annotation.plugin != by.plugin || annotation.key != key);
            self.annotations.push(Annotation { plugin: by.plugin.clone(), key, value });
        }
        let by = by.clone();
        match judged.verdict {
            CheckedVerdict::Accept => ControlFlow::Continue(()),
            CheckedVerdict::Replace(body) => {
                self.replacement = Some(Replacement { by, body });
                ControlFlow::Continue(())
            }
            CheckedVerdict::Reject(CheckedRejection { code, reason, retry_after_ms }) => {
                self.end(Disposition::Rejected(Rejection { by, code, reason, retry_after_ms }))
            }
            CheckedVerdict::Discard => self.end(Disposition::Discarded { by }),
            CheckedVerdict::Hold(reason) => self.end(Disposition::Held { by, reason }),
        }
    }

    fn end(&mut self, disposition: Disposition) -> ControlFlow<()> {
        self.disposition = disposition;
        ControlFlow::Break(())
    }
}

#[cfg(test)]
mod tests;
