//! The pool of warm instances of one plugin. Each instance serves one call at a time, and is dropped after its first
//! fault.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::{InstancePre, Linker};
use wasmtime::{Store, Trap, UpdateDeadline};

use super::cpu_deadline::{CpuDeadline, CpuReading};
use super::crash_mark::{Busy, busy_with};
use super::exports::{Exports, Functions};
use super::fault::{Fault, FaultKind};
use super::limits::{Isolation, Limits};
use super::memory::{LiveInstances, MemoryLimit};
use super::ticker::{Ticker, ticks};
use crate::bindings::{Hook, Judgement, Message};
use crate::capabilities::{self, GrantedResources, HasCapabilities, InstanceCapabilities, MAX_LINE_BYTES};
use crate::text::sanitize;

/// The data of an instance's store.
pub(crate) struct InstanceState {
    memory: MemoryLimit,
    capabilities: InstanceCapabilities,
    deadline: CpuDeadline,
    ticker: Ticker,
}

impl InstanceState {
    /// The epoch's deadline is reached. The error interrupts the call.
    fn extend(&mut self) -> wasmtime::Result<UpdateDeadline> {
        // The epoch advances while the plugin waits for others. That time is given back.
        let more_ms = match self.capabilities.take_wait_ms() {
            0 => self.deadline.expired(CpuReading::now()).ok_or(Trap::Interrupt)?,
            waited => waited,
        };
        self.ticker.run_for(ticks(more_ms));
        Ok(UpdateDeadline::Continue(ticks(more_ms)))
    }
}

impl HasCapabilities for InstanceState {
    fn capabilities(&mut self) -> &mut InstanceCapabilities {
        &mut self.capabilities
    }
}

/// A linker with every capability, and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    capabilities::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Why an instance could not be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The plugin refuses its configuration, in its own words.
    Config(String),
    /// The plugin does not start.
    Fault(Fault),
}

/// Why a call failed, in the plugin's own words if it had any.
fn fault(error: &wasmtime::Error, store: &mut Store<InstanceState>) -> Fault {
    Fault::from_call_error(error).with_last_words(store.data_mut().capabilities.take_last_error())
}

impl StartError {
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Config(text) => Fault::new(FaultKind::Start, format!("it refuses its configuration: {text}")),
            Self::Fault(fault) => fault.into_start_fault(),
        }
    }
}

/// Everything that an instance of a plugin is made from.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) plugin: Arc<str>,
    /// The digest of the plugin's file.
    pub(crate) sha256: [u8; 32],
    pub(crate) pre: InstancePre<InstanceState>,
    pub(crate) exports: Exports,
    pub(crate) ticker: Ticker,
    pub(crate) limits: Limits,
    pub(crate) isolation: Isolation,
    pub(crate) resources: GrantedResources,
    /// The text of a JSON object.
    pub(crate) config: String,
}

impl Template {
    /// Starts and configures an instance, which `live` counts.
    pub(crate) fn instantiate(&self, live: &Arc<LiveInstances>) -> Result<Box<Instance>, StartError> {
        let _busy = Busy::with(&self.sha256);
        let limits = &self.limits;
        let memory = MemoryLimit::new(limits.memory_bytes(), live.clone());
        let capabilities = InstanceCapabilities::new(self.plugin.clone(), limits.log_lines.get(), &self.resources);
        let mut deadline = CpuDeadline::default();
        let first_ms = deadline.begin(limits.startup_ms.get());
        let state = InstanceState { memory, capabilities, deadline, ticker: self.ticker.clone() };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.output_bytes.get() as usize);
        store.epoch_deadline_callback(|mut store| store.data_mut().extend());
        store.set_epoch_deadline(ticks(first_ms));
        self.ticker.run_for(ticks(first_ms));
        // Fuel is counted, not limited. An engine that does not count it returns an error, which is ignored.
        let _ = store.set_fuel(u64::MAX);
        let started = if self.exports.may_wait() {
            // Capabilities do not wait before the first call, so this future completes at once.
            let started = self.start_on_fiber(&mut store).now_or_never();
            started.unwrap_or_else(|| Err(wasmtime::Error::msg("it waits while it starts")))
        } else {
            self.start(&mut store)
        };
        let (functions, configured) = started.map_err(|error| StartError::Fault(fault(&error, &mut store)))?;
        configured.map_err(|text| StartError::Config(sanitize(&text, MAX_LINE_BYTES).into_owned()))?;
        let used = store.data().memory.used;
        // Memory never shrinks. An instance is recycled when it has grown by half of what configuration left free.
        let recycle_above = used + (limits.memory_bytes().saturating_sub(used)) / 2;
        Ok(Box::new(Instance { store, functions, calls: 0, recycle_above }))
    }

    fn start(&self, store: &mut Store<InstanceState>) -> wasmtime::Result<(Functions, Result<(), String>)> {
        let instance = self.pre.instantiate(&mut *store)?;
        let functions = self.exports.load(store, &instance)?;
        let configured = match &functions {
            Functions::Direct(functions) => functions.configure(store, &self.config)?,
            Functions::OnFiber(_) => return Err(wasmtime::Error::msg("it needs a fiber")),
        };
        Ok((functions, configured))
    }

    async fn start_on_fiber(
        &self,
        store: &mut Store<InstanceState>,
    ) -> wasmtime::Result<(Functions, Result<(), String>)> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let functions = self.exports.load(store, &instance)?;
        let configured = match &functions {
            Functions::Direct(functions) => functions.configure(store, &self.config)?,
            Functions::OnFiber(functions) => functions.configure(store, &self.config).await?,
        };
        Ok((functions, configured))
    }
}

/// One instance and its store.
pub(crate) struct Instance {
    store: Store<InstanceState>,
    functions: Functions,
    calls: u32,
    recycle_above: usize,
}

impl Instance {
    /// After an error the instance must be dropped, since the call was interrupted in the middle.
    fn judge(&mut self, ticker: &Ticker, call: HookCall<'_>) -> wasmtime::Result<Judgement> {
        let first_ms = self.begin(call.deadline_ms);
        ticker.run_for(ticks(first_ms));
        let answer = match &self.functions {
            Functions::Direct(functions) => functions.judge(&mut self.store, call.hook, call.message),
            Functions::OnFiber(_) => Err(wasmtime::Error::msg("it needs a fiber")),
        };
        self.end();
        answer
    }

    /// The same on a fiber. If this future is dropped, the instance must be dropped too.
    async fn judge_on_fiber(&mut self, ticker: &Ticker, call: HookCall<'_>) -> wasmtime::Result<Judgement> {
        self.begin(call.deadline_ms);
        // The time that the call waits is added to its deadline, each time with a tick to spare.
        ticker.run_for(ticks(call.deadline_ms) + 2 * u64::from(call.wall_ms));
        self.store.data_mut().capabilities.begin_waiting_call();
        let answer = match &self.functions {
            Functions::Direct(functions) => functions.judge(&mut self.store, call.hook, call.message),
            Functions::OnFiber(functions) => functions.judge(&mut self.store, call.hook, call.message).await,
        };
        self.end();
        answer
    }

    /// Returns the milliseconds until the deadline is looked at for the first time.
    fn begin(&mut self, deadline_ms: u32) -> u32 {
        self.calls = self.calls.saturating_add(1);
        let first_ms = self.store.data_mut().deadline.begin(deadline_ms);
        self.store.set_epoch_deadline(ticks(first_ms));
        self.store.data_mut().capabilities.begin_call();
        first_ms
    }

    fn end(&mut self) {
        self.store.data_mut().capabilities.end_call();
    }

    fn should_recycle(&self, limits: &Limits) -> bool {
        self.calls >= limits.calls_per_instance.get() || self.store.data().memory.used > self.recycle_above
    }
}

/// The hook to call, its input, and the time limits of the call.
pub(crate) struct HookCall<'a> {
    pub(crate) hook: Hook,
    pub(crate) message: Message<'a>,
    pub(crate) deadline_ms: u32,
    /// The limit in wall-clock time, for a plugin that may have to wait.
    pub(crate) wall_ms: u32,
}

/// The resources that an instance has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResourceUsage {
    /// Instructions since the start, including configuration. None if the engine does not count them.
    pub(crate) fuel: Option<u64>,
    /// Bytes of linear memory, which never shrinks.
    pub(crate) memory: usize,
}

/// The instances of one plugin. Any number of calls may run at once, but only `limits.instances` instances stay warm.
pub(crate) struct Pool {
    template: Template,
    #[allow(clippy::vec_box, reason = "each call takes one out and puts it back: a pointer moves, and not all of it")]
    idle: Mutex<Vec<Box<Instance>>>,
    started: AtomicU64,
    /// One permit for each concurrent call on a fiber.
    fibers: Semaphore,
    live: Arc<LiveInstances>,
}

impl Pool {
    /// Starts the first instance, which proves that the plugin works.
    pub(crate) fn start(template: Template) -> Result<Self, StartError> {
        let mut pool = Self::unstarted(template);
        let first = pool.template.instantiate(&pool.live)?;
        pool.idle = Mutex::new(vec![first]);
        pool.started = AtomicU64::new(1);
        Ok(pool)
    }

    /// A pool without an instance, for a plugin that must not run.
    pub(crate) fn unstarted(template: Template) -> Self {
        let fibers = Semaphore::new(template.limits.waiting.get() as usize);
        Self { template, idle: Mutex::default(), started: AtomicU64::new(0), fibers, live: Arc::default() }
    }

    /// Whether calls may have to wait, so that they must use [`Pool::judge_on_fiber`].
    pub(crate) fn may_wait(&self) -> bool {
        self.template.exports.may_wait()
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.template.exports.has(hook)
    }

    /// The number of instances ever started.
    pub(crate) fn instances_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// The number of instances that exist now, and the bytes of their memory.
    pub(crate) fn live(&self) -> (usize, usize) {
        (self.live.instances.load(Ordering::Relaxed), self.live.bytes.load(Ordering::Relaxed))
    }

    /// Drops the warm instances. Later calls start new ones.
    pub(crate) fn drain(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    /// The usage of the instance that was called last. None if that call failed, since the instance is gone then.
    pub(crate) fn last_usage(&self) -> Option<ResourceUsage> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.last().map(|instance| &instance.store).map(|store| ResourceUsage {
            fuel: store.get_fuel().ok().map(|left| u64::MAX - left),
            memory: store.data().memory.used,
        })
    }

    /// Calls a hook of any instance.
    pub(crate) fn judge(&self, call: HookCall<'_>) -> Result<Judgement, Fault> {
        let mut instance = self.acquire()?;
        let _busy = Busy::with(&self.template.sha256);
        let judged = instance.judge(&self.template.ticker, call);
        let judgement = judged.map_err(|error| fault(&error, &mut instance.store))?;
        self.release(instance);
        Ok(judgement)
    }

    /// Calls a hook of any instance on a fiber. It does not occupy a thread while the plugin waits.
    pub(crate) async fn judge_on_fiber(&self, call: HookCall<'_>) -> Result<Judgement, Fault> {
        let within = Duration::from_millis(u64::from(call.wall_ms));
        let called = async {
            // The semaphore is never closed.
            let _fiber = self.fibers.acquire().await;
            let mut instance = self.acquire()?;
            let judged = busy_with(&self.template.sha256, instance.judge_on_fiber(&self.template.ticker, call)).await;
            Ok((judged.map_err(|error| fault(&error, &mut instance.store))?, instance))
        };
        let over = |_| Err(Fault::new(FaultKind::Deadline, "it waited longer than its wall-clock limit"));
        let (judgement, instance) = timeout(within, called).await.unwrap_or_else(over)?;
        self.release(instance);
        Ok(judgement)
    }

    fn acquire(&self) -> Result<Box<Instance>, Fault> {
        let warm = match self.template.isolation {
            Isolation::Warm => self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop(),
            Isolation::Fresh => None,
        };
        warm.map_or_else(
            || {
                self.started.fetch_add(1, Ordering::Relaxed);
                self.template.instantiate(&self.live).map_err(StartError::into_fault)
            },
            Ok,
        )
    }

    fn release(&self, instance: Box<Instance>) {
        let limits = &self.template.limits;
        if self.template.isolation == Isolation::Warm && !instance.should_recycle(limits) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < limits.instances.get() as usize {
                idle.push(instance);
            }
        }
    }
}
