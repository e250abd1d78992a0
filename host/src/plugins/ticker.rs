//! The clock that interrupts plugins: epochs of one millisecond, counted only while somebody is in a plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// One tick of the epoch.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without any call until the clock stops: starting it again costs a system call, which a busy gateway need not pay.
const QUIET: u32 = 100;
/// A clock that stands still looks so often whether there is an engine still.
const LOOK: Duration = Duration::from_secs(1);

/// The epoch ticks after which a call is over time. One more than the time itself, since the first tick may be near.
pub(crate) fn ticks(ms: u32) -> u64 {
    u64::from(ms) + 1
}

/// An engine's clock. Its thread ends with the engine.
#[derive(Debug, Clone)]
pub(crate) struct Ticker {
    calls: Arc<Calls>,
    thread: Thread,
}

/// Each call is counted when it begins and when it ends. Whoever begins one looks whether the clock stands still; the clock
/// says that it stands still, and then looks whether somebody has begun: in one order of all four, one sees the other.
#[derive(Debug, Default)]
struct Calls {
    begun: AtomicU64,
    ended: AtomicU64,
    stands_still: AtomicBool,
}

/// Somebody is in a plugin.
#[derive(Debug)]
pub(crate) struct Entered<'t>(&'t Ticker);

impl Ticker {
    /// Starts the clock of an engine.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (calls, engine) = (Arc::<Calls>::default(), engine.weak());
        let counted = calls.clone();
        let thread = thread::Builder::new().name("plugin-epoch".into()).spawn(move || run(&engine, &counted))?;
        Ok(Self { calls, thread: thread.thread().clone() })
    }

    /// Time counts until what this gives is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.calls.begun.fetch_add(1, Ordering::SeqCst);
        if self.calls.stands_still.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Entered(self)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.calls.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn run(weak: &EngineWeak, calls: &Calls) {
    let (mut seen, mut quiet) = (0, 0);
    while let Some(engine) = weak.upgrade() {
        engine.increment_epoch();
        drop(engine);
        // In this order: a call that begins between the two looks counts as under way.
        let ended = calls.ended.load(Ordering::SeqCst);
        let begun = calls.begun.load(Ordering::SeqCst);
        quiet = if begun == seen && begun == ended { quiet + 1 } else { 0 };
        seen = begun;
        if quiet < QUIET {
            thread::sleep(TICK);
            continue;
        }
        quiet = 0;
        calls.stands_still.store(true, Ordering::SeqCst);
        while calls.begun.load(Ordering::SeqCst) == begun && weak.upgrade().is_some() {
            thread::park_timeout(LOOK);
        }
        calls.stands_still.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A loop in WebAssembly ends by its deadline, whether the clock ran before or stood still.
    #[test]
    fn a_clock_that_stood_still_goes_on_with_the_next_call() {
        let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        let module = wasmtime::Module::new(&engine, SPIN).unwrap();
        for stood_still in [false, true] {
            while stood_still && !ticker.calls.stands_still.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
            let _entered = ticker.enter();
            store.set_epoch_deadline(ticks(5));
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
