//! One plugin of the chain: its instances, its breaker, and what is counted about it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arcyou_protocol::body::BodyLimits;

use super::blocking::BlockingHint;
use super::breaker::{Breaker, BreakerState};
use super::counts::Counts;
use super::evaluation::{Answer, Judge, Judged, Outcome, Refusal, check};
use super::meters::{Meters, VERDICTS, verdict_index};
use super::observer::{CallResult, ObserverSlot};
use super::provenance::Provenance;
use super::record::{Failure, Recorder, Recording, Subject};
use super::status::PluginStatus;
use crate::bindings::{AnnotationParam, Hook, Judgement, Message};
use crate::capabilities::{Granted, Services};
use crate::digest::hex;
use crate::manifest::{BreakerConfig, Entry, Mode, OnError, Share};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::input::{HookInput, Note};
use crate::runtime::instance::{Call, Pool, StartError, Template};

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A plugin that works.
pub(crate) struct Plugin {
    provenance: Arc<Provenance>,
    pool: Pool,
    /// One for each hook: a filter that fails must not look well because the same plugin's validator works.
    breakers: [Breaker; 3],
    meters: Meters,
    body_limits: BodyLimits,
    clock: Clock,
    counts: Counts<5>,
    blocking: BlockingHint,
    skipped: AtomicU64,
    last_failure: Mutex<Option<Fault>>,
    observer: ObserverSlot,
    /// Keeps what it fails on.
    recording: Option<Recording>,
    /// What it was made from: the file's digest and its entry.
    origin: ([u8; 32], Entry),
}

impl Plugin {
    pub(crate) fn new(
        pool: Pool,
        origin: ([u8; 32], Entry),
        version: Option<Arc<str>>,
        body_limits: BodyLimits,
        clock: Clock,
    ) -> Self {
        let name: Arc<str> = origin.1.name.as_str().into();
        let provenance = Provenance { plugin: name.clone(), sha256: hex(&origin.0).into(), version };
        Self {
            provenance: Arc::new(provenance),
            pool,
            breakers: Hook::ALL.map(|_| Breaker::new(origin.1.breaker)),
            meters: Meters::new(&name),
            body_limits,
            clock,
            counts: Counts::new(),
            blocking: BlockingHint::default(),
            skipped: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            observer: ObserverSlot::default(),
            recording: None,
            origin,
        }
    }

    /// The same, keeping what it fails on.
    pub(crate) fn recorded(self, recorder: Option<&Recorder>, file: PathBuf) -> Self {
        let recording = recorder.map(|recorder| Recording { recorder: recorder.clone(), file });
        Self { recording, ..self }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    pub(crate) fn origin(&self) -> &([u8; 32], Entry) {
        &self.origin
    }

    pub(crate) fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    /// Its name in the chain.
    pub(crate) fn name(&self) -> &str {
        &self.provenance.plugin
    }

    /// What a record tells of it.
    fn subject(&self) -> Subject<'_> {
        Subject { provenance: &self.provenance, entry: &self.origin.1, body_limits: self.body_limits }
    }

    pub(crate) fn observer(&self) -> &ObserverSlot {
        &self.observer
    }

    pub(crate) fn last_fault(&self) -> Option<Failure> {
        let last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|fault| Failure { kind: fault.kind, text: fault.text.clone() })
    }

    /// Its kind and text.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_fault().map(|failure| format!("{}: {}", failure.kind.name(), failure.text))
    }

    pub(crate) fn body_limits(&self) -> &BodyLimits {
        &self.body_limits
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The same code under another entry, to be tried apart from the chain: nothing of it is counted or kept, no
    /// breaker opens, and what it keeps itself is kept for it alone.
    pub(crate) fn sibling(&self, entry: Entry) -> Result<Self, StartError> {
        let entry = Entry { breaker: BreakerConfig::NEVER, ..entry };
        let granted = Granted::new(&entry.name, &entry.grants, &Services::apart()).map_err(StartError::Refused)?;
        let sibling = metrics::with_local_recorder(&metrics::NoopRecorder, || self.made(entry, granted))?;
        Ok(Self { recording: None, ..sibling })
    }

    /// The same code under another entry, as a plugin of the chain.
    pub(crate) fn stand_in(&self, entry: Entry) -> Result<Self, StartError> {
        let granted = self.pool.template().granted.clone();
        self.made(entry, granted)
    }

    fn made(&self, entry: Entry, granted: Granted) -> Result<Self, StartError> {
        let (limits, config, plugin) = (entry.limits, entry.config.to_string(), entry.name.as_str().into());
        let pool = Pool::start(Template { plugin, limits, config, granted, ..self.pool.template().clone() })?;
        let (origin, version) = ((self.origin.0, entry), self.provenance.version.clone());
        let plugin = Self::new(pool, origin, version, self.body_limits, self.clock.clone());
        Ok(match &self.recording {
            Some(Recording { recorder, file }) => plugin.recorded(Some(recorder), file.clone()),
            None => plugin,
        })
    }

    pub(crate) fn status(&self) -> PluginStatus {
        let [verdicts, failures_by_kind] = self.counts.by_name(&VERDICTS);
        let (instances, memory_bytes) = self.pool.alive();
        PluginStatus {
            plugin: self.name().to_owned(),
            version: self.provenance.version.as_deref().map(str::to_owned),
            sha256: self.provenance.sha256.to_string(),
            mode: self.origin.1.mode.name(),
            hooks: Hook::ALL.into_iter().filter(|hook| self.pool.has(*hook)).map(Hook::name).collect(),
            breaker: if self.is_open() { BreakerState::Open } else { BreakerState::Closed },
            failures: self.counts.failures(),
            last_failure: self.last_failure(),
            failures_by_kind,
            verdicts,
            skipped: self.skipped.load(Ordering::Relaxed),
            instances,
            memory_bytes,
            instances_started: self.pool.started(),
            watched: self.observer.is_taken(),
            rolled_back: None,
        }
    }

    fn is_open(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.state() == BreakerState::Open)
    }

    fn failed(&self, hook: Hook, fault: Fault, now: Instant) -> CallResult {
        let Fault { kind, text } = &fault;
        tracing::warn!(plugin = self.name(), hook = hook.name(), kind = kind.name(), "plugin failed: {text}");
        self.meters.failures[*kind as usize].increment(1);
        self.counts.failure(*kind);
        let opened = self.breakers[hook as usize].failed(now);
        // One that can be rolled back will not rest.
        if opened && !self.observer.is_taken() {
            tracing::error!(
                plugin = self.name(),
                hook = hook.name(),
                "the plugin keeps failing and is left alone for a while"
            );
            self.meters.breaker_open.set(1.0);
        }
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        if opened { CallResult::FailedAndOpened } else { CallResult::Failed }
    }

    /// The answer of a plugin that has none.
    fn on_error(&self) -> Answer {
        match (self.origin.1.mode, self.origin.1.on_error) {
            (Mode::Enforce, OnError::Reject) => Answer::Failed,
            (Mode::Observe, _) | (_, OnError::Accept) => Answer::Passed,
        }
    }

    /// The answer of a plugin that is not called.
    fn skipped(&self) -> Answer {
        self.meters.skipped.increment(1);
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.on_error()
    }

    /// Whether this message is any of its business.
    fn is_for(&self, input: &HookInput<'_>) -> bool {
        let entry = &self.origin.1;
        let shared = match &entry.share {
            Share::All => true,
            Share::Canary(plugin, percent) => percent.takes(plugin, input.conversation),
            Share::Rest(percent) => !percent.takes(self.name(), input.conversation),
        };
        shared && entry.when.holds(self.name(), input)
    }

    /// How long it may take now: its own limits, or what is left of the chain's if that is less.
    fn allowed(&self, now: Instant, input: &HookInput<'_>) -> TimeBudget {
        let limits = &self.origin.1.limits;
        let (own, own_wall) = (limits.deadline_ms.get(), limits.wall_ms.get());
        let left = input.until.map(|until| until.saturating_duration_since(now).as_millis());
        let left = left.and_then(|left| u32::try_from(left).ok()).unwrap_or(u32::MAX);
        let is_short = left < if self.waits() { own_wall } else { own };
        TimeBudget { ms: own.min(left), wall_ms: own_wall.min(left), is_short }
    }

    /// A verdict that keeps the rules. Of a plugin that is only observed, it is told and has no effect.
    fn answer(&self, hook: Hook, judged: Judged, input: &HookInput<'_>) -> Answer {
        if self.origin.1.mode == Mode::Enforce {
            return Answer::Judged(judged);
        }
        let verdict = VERDICTS[verdict_index(&judged.outcome)];
        let plugin = self.name();
        match judged.outcome {
            Outcome::Accept => {}
            Outcome::Reject(Refusal { code, reason, .. }) => {
                tracing::info!(plugin, hook = hook.name(), verdict, code, reason, "observed");
            }
            Outcome::Hold(reason) => tracing::info!(plugin, hook = hook.name(), verdict, reason, "observed"),
            Outcome::Discard => tracing::info!(plugin, hook = hook.name(), verdict, "observed"),
            Outcome::Replace(body) => {
                tracing::info!(plugin, hook = hook.name(), verdict, "observed");
                // What people write is for the log only when somebody asks for it.
                tracing::debug!(plugin, from = input.body, to = body.as_str(), "observed replacement");
            }
        }
        Answer::Passed
    }
}

impl Judge for Arc<Plugin> {
    fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    fn has(&self, hook: Hook) -> bool {
        self.pool.has(hook)
    }

    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (Answer, Option<Instant>) {
        match self.turn(hook, input) {
            Ok(turn) => {
                let annotations = annotations(input);
                let call = call(hook, input, &annotations, turn.within);
                let called = self.blocking.call(|| self.pool.judge(call));
                self.conclude(hook, input, &turn, called)
            }
            Err(answer) => (answer, input.now),
        }
    }
}

impl Plugin {
    /// Whether it may have to wait, so that it is asked by [`Plugin::judge_on_fiber`].
    pub(crate) fn waits(&self) -> bool {
        self.pool.waits()
    }

    /// Asks a plugin that may have to wait.
    pub(crate) async fn judge_on_fiber(
        self: &Arc<Self>,
        hook: Hook,
        input: &HookInput<'_>,
    ) -> (Answer, Option<Instant>) {
        let turn = match self.turn(hook, input) {
            Ok(turn) => turn,
            Err(answer) => return (answer, input.now),
        };
        let annotations = annotations(input);
        let called = self.pool.judge_on_fiber(call(hook, input, &annotations, turn.within)).await;
        self.conclude(hook, input, &turn, called)
    }

    /// Whether it is asked now; the error is the answer if it is not.
    fn turn(&self, hook: Hook, input: &HookInput<'_>) -> Result<PermittedCall, Answer> {
        if !self.is_for(input) {
            return Err(Answer::Passed);
        }
        let started = input.now.unwrap_or_else(|| self.now());
        let within = self.allowed(started, input);
        if within.ms == 0 || !self.breakers[hook as usize].permits(started) {
            return Err(self.skipped());
        }
        Ok(PermittedCall { started, within })
    }

    /// What its answer means, and what is counted about it.
    fn conclude(
        self: &Arc<Self>,
        hook: Hook,
        input: &HookInput<'_>,
        turn: &PermittedCall,
        called: Result<Judgement, Fault>,
    ) -> (Answer, Option<Instant>) {
        let judged = called.and_then(|judgement| check(hook, judgement, &self.body_limits));
        let ended = self.now();
        let took = ended.saturating_duration_since(turn.started);
        self.meters.seconds[hook as usize].record(took);
        self.blocking.note(took);
        let answer = match judged {
            Ok(judged) => {
                self.meters.verdicts[hook as usize][verdict_index(&judged.outcome)].increment(1);
                self.counts.verdict(verdict_index(&judged.outcome));
                self.observer.notify(self, CallResult::Answered, ended);
                if self.breakers[hook as usize].succeeded() {
                    tracing::info!(plugin = self.name(), hook = hook.name(), "the plugin behaves again");
                    self.meters.breaker_open.set(if self.is_open() { 1.0 } else { 0.0 });
                }
                self.answer(hook, judged, input)
            }
            // The plugins before it took the time: that is not its failure.
            Err(fault) if fault.kind == FaultKind::Deadline && turn.within.is_short => {
                let within_ms = turn.within.wall_ms;
                tracing::warn!(plugin = self.name(), hook = hook.name(), within_ms, "the chain's time is up");
                self.skipped()
            }
            Err(fault) => {
                if let Some(recording) = &self.recording {
                    recording.keep(&self.subject(), hook, input, &fault);
                }
                let result = self.failed(hook, fault, ended);
                self.observer.notify(self, result, ended);
                self.on_error()
            }
        };
        (answer, Some(ended))
    }
}

/// A call that is about to be made.
struct PermittedCall {
    started: Instant,
    within: TimeBudget,
}

/// How long a call may take, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct TimeBudget {
    ms: u32,
    /// By the clock on the wall.
    wall_ms: u32,
    /// Less than the plugin's own limit, because of the plugins before it.
    is_short: bool,
}

fn annotations<'a>(input: &HookInput<'a>) -> Vec<AnnotationParam<'a>> {
    input.notes.iter().map(|Note { key, value, .. }| AnnotationParam { key, value }).collect()
}

fn call<'a>(hook: Hook, input: &HookInput<'a>, annotations: &'a [AnnotationParam<'a>], within: TimeBudget) -> Call<'a> {
    let message = Message {
        conversation_id: input.conversation,
        sender_id: input.sender,
        sender_role: input.role,
        body: input.body,
        annotations,
    };
    Call { hook, message, within_ms: within.ms, wall_ms: within.wall_ms }
}
