//! One plugin of the chain: its instances, its breakers and its counters.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arcyou_protocol::body::BodyLimits;

use super::blocking::BlockingHint;
use super::breaker::{Breaker, BreakerState, OpenedFor};
use super::counters::PluginCounters;
use super::evaluation::{
    CheckedJudgement, CheckedRejection, CheckedVerdict, HookResult, Judge, REASON_BYTES, check_judgement,
};
use super::observer::{CallResult, ObserverSlot};
use super::plugin_metrics::{PluginMetrics, VERDICT_NAMES, verdict_index};
use super::provenance::Provenance;
use super::record::{PluginRecorder, RecordedPlugin, Recorder};
use super::status::PluginStatus;
use crate::bindings::{AnnotationParam, Edited, Hook, Judgement, Message};
use crate::capabilities::{GrantedResources, Services};
use crate::digest::hex;
use crate::manifest::{BreakerConfig, Entry, Mode, OnError, Share};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::input::{Annotation, EditedInput, HookInput};
use crate::runtime::instance::{HookCall, Pool, StartError, Template};
use crate::text::sanitize;

/// Failures in a row with one sender that count against a new version. More may be the sender's doing.
const MAX_COUNTED_FAILURES: u32 = 2;

/// Why a plugin was not called, or interrupted early, after others took their time.
const TIME_IS_UP: &str = "not called: the time of the whole chain was up";

/// Returns the current time. Tests replace it.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A plugin that has been loaded and started.
pub(crate) struct Plugin {
    provenance: Arc<Provenance>,
    pool: Pool,
    /// One for each hook, so that the success of a plugin's validator does not hide that its filter fails.
    breakers: [Breaker; 3],
    metrics: PluginMetrics,
    body_limits: BodyLimits,
    clock: Clock,
    counters: PluginCounters<5>,
    blocking: BlockingHint,
    skipped: AtomicU64,
    last_fault: Mutex<Option<Fault>>,
    observer: ObserverSlot,
    /// Whether a process died while it ran the plugin, so that it is not called.
    is_quarantined: bool,
    /// Records the inputs of failed calls.
    recorder: Option<PluginRecorder>,
    origin: Origin,
}

/// What a plugin was made from. Two plugins of the same origin are the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    /// The digest of the file.
    pub(crate) sha256: [u8; 32],
    pub(crate) entry: Entry,
}

impl Plugin {
    pub(crate) fn new(
        pool: Pool,
        origin: Origin,
        version: Option<Arc<str>>,
        body_limits: BodyLimits,
        clock: Clock,
    ) -> Self {
        let name: Arc<str> = origin.entry.name.as_str().into();
        let provenance = Provenance { plugin: name.clone(), sha256: hex(&origin.sha256).into(), version };
        Self {
            provenance: Arc::new(provenance),
            pool,
            breakers: Hook::ALL.map(|_| Breaker::new(origin.entry.breaker)),
            metrics: PluginMetrics::new(&name),
            body_limits,
            clock,
            counters: PluginCounters::new(),
            blocking: BlockingHint::default(),
            skipped: AtomicU64::new(0),
            last_fault: Mutex::new(None),
            observer: ObserverSlot::default(),
            is_quarantined: false,
            recorder: None,
            origin,
        }
    }

    /// The same plugin, with failed calls recorded.
    pub(crate) fn with_recorder(self, recorder: Option<&Recorder>, file: PathBuf) -> Self {
        let recorder = recorder.map(|recorder| PluginRecorder { recorder: recorder.clone(), file });
        Self { recorder, ..self }
    }

    /// The same plugin, never to be called. Its pool is unstarted.
    pub(crate) fn quarantined(self) -> Self {
        Self { is_quarantined: true, ..self }
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.is_quarantined
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.origin.entry
    }

    pub(crate) fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    pub(crate) fn name(&self) -> &str {
        &self.provenance.plugin
    }

    /// What a record contains of the plugin.
    fn recorded_plugin(&self) -> RecordedPlugin<'_> {
        RecordedPlugin { provenance: &self.provenance, entry: &self.origin.entry, body_limits: self.body_limits }
    }

    pub(crate) fn observer(&self) -> &ObserverSlot {
        &self.observer
    }

    pub(crate) fn last_fault(&self) -> Option<Fault> {
        let last = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// The kind and the text of the last fault.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_fault().map(|fault| fault.to_string())
    }

    pub(crate) fn body_limits(&self) -> &BodyLimits {
        &self.body_limits
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The same code with another entry, for a dry run. Its metrics and faults are not recorded, its breakers never
    /// open, and its values are stored apart.
    pub(crate) fn dry_run_copy(&self, entry: Entry) -> Result<Self, StartError> {
        let entry = Entry { breaker: BreakerConfig::NEVER_OPENS, ..entry };
        let resources =
            GrantedResources::new(&entry.name, &entry.grants, &Services::in_memory()).map_err(StartError::Config)?;
        let copy = metrics::with_local_recorder(&metrics::NoopRecorder, || self.start_copy(entry, resources))?;
        Ok(Self { recorder: None, ..copy })
    }

    /// The same code with another entry, as a plugin of the chain.
    pub(crate) fn copy_with_entry(&self, entry: Entry) -> Result<Self, StartError> {
        let resources = self.pool.template().resources.clone();
        self.start_copy(entry, resources)
    }

    fn start_copy(&self, entry: Entry, resources: GrantedResources) -> Result<Self, StartError> {
        if self.is_quarantined {
            return Err(StartError::Fault(Fault::new(FaultKind::Start, "it is quarantined")));
        }
        let (limits, config, plugin) = (entry.limits, entry.config.to_string(), entry.name.as_str().into());
        let pool = Pool::start(Template { plugin, limits, config, resources, ..self.pool.template().clone() })?;
        let (origin, version) = (Origin { sha256: self.origin.sha256, entry }, self.provenance.version.clone());
        let plugin = Self::new(pool, origin, version, self.body_limits, self.clock.clone());
        Ok(match &self.recorder {
            Some(PluginRecorder { recorder, file }) => plugin.with_recorder(Some(recorder), file.clone()),
            None => plugin,
        })
    }

    pub(crate) fn status(&self) -> PluginStatus {
        let [verdicts, failures_by_kind] = self.counters.by_name(&VERDICT_NAMES);
        let (instances, memory_bytes) = self.pool.live();
        PluginStatus {
            plugin: self.name().to_owned(),
            version: self.provenance.version.as_deref().map(str::to_owned),
            sha256: self.provenance.sha256.to_string(),
            mode: self.origin.entry.mode.name(),
            hooks: Hook::ALL.into_iter().filter(|hook| self.pool.has(*hook)).map(Hook::name).collect(),
            breaker: if self.is_open() { BreakerState::Open } else { BreakerState::Closed },
            refused_senders: self.breakers.iter().map(Breaker::refused_senders).sum(),
            failures: self.counters.failures(),
            last_failure: self.last_failure(),
            failures_by_kind,
            verdicts,
            skipped: self.skipped.load(Ordering::Relaxed),
            instances,
            memory_bytes,
            instances_started: self.pool.instances_started(),
            watched: self.observer.is_occupied(),
            quarantined: self.is_quarantined,
            rolled_back: None,
        }
    }

    fn is_open(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.state() == BreakerState::Open)
    }

    fn record_fault(&self, hook: Hook, sender: &str, fault: Fault, now: Instant) -> CallResult {
        let Fault { kind, text } = &fault;
        tracing::warn!(plugin = self.name(), hook = hook.name(), kind = kind.name(), "plugin failed: {text}");
        self.metrics.failures[*kind as usize].increment(1);
        self.counters.count_failure(*kind);
        let failure = self.breakers[hook as usize].failed(sender, now);
        let opened = failure.opened == Some(OpenedFor::Everybody);
        match failure.opened {
            // A plugin on probation is rolled back instead.
            Some(OpenedFor::Everybody) if !self.observer.is_occupied() => {
                tracing::error!(
                    plugin = self.name(),
                    hook = hook.name(),
                    "the plugin keeps failing and is left alone for a while"
                );
                self.metrics.breaker_open.set(1.0);
            }
            Some(OpenedFor::Sender) => {
                tracing::warn!(
                    plugin = self.name(),
                    hook = hook.name(),
                    sender,
                    "the plugin keeps failing with this sender's messages and is not asked about them for a while"
                );
            }
            _ => {}
        }
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        match opened {
            true => CallResult::FailedAndOpened,
            false if failure.of_sender > MAX_COUNTED_FAILURES => CallResult::FailedAgain,
            false => CallResult::Failed,
        }
    }

    /// The result of a plugin that failed or is not called.
    fn on_error_result(&self, why: impl FnOnce() -> Cow<'static, str>) -> HookResult {
        match (self.origin.entry.mode, self.origin.entry.on_error) {
            (Mode::Enforce, OnError::Reject) => HookResult::Failed(why()),
            (Mode::Observe, _) | (_, OnError::Accept) => HookResult::Passed,
        }
    }

    /// The result of a plugin that is not called.
    fn skip(&self, why: &'static str) -> HookResult {
        self.metrics.skipped.increment(1);
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.on_error_result(|| why.into())
    }

    /// Whether the plugin is responsible for this message.
    fn applies_to(&self, input: &HookInput<'_>) -> bool {
        let entry = &self.origin.entry;
        let shared = match &entry.share {
            Share::All => true,
            Share::Canary(plugin, percent) => percent.includes(plugin, input.conversation),
            Share::Rest(percent) => !percent.includes(self.name(), input.conversation),
        };
        shared && entry.when.matches(self.name(), input)
    }

    /// The time that a call may take: the plugin's own limits, or the rest of the chain's time if that is less.
    fn time_budget(&self, now: Instant, input: &HookInput<'_>) -> TimeBudget {
        let limits = &self.origin.entry.limits;
        let (own, own_wall) = (limits.deadline_ms.get(), limits.wall_ms.get());
        let left = input.deadline.map(|until| until.saturating_duration_since(now).as_millis());
        let left = left.and_then(|left| u32::try_from(left).ok()).unwrap_or(u32::MAX);
        let is_shortened = left < if self.may_wait() { own_wall } else { own };
        TimeBudget { ms: own.min(left), wall_ms: own_wall.min(left), is_shortened }
    }

    /// The effect of a valid judgement. That of a plugin that is only observed is logged and has no effect.
    fn effective_result(&self, hook: Hook, judged: CheckedJudgement, input: &HookInput<'_>) -> HookResult {
        if self.origin.entry.mode == Mode::Enforce {
            return HookResult::Judged(judged);
        }
        let verdict = VERDICT_NAMES[verdict_index(&judged.verdict)];
        let plugin = self.name();
        match judged.verdict {
            CheckedVerdict::Accept => {}
            CheckedVerdict::Reject(CheckedRejection { code, reason, .. }) => {
                tracing::info!(plugin, hook = hook.name(), verdict, code, reason, "observed");
            }
            CheckedVerdict::Hold(reason) => tracing::info!(plugin, hook = hook.name(), verdict, reason, "observed"),
            CheckedVerdict::Discard => tracing::info!(plugin, hook = hook.name(), verdict, "observed"),
            CheckedVerdict::Replace(body) => {
                tracing::info!(plugin, hook = hook.name(), verdict, "observed");
                // Messages are private: their text is logged only at debug level.
                tracing::debug!(plugin, from = input.body, to = body.as_str(), "observed replacement");
            }
        }
        HookResult::Passed
    }
}

impl Judge for Arc<Plugin> {
    fn provenance(&self) -> &Arc<Provenance> {
        &self.provenance
    }

    fn has(&self, hook: Hook) -> bool {
        self.pool.has(hook)
    }

    fn judge(&self, hook: Hook, input: &HookInput<'_>) -> (HookResult, Option<Instant>) {
        match self.permit_call(hook, input) {
            Ok(permit) => {
                let annotations = annotations(input);
                let call = call(hook, input, &annotations, permit.within);
                let called = self.blocking.run(|| self.pool.judge(call));
                self.finish_call(hook, input, &permit, called)
            }
            Err(result) => (result, input.now),
        }
    }
}

impl Plugin {
    /// Whether the plugin may have to wait, so that it must be called by [`Plugin::judge_on_fiber`].
    pub(crate) fn may_wait(&self) -> bool {
        self.pool.may_wait()
    }

    /// Calls a hook of a plugin that may have to wait.
    pub(crate) async fn judge_on_fiber(&self, hook: Hook, input: &HookInput<'_>) -> (HookResult, Option<Instant>) {
        let permit = match self.permit_call(hook, input) {
            Ok(permit) => permit,
            Err(result) => return (result, input.now),
        };
        let annotations = annotations(input);
        let called = self.pool.judge_on_fiber(call(hook, input, &annotations, permit.within)).await;
        self.finish_call(hook, input, &permit, called)
    }

    /// Decides whether the plugin is called now. If it is not, the error is the result.
    fn permit_call(&self, hook: Hook, input: &HookInput<'_>) -> Result<CallPermit, HookResult> {
        if !self.applies_to(input) {
            return Err(HookResult::Passed);
        }
        let started = input.now.unwrap_or_else(|| self.now());
        let within = self.time_budget(started, input);
        if self.is_quarantined {
            return Err(self.skip("not called: a gateway died while it ran this file"));
        }
        if within.ms == 0 {
            return Err(self.skip(TIME_IS_UP));
        }
        if !self.breakers[hook as usize].permits(input.sender, started) {
            return Err(self.skip("not called: its circuit breaker is open"));
        }
        Ok(CallPermit { started, within })
    }

    /// Records a finished call, and returns its result.
    fn finish_call(
        &self,
        hook: Hook,
        input: &HookInput<'_>,
        permit: &CallPermit,
        called: Result<Judgement, Fault>,
    ) -> (HookResult, Option<Instant>) {
        let judged = called.and_then(|judgement| check_judgement(hook, judgement, &self.body_limits));
        let ended = self.now();
        let took = ended.saturating_duration_since(permit.started);
        self.metrics.seconds[hook as usize].record(took);
        self.blocking.record(took);
        let result = match judged {
            Ok(judged) => {
                self.metrics.verdicts[hook as usize][verdict_index(&judged.verdict)].increment(1);
                self.counters.count_verdict(verdict_index(&judged.verdict));
                self.observer.notify(CallResult::Answered, ended);
                if self.breakers[hook as usize].succeeded(input.sender) {
                    tracing::info!(plugin = self.name(), hook = hook.name(), "the plugin behaves again");
                    self.metrics.breaker_open.set(if self.is_open() { 1.0 } else { 0.0 });
                }
                self.effective_result(hook, judged, input)
            }
            // The plugins before used up the time, so this is not a fault of this plugin.
            Err(fault) if fault.kind == FaultKind::Deadline && permit.within.is_shortened => {
                let within_ms = permit.within.wall_ms;
                tracing::warn!(plugin = self.name(), hook = hook.name(), within_ms, "the chain's time is up");
                self.skip(TIME_IS_UP)
            }
            Err(fault) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(&self.recorded_plugin(), hook, input, &fault);
                }
                let result = self.on_error_result(|| sanitize(&fault.to_string(), REASON_BYTES).into_owned().into());
                let call_result = self.record_fault(hook, input.sender, fault, ended);
                self.observer.notify(call_result, ended);
                result
            }
        };
        (result, Some(ended))
    }
}

/// A permitted call: when it starts, and how long it may take.
struct CallPermit {
    started: Instant,
    within: TimeBudget,
}

/// The time limits of a call, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct TimeBudget {
    ms: u32,
    /// In wall-clock time.
    wall_ms: u32,
    /// Whether the plugins before left less than the plugin's own limit.
    is_shortened: bool,
}

fn annotations<'a>(input: &HookInput<'a>) -> Vec<AnnotationParam<'a>> {
    input.annotations.iter().map(|Annotation { key, value, .. }| AnnotationParam { key, value }).collect()
}

fn call<'a>(
    hook: Hook,
    input: &HookInput<'a>,
    annotations: &'a [AnnotationParam<'a>],
    within: TimeBudget,
) -> HookCall<'a> {
    let message = Message {
        conversation_id: input.conversation,
        sender_id: input.sender,
        sender_role: input.role,
        body: input.body,
        annotations,
        edits: input.edits.map(|EditedInput { message_id, version, body }| Edited { message_id, version, body }),
    };
    HookCall { hook, message, deadline_ms: within.ms, wall_ms: within.wall_ms }
}
