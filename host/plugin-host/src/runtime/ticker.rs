//! The clock that interrupts plugins. It increments the engine's epoch every millisecond, and stops while no plugin is
//! running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

const TICK: Duration = Duration::from_millis(1);
/// Extra ticks beyond what a caller asks for. A busy gateway then rarely has to extend the time, nor to wake a stopped
/// clock.
const SPARE_TICKS: u64 = 100;
/// How often a stopped clock checks whether its engine still exists.
const ENGINE_CHECK: Duration = Duration::from_secs(1);

/// The number of epoch ticks after which a call has run out of time. One more than the milliseconds, since the first
/// tick may come at once.
pub(crate) fn ticks(ms: u32) -> u64 {
    u64::from(ms) + 1
}

/// An engine's clock. Its thread ends with the engine.
#[derive(Debug, Clone)]
pub(crate) struct Ticker {
    state: Arc<TickerState>,
    thread: Thread,
}

/// A caller first raises `until`, and then checks `is_stopped`. The clock first sets `is_stopped`, and then checks
/// `until`. All four are sequentially consistent, so at least one of the two sees the other's write.
#[derive(Debug, Default)]
struct TickerState {
    /// Ticks so far. Each is counted after the engine counted it.
    now: AtomicU64,
    /// The tick before which the clock must not stop.
    until: AtomicU64,
    is_stopped: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (state, engine) = (Arc::<TickerState>::default(), engine.weak());
        let counted = state.clone();
        let thread = thread::Builder::new().name("plugin-epoch".into()).spawn(move || run(&engine, &counted))?;
        Ok(Self { state, thread: thread.thread().clone() })
    }

    /// Keeps the clock running for `ticks` from now on, so that a deadline within them is reached; the caller must have
    /// set that deadline already. While calls are frequent, this only reads.
    pub(crate) fn run_for(&self, ticks: u64) {
        // The engine may be one tick ahead.
        let until = self.state.now.load(Ordering::SeqCst) + 1 + ticks;
        if self.state.until.load(Ordering::SeqCst) >= until {
            return;
        }
        self.state.until.fetch_max(until + SPARE_TICKS, Ordering::SeqCst);
        if self.state.is_stopped.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

fn run(weak: &EngineWeak, state: &TickerState) {
    while let Some(engine) = weak.upgrade() {
        engine.increment_epoch();
        drop(engine);
        let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
        if now < state.until.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            continue;
        }
        state.is_stopped.store(true, Ordering::SeqCst);
        while state.until.load(Ordering::SeqCst) <= now && weak.upgrade().is_some() {
            thread::park_timeout(ENGINE_CHECK);
        }
        state.is_stopped.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A loop in WebAssembly ends at its deadline, whether the clock was running or stopped before.
    #[test]
    fn a_stopped_clock_restarts_with_the_next_call() {
        let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        let module = wasmtime::Module::new(&engine, SPIN).unwrap();
        for was_stopped in [false, true] {
            while was_stopped && !ticker.state.is_stopped.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
            store.set_epoch_deadline(ticks(5));
            ticker.run_for(ticks(5));
            let error = spin.call(&mut store, ()).unwrap_err();
            assert_eq!(error.downcast_ref::<wasmtime::Trap>(), Some(&wasmtime::Trap::Interrupt));
        }
    }

    /// `(module (func (export "spin") (loop (br 0))))`
    const SPIN: &[u8] = &[
        0, b'a', b's', b'm', 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 8, 1, 4, b's', b'p', b'i', b'n', 0, 0, 10,
        9, 1, 7, 0, 3, 0x40, 0x0c, 0, 0x0b, 0x0b,
    ];
}
