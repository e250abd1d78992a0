//! Loads the plugins of a directory: read, compile, start, run the cases.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::body::BodyLimits;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::cache::Cache;
use super::cases;
use super::compiler::Compiler;
use super::error::{LoadError, remedy};
use super::version::version;
use crate::bindings::{Hook, INTERFACE_VERSION};
use crate::capabilities::{GrantedResources, Grants, KvStore, Services, imports, ungranted_imports};
use crate::chain::pipeline::Chain;
use crate::chain::plugin::{Clock, Origin, Plugin};
use crate::chain::record::Recorder;
use crate::digest::{digest, hex};
use crate::manifest::{self, AllowList, Entry, Manifest};
use crate::runtime::crash_mark::{self, QUARANTINE_HELP};
use crate::runtime::engine::{engine, metered_engine};
use crate::runtime::exports::{Exports, exports};
use crate::runtime::instance::{InstanceState, Pool, StartError, Template, linker};
use crate::runtime::ticker::Ticker;

/// Bytes of a `.wasm` file. A JavaScript plugin with its engine has a fifth of it.
const MAX_WASM_BYTES: u64 = 64 << 20;
/// Bytes of `plugins.toml`.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What can be read from a file without running it.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) bytes: usize,
    /// The imports, each with whether it is granted.
    pub(crate) imports: Vec<(String, bool)>,
    pub(crate) exports: Vec<String>,
}

/// Loads plugins, with everything that they share.
pub(crate) struct Loader {
    compiler: Compiler,
    /// Where crashes are marked.
    marks_dir: Option<PathBuf>,
    ticker: Ticker,
    linker: Linker<InstanceState>,
    recorder: Option<Recorder>,
    /// Directories that cannot be used at all, and why.
    unusable: Vec<String>,
    body_limits: BodyLimits,
    clock: Clock,
    services: Services,
}

impl Loader {
    pub(crate) fn new(cache_dir: Option<&Path>, body_limits: BodyLimits, clock: Clock) -> Result<Self, LoadError> {
        Self::with(engine, cache_dir, body_limits, clock)
    }

    /// The same loader with another store for plugins' values.
    pub(crate) fn with_kv_store(self, kv: Option<Arc<dyn KvStore>>) -> Self {
        Self { services: Services { kv }, ..self }
    }

    /// For authors: plugins count their instructions, and are slower.
    pub(crate) fn metered(cache_dir: Option<&Path>, body_limits: BodyLimits, clock: Clock) -> Result<Self, LoadError> {
        Self::with(metered_engine, cache_dir, body_limits, clock)
    }

    fn with(
        engine: fn() -> wasmtime::Result<Engine>,
        cache_dir: Option<&Path>,
        body_limits: BodyLimits,
        clock: Clock,
    ) -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Engine(format!("{error:#}"));
        let mut unusable = Vec::new();
        let cache = cache_dir.and_then(|dir| match Cache::open(dir) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled plugins are not kept between runs");
                unusable.push(format!("compiled plugins are not kept: {}: {error}", dir.display()));
                None
            }
        });
        let marks_dir = cache.as_ref().and(cache_dir).map(Path::to_owned);
        if let Some(Err(error)) = marks_dir.as_deref().map(crash_mark::watch) {
            tracing::warn!(%error, "a plugin that ends the process will not be known to the next one");
        }
        let engine = engine().map_err(failed)?;
        let linker = linker(&engine).map_err(failed)?;
        let ticker = Ticker::start(&engine).map_err(|error| LoadError::Engine(error.to_string()))?;
        let compiler = Compiler::new(engine, cache);
        Ok(Self {
            compiler,
            marks_dir,
            ticker,
            linker,
            recorder: None,
            unusable,
            body_limits,
            clock,
            services: Services::in_memory(),
        })
    }

    /// The same loader, which records failed calls in this directory.
    pub(crate) fn with_records_dir(mut self, dir: Option<&Path>) -> Self {
        match dir.map(|dir| (dir, Recorder::open(dir))) {
            Some((_, Ok(recorder))) => self.recorder = Some(recorder),
            Some((dir, Err(error))) => {
                tracing::warn!(dir = %dir.display(), %error, "what plugins fail on is not kept");
                self.unusable.push(format!("what plugins fail on is not kept: {}: {error}", dir.display()));
            }
            None => {}
        }
        self
    }

    /// What cannot be written at the moment, and why.
    pub(crate) fn unwritable(&self) -> Option<String> {
        let compiled = self.compiler.unwritable().reason();
        let compiled = compiled.map(|reason| format!("compiled plugins are not kept: {reason}"));
        let records = self.recorder.as_ref().and_then(|recorder| recorder.unwritable().reason());
        let records = records.map(|reason| format!("what plugins fail on is not kept: {reason}"));
        let all = self.unusable.iter().cloned().chain(compiled).chain(records);
        all.reduce(|all, next| format!("{all}; {next}"))
    }

    pub(crate) fn with_compile_timeout(mut self, time: Duration) -> Self {
        self.compiler.timeout = time;
        self
    }

    /// Loads the chain of a directory. Plugins of `running` whose file and entry have not changed are reused. If any
    /// cannot be loaded, the error tells of all that cannot.
    pub(crate) fn load(&self, dir: &Path, running: &[Arc<Plugin>]) -> Result<Chain, LoadError> {
        let Manifest { entries, chain, allowed } = read_manifest(dir)?;
        let enabled = entries.into_iter().filter(|entry| entry.enabled);
        let (mut plugins, mut errors) = (Vec::new(), Vec::new());
        for loaded in enabled.map(|entry| self.load_entry(dir, entry, allowed.as_ref(), running)) {
            match loaded {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => errors.push(error),
            }
        }
        match errors.pop() {
            None => Ok(Chain::new(plugins, chain)),
            Some(only) if errors.is_empty() => Err(only),
            Some(last) => Err(LoadError::Several(errors.into_iter().chain([last]).collect())),
        }
    }

    /// Loads one plugin of a directory, and holds it to its cases.
    pub(crate) fn load_entry(
        &self,
        dir: &Path,
        entry: Entry,
        allowed: Option<&AllowList>,
        running: &[Arc<Plugin>],
    ) -> Result<Arc<Plugin>, LoadError> {
        let wasm = read(&dir.join(&entry.file), MAX_WASM_BYTES)?;
        let origin = Origin { sha256: digest(&wasm), entry };
        check_allowed(allowed, &origin)?;
        let known = running.iter().find(|plugin| *plugin.origin() == origin);
        let plugin = match known.filter(|plugin| !plugin.is_quarantined()) {
            Some(plugin) => plugin.clone(),
            // A gateway starts all the same, but whoever has a chain keeps it.
            None if self.is_marked(&origin) && (known.is_some() || running.is_empty()) => {
                Arc::new(self.quarantine(&wasm, origin)?)
            }
            None => {
                let file = dir.join(&origin.entry.file);
                Arc::new(self.start_plugin(&wasm, origin)?.with_recorder(self.recorder.as_ref(), file))
            }
        };
        let entry = plugin.entry();
        if entry.cases && !plugin.is_quarantined() {
            let failure = |failure| LoadError::Cases { plugin: entry.name.clone(), failure };
            cases::run_cases_beside(&dir.join(&entry.file), &plugin).map_err(failure)?;
        }
        Ok(plugin)
    }

    /// Loads a single file, which need not be in the plugins directory.
    pub(crate) fn load_file(&self, path: &Path, entry: Entry) -> Result<Plugin, LoadError> {
        let wasm = read(path, MAX_WASM_BYTES)?;
        let origin = Origin { sha256: digest(&wasm), entry };
        self.start_plugin(&wasm, origin)
    }

    /// Reads what a file contains, without running it.
    pub(crate) fn inspect(&self, path: &Path, grants: &Grants) -> Result<Inspection, LoadError> {
        let wasm = read(path, MAX_WASM_BYTES)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let component = self.load_component(&wasm, &name);
        let component = component.map_err(|reason| LoadError::Invalid { plugin: name.into_owned(), reason })?;
        Ok(Inspection { bytes: wasm.len(), imports: imports(&component, grants), exports: exports(&component) })
    }

    fn start_plugin(&self, wasm: &[u8], origin: Origin) -> Result<Plugin, LoadError> {
        let plugin = || origin.entry.name.clone();
        if self.is_marked(&origin) {
            return Err(LoadError::Crashed { plugin: plugin() });
        }
        let component = self.load_component(wasm, &origin.entry.name);
        let component = component.map_err(|reason| LoadError::Invalid { plugin: plugin(), reason })?;
        let pool = Pool::start(self.template(&component, &origin)?).map_err(|error| match error {
            StartError::Config(reason) => LoadError::Config { plugin: plugin(), reason },
            StartError::Fault(fault) => LoadError::Start { plugin: plugin(), reason: fault.text },
        })?;
        Ok(Plugin::new(pool, origin, version(wasm), self.body_limits, self.clock.clone()))
    }

    /// A plugin that a process died of, loaded but never to be run. Its code is in the cache, unless it was the
    /// compiler that failed.
    fn quarantine(&self, wasm: &[u8], origin: Origin) -> Result<Plugin, LoadError> {
        let plugin = || origin.entry.name.clone();
        let component = self.compiler.cached(wasm).ok_or_else(|| LoadError::Crashed { plugin: plugin() })?;
        tracing::error!(
            plugin = origin.entry.name,
            "a gateway died while it ran this file, which is not called: replace it ({QUARANTINE_HELP})"
        );
        let pool = Pool::unstarted(self.template(&component, &origin)?);
        Ok(Plugin::new(pool, origin, version(wasm), self.body_limits, self.clock.clone()).quarantined())
    }

    fn is_marked(&self, origin: &Origin) -> bool {
        self.marks_dir.as_deref().is_some_and(|dir| crash_mark::is_marked(dir, &origin.sha256))
    }

    fn template(&self, component: &Component, origin: &Origin) -> Result<Template, LoadError> {
        let entry = &origin.entry;
        let plugin = || entry.name.clone();
        let invalid = |error: wasmtime::Error| LoadError::Invalid { plugin: plugin(), reason: format!("{error:#}") };
        if let Some(export) = unknown_export(component) {
            return Err(LoadError::Version { plugin: plugin(), export });
        }
        let imports = ungranted_imports(component, &entry.grants);
        if !imports.is_empty() {
            return Err(LoadError::Import { plugin: plugin(), remedy: remedy(entry, &imports), imports });
        }
        let pre = self.linker.instantiate_pre(component).map_err(invalid)?;
        let exports = Exports::find(&pre).map_err(invalid)?;
        if !Hook::ALL.into_iter().any(|hook| exports.has(hook)) {
            return Err(LoadError::NoHook { plugin: plugin() });
        }
        let resources = GrantedResources::new(&entry.name, &entry.grants, &self.services)
            .map_err(|reason| LoadError::Grant { plugin: plugin(), reason })?;
        Ok(Template {
            plugin: entry.name.as_str().into(),
            sha256: origin.sha256,
            pre,
            exports,
            ticker: self.ticker.clone(),
            limits: entry.limits,
            isolation: entry.isolation,
            resources,
            config: entry.config.to_string(),
        })
    }

    /// Compiled code, from the cache or compiled now.
    fn load_component(&self, wasm: &[u8], name: &str) -> Result<Component, String> {
        if let Some(component) = self.compiler.cached(wasm) {
            return Ok(component);
        }
        tracing::info!(plugin = name, bytes = wasm.len(), "compiling the plugin");
        self.compiler.compile(wasm)
    }
}

/// The first interface of the gateway's package that a component exports and that this gateway does not know. Ignoring
/// it would mean running only half of a plugin.
fn unknown_export(component: &Component) -> Option<String> {
    let known = |interface: &str| {
        let (name, version) = interface.split_once('@').unwrap_or((interface, ""));
        let hook = Hook::ALL.iter().any(|hook| hook.name() == name);
        version == INTERFACE_VERSION && (hook || matches!(name, "configure" | "types"))
    };
    let unknown = |name: &String| name.strip_prefix("arcyou:gateway/").is_some_and(|interface| !known(interface));
    exports(component).into_iter().find(unknown)
}

/// Checks that a file is allowed, before anything parses it.
fn check_allowed(allowed: Option<&AllowList>, origin: &Origin) -> Result<(), LoadError> {
    let sha256 = hex(&origin.sha256);
    match allowed {
        Some(allowed) if !allowed.contains(&sha256) => {
            Err(LoadError::NotAllowed { plugin: origin.entry.name.clone(), file: origin.entry.file.clone(), sha256 })
        }
        _ => Ok(()),
    }
}

/// The `.wasm` files of a directory, except hidden ones, which may be incomplete copies.
pub(crate) fn wasm_files(dir: &Path) -> Result<Vec<String>, LoadError> {
    let failed = |source| LoadError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm") && !name.starts_with('.') {
            files.push(name);
        }
    }
    Ok(files)
}

/// The manifest of a directory, or what stands for it if there is none.
pub(crate) fn read_manifest(dir: &Path) -> Result<Manifest, LoadError> {
    let text = match read(&dir.join(manifest::FILE_NAME), MAX_MANIFEST_BYTES) {
        Ok(bytes) => Some(String::from_utf8(bytes).map_err(|error| LoadError::Manifest(error.to_string()))?),
        Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    manifest::parse(text.as_deref(), wasm_files(dir)?).map_err(LoadError::Manifest)
}

/// What a file that stands in a directory, with its entry, is made from.
pub(crate) fn origin_of(dir: &Path, entry: Entry) -> Result<Origin, LoadError> {
    Ok(Origin { sha256: digest(&read(&dir.join(&entry.file), MAX_WASM_BYTES)?), entry })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::Error::other(format!("it is larger than {limit} bytes"))));
    }
    Ok(bytes)
}
