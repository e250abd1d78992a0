//! From what plugins answer to what becomes of the message. Pure: no WebAssembly, no clock.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::contract::{AnnotationResult, Hook, Judgement, Rejection, Verdict};
use super::fault::{Fault, FaultKind};
use super::text::{clip, is_token};
use crate::protocol::body::{Body, BodyLimits};

/// Bytes of a reason that people read.
const REASON_BYTES: usize = 1024;
/// Bytes of an annotation's key, and of its value.
const KEY_BYTES: usize = 64;
const VALUE_BYTES: usize = 1024;
/// Annotations of one judgement.
const MAX_NOTES: usize = 32;

/// A verdict that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accept,
    Reject(Refusal),
    Replace(Body),
    Discard,
    Hold(String),
}

/// Why a plugin refuses a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) retry_after_ms: Option<u32>,
}

/// A plugin's answer that keeps the rules: the verdict, and the keys and values noted beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) outcome: Outcome,
    pub(crate) notes: Vec<(String, String)>,
}

/// Believes nothing: an answer of impossible shape is the plugin's failure, long text is cut.
pub(crate) fn check(hook: Hook, judgement: Judgement, limits: &BodyLimits) -> Result<Judged, Fault> {
    let Judgement { verdict, annotations } = judgement;
    let outcome = match verdict {
        Verdict::Accept => Outcome::Accept,
        Verdict::Reject(Rejection { code, reason, retry_after_ms }) => {
            if !is_token(&code) {
                let code = clip(&code, KEY_BYTES);
                return Err(Fault::new(
                    FaultKind::InvalidVerdict,
                    format!("its code {code:?} is no token [a-z0-9_.-]"),
                ));
            }
            Outcome::Reject(Refusal { code, reason: clip(&reason, REASON_BYTES).into_owned(), retry_after_ms })
        }
        Verdict::Replace(_) if hook != Hook::Filter => {
            return Err(Fault::new(FaultKind::InvalidVerdict, "a validator must not replace the body"));
        }
        Verdict::Replace(text) => {
            let body = Body::parse(&text, limits);
            Outcome::Replace(body.map_err(|error| Fault::new(FaultKind::InvalidReplacement, error.to_string()))?)
        }
        Verdict::Discard => Outcome::Discard,
        Verdict::Hold(reason) => Outcome::Hold(clip(&reason, REASON_BYTES).into_owned()),
    };
    Ok(Judged { outcome, notes: check_notes(annotations)? })
}

fn check_notes(annotations: Vec<AnnotationResult>) -> Result<Vec<(String, String)>, Fault> {
    if annotations.len() > MAX_NOTES {
        let count = annotations.len();
        return Err(Fault::new(FaultKind::InvalidVerdict, format!("{count} annotations, {MAX_NOTES} are allowed")));
    }
    let mut notes = Vec::with_capacity(annotations.len());
    for AnnotationResult { key, value } in annotations {
        if key.is_empty() || key.len() > KEY_BYTES || key.contains(char::is_control) {
            return Err(Fault::new(FaultKind::InvalidVerdict, "an annotation's key has 1 to 64 bytes of plain text"));
        }
        notes.push((key, clip(&value, VALUE_BYTES).into_owned()));
    }
    Ok(notes)
}

/// What a plugin noted about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) plugin: Arc<str>,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A message as one plugin is asked about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) role: &'a str,
    /// As the plugin before left it.
    pub(crate) body: &'a str,
    /// What the plugins before noted.
    pub(crate) notes: &'a [Note],
    /// When all plugins must be done; none: whenever.
    pub(crate) until: Option<Instant>,
    /// The time, if it was just looked at.
    pub(crate) now: Option<Instant>,
}

/// One link of the chain.
pub(crate) trait Judge {
    fn name(&self) -> &Arc<str>;
    fn has(&self, hook: Hook) -> bool;
    /// The answer, and what the time is if it was just looked at.
    fn judge(&self, hook: Hook, draft: &Draft<'_>) -> (Answer, Option<Instant>);
}

/// What asking one plugin came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Judged(Judged),
    /// It failed or was not called, and the message goes on.
    Passed,
    /// It failed or was not called, and the message does not stand.
    Failed,
}

/// How the chain ended for a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    Stands,
    Held(String),
    Discarded,
    Rejected(Refusal),
    Failed,
}

/// What the whole chain came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) ending: Ending,
    /// The plugin that ended the chain, or else the last one that replaced the body.
    pub(crate) decided_by: Option<Arc<str>>,
    /// The last replacement.
    pub(crate) body: Option<Body>,
    pub(crate) notes: Vec<Note>,
}

/// In which order hooks judge a message: every validator sees it as it came; then the filters in their order, each on what
/// the one before left; if one replaced the body, every validator sees the result.
const MESSAGE: &[Hook] = &[Hook::Validate, Hook::Filter, Hook::Validate];
const JOIN: &[Hook] = &[Hook::OnJoin];

/// A judgement under way: whom to ask next, and what the answers come to. The first refusal, discard or hold ends it. Whoever
/// drives it asks, at once or by waiting; the order is the same.
pub(crate) struct Folding<'a, J> {
    judges: &'a [J],
    draft: Draft<'a>,
    stages: &'static [Hook],
    stage: usize,
    next: usize,
    ruling: Ruling,
    ended: bool,
}

/// Judges a message.
#[cfg(test)]
pub(crate) fn fold<J: Judge>(judges: &[J], message: &Draft<'_>) -> Ruling {
    Folding::of_message(judges, message).run()
}

impl<'a, J: Judge> Folding<'a, J> {
    /// Of a message on its way to the store.
    pub(crate) fn of_message(judges: &'a [J], draft: &Draft<'a>) -> Self {
        Self::new(judges, draft, MESSAGE)
    }

    /// Of a user who joins.
    pub(crate) fn of_join(judges: &'a [J], draft: &Draft<'a>) -> Self {
        Self::new(judges, draft, JOIN)
    }

    fn new(judges: &'a [J], draft: &Draft<'a>, stages: &'static [Hook]) -> Self {
        Self { judges, draft: *draft, stages, stage: 0, next: 0, ruling: Ruling::default(), ended: false }
    }

    /// Asks one after the other, at once.
    pub(crate) fn run(mut self) -> Ruling {
        while let Some((judge, hook)) = self.next() {
            let (answer, now) = judge.judge(hook, &self.draft());
            self.hear(judge, answer, now);
        }
        self.ruling()
    }

    /// Whom to ask, and for what.
    pub(crate) fn next(&mut self) -> Option<(&'a J, Hook)> {
        while !self.ended {
            let hook = *self.stages.get(self.stage)?;
            while let Some(judge) = self.judges.get(self.next) {
                self.next += 1;
                if judge.has(hook) {
                    return Some((judge, hook));
                }
            }
            if hook == Hook::Filter && self.ruling.body.is_none() {
                return None;
            }
            (self.stage, self.next) = (self.stage + 1, 0);
        }
        None
    }

    /// The message as the next one is asked about it.
    pub(crate) fn draft(&self) -> Draft<'_> {
        let body = self.ruling.body.as_ref().map_or(self.draft.body, Body::as_str);
        Draft { body, notes: &self.ruling.notes, ..self.draft }
    }

    /// Takes the answer of the one that was asked.
    pub(crate) fn hear(&mut self, judge: &J, answer: Answer, now: Option<Instant>) {
        self.draft.now = now;
        self.ended = self.ruling.hear(judge, answer).is_break();
    }

    pub(crate) fn ruling(self) -> Ruling {
        self.ruling
    }
}

impl Ruling {
    fn hear<J: Judge>(&mut self, judge: &J, answer: Answer) -> ControlFlow<()> {
        let judged = match answer {
            Answer::Judged(judged) => judged,
            Answer::Passed => return ControlFlow::Continue(()),
            Answer::Failed => return self.end(judge, Ending::Failed),
        };
        for (key, value) in judged.notes {
            // A validator that sees the message twice says its last word the second time.
            self.notes.retain(|note| note.plugin != *judge.name() || note.key != key);
            self.notes.push(Note { plugin: judge.name().clone(), key, value });
        }
        match judged.outcome {
            Outcome::Accept => ControlFlow::Continue(()),
            Outcome::Replace(body) => {
                self.body = Some(body);
                self.decided_by = Some(judge.name().clone());
                ControlFlow::Continue(())
            }
            Outcome::Reject(refusal) => self.end(judge, Ending::Rejected(refusal)),
            Outcome::Discard => self.end(judge, Ending::Discarded),
            Outcome::Hold(reason) => self.end(judge, Ending::Held(reason)),
        }
    }

    fn end<J: Judge>(&mut self, judge: &J, ending: Ending) -> ControlFlow<()> {
        self.ending = ending;
        self.decided_by = Some(judge.name().clone());
        ControlFlow::Break(())
    }
}
