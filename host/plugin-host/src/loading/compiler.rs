//! Compiles the bytes of a file, with a time limit.

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};
use wit_component::ComponentEncoder;

use super::cache::Cache;
use super::complexity;
use crate::digest::digest;
use crate::runtime::crash_mark::Compiling;
use crate::unwritable::Unwritable;

/// The default time limit for one file. A plugin that contains a Python interpreter needs a tenth of it.
pub(crate) const DEFAULT_COMPILE_TIMEOUT: Duration = Duration::from_secs(120);

/// Compiles plugins and caches the result.
pub(crate) struct Compiler {
    shared: Arc<Shared>,
    /// The time limit. A compilation cannot be interrupted: after the limit it continues in its thread, and its result
    /// is cached.
    pub(crate) timeout: Duration,
}

struct Shared {
    engine: Engine,
    cache: Option<Cache>,
    /// Why compiled code was last not kept.
    unwritable: Unwritable,
    /// The digests of files whose compilation exceeded the limit and still runs.
    overdue: Mutex<HashSet<[u8; 32]>>,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, cache: Option<Cache>) -> Self {
        let unwritable = Unwritable::default();
        Self {
            shared: Arc::new(Shared { engine, cache, unwritable, overdue: Mutex::default() }),
            timeout: DEFAULT_COMPILE_TIMEOUT,
        }
    }

    /// Compiled code from the cache.
    pub(crate) fn cached(&self, wasm: &[u8]) -> Option<Component> {
        self.shared.cache.as_ref().and_then(|cache| cache.get(&self.shared.engine, wasm))
    }

    /// Why compiled code cannot be kept, so that each start compiles anew.
    pub(crate) fn unwritable(&self) -> &Unwritable {
        &self.shared.unwritable
    }

    /// Compiles now. The error is for people.
    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Component, String> {
        let digest = digest(wasm);
        if self.shared.overdue().contains(&digest) {
            return Err("it takes too long to compile, and the compiler is still at it".to_owned());
        }
        let (done, result) = sync_channel(1);
        let (shared, wasm) = (self.shared.clone(), wasm.to_vec());
        let compile = move || {
            let _compiling = Compiling::start(&digest);
            let made = shared.compile(&wasm);
            // The caller may have given up. In that case this file is overdue no longer.
            let _ = done.send(made);
            shared.overdue().remove(&digest);
        };
        let compiling = thread::Builder::new().name("plugin-compile".into()).spawn(compile);
        let compiling = compiling.map_err(|error| format!("it cannot be compiled now: {error}"))?;
        match result.recv_timeout(self.timeout) {
            Ok(made) => made,
            Err(RecvTimeoutError::Disconnected) => Err("it is damaged: the compiler gives up".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                self.shared.overdue().insert(digest);
                if compiling.is_finished() {
                    self.shared.overdue().remove(&digest);
                }
                Err(format!("it takes longer than {:?} to compile", self.timeout))
            }
        }
    }
}

impl Shared {
    fn overdue(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, wasm: &[u8]) -> Result<Component, String> {
        complexity::check(wasm)?;
        let wrapped = match wasm.get(..8) {
            Some(b"\0asm\x01\0\0\0") => Some(self.wrap(wasm)?),
            Some([0, b'a', b's', b'm', ..]) => None,
            _ => return Err("the file is not WebAssembly".to_owned()),
        };
        let bytes = wrapped.as_deref().unwrap_or(wasm);
        let component = Component::from_binary(&self.engine, bytes).map_err(|error| format!("{error:#}"))?;
        if let Some(cache) = &self.cache {
            let put = cache.put(&self.engine, wasm, &component);
            if let Err(error) = &put {
                tracing::warn!(%error, "a compiled plugin cannot be kept");
            }
            self.unwritable.note(&put);
        }
        Ok(component)
    }

    /// Wraps a core module into a component. The module must contain the interface's description, which the SDK embeds.
    fn wrap(&self, module: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = |error: String| format!("the module is no plugin: {error}");
        Module::validate(&self.engine, module).map_err(|error| wrong(format!("{error:#}")))?;
        // The encoder expects compilers' output, and panics on some damaged modules.
        let encode = || ComponentEncoder::default().validate(true).module(module)?.encode();
        match catch_unwind(encode) {
            Ok(encoded) => encoded.map_err(|error| wrong(format!("{error:#}"))),
            Err(_) => Err(wrong("it is damaged".to_owned())),
        }
    }
}
