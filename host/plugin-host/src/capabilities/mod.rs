//! What an operator may grant to a plugin by name. Each capability is a unit: its table in `plugins.toml` is validated
//! once ([`Grants`]), it is linked once ([`add_to_linker`]), and every instance has its own share of it
//! ([`InstanceCapabilities`]).
//!
//! `log` is always there. `clock` and `random` answer at once. `kv` and `http` wait for others: a plugin that imports
//! one of them runs on a fiber ([`may_wait`]), so that no thread waits with it.

mod clock;
mod http;
mod kv;
mod log;
mod random;
mod wait_time;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, HasSelf, Linker};

use self::clock::WallClock;
pub(crate) use self::http::HttpLimits;
use self::http::{HttpAccess, HttpClient, HttpResource};
pub(crate) use self::kv::KvLimits;
use self::kv::{KvAccess, KvResource};
pub use self::kv::{KvError, KvStore, MemoryKv, RedisKv};
use self::log::LogBudget;
pub(crate) use self::log::MAX_LINE_BYTES;
use self::random::SystemRandom;
use crate::bindings::{INTERFACE_VERSION, host};

/// Everything that every plugin may import. The first holds types alone.
const ALWAYS_GRANTED: [&str; 2] = ["arcyou:gateway/types@1.0.0", "arcyou:gateway/log@1.0.0"];

/// Something that plugins get only if their entry says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Capability {
    Clock,
    Random,
    Kv,
    Http,
}

impl Capability {
    const ALL: [Self; 4] = [Self::Clock, Self::Random, Self::Kv, Self::Http];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Kv => "kv",
            Self::Http => "http",
        }
    }

    /// The capability that an import is, in the version that this gateway knows.
    pub(crate) fn of_import(import: &str) -> Option<Self> {
        let (name, version) = import.strip_prefix("arcyou:gateway/")?.split_once('@')?;
        Self::ALL.into_iter().find(|capability| version == INTERFACE_VERSION && capability.name() == name)
    }
}

/// What one plugin is granted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Grants {
    names: Vec<Capability>,
    kv: KvLimits,
    http: HttpLimits,
}

impl Grants {
    /// From the entry's `grants` and its tables. What contradicts itself is an error that says what to write.
    pub(crate) fn new(names: Vec<Capability>, kv: Option<KvLimits>, http: Option<HttpLimits>) -> Result<Self, String> {
        for (capability, configured) in [(Capability::Kv, kv.is_some()), (Capability::Http, http.is_some())] {
            if configured && !names.contains(&capability) {
                let name = capability.name();
                return Err(format!("[plugin.{name}] has no effect unless grants = [\"{name}\"] stands in the entry"));
            }
        }
        if names.contains(&Capability::Http) && http.is_none() {
            return Err("granting http needs [plugin.http] with hosts = [\"moderation.example.com\"]".to_owned());
        }
        Ok(Self { names, kv: kv.unwrap_or_default(), http: http.unwrap_or_default() })
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.names.contains(&capability)
    }

    /// What [`Grants::new`] makes the same of.
    pub(crate) fn parts(&self) -> (Vec<Capability>, Option<KvLimits>, Option<HttpLimits>) {
        let kv = self.has(Capability::Kv).then_some(self.kv);
        let http = self.has(Capability::Http).then(|| self.http.clone());
        (self.names.clone(), kv, http)
    }
}

const NO_KV_STORE: &str = "kv is granted, and there is nowhere to keep values: with PUBSUB_MODE=sharded Redis is a cluster, over whose nodes \
    keys are spread; set PLUGIN_KV_URL to a Redis that is none";

/// What capabilities reach for outside the gateway.
#[derive(Clone)]
pub(crate) struct Services {
    /// None if there is nowhere to keep values.
    pub(crate) kv: Option<Arc<dyn KvStore>>,
}

impl Services {
    /// For messages that nobody sent: what a plugin counts meanwhile is not about anybody.
    pub(crate) fn in_memory() -> Self {
        Self { kv: Some(Arc::new(MemoryKv::default())) }
    }
}

/// What the instances of one plugin share.
#[derive(Clone, Default)]
pub(crate) struct GrantedResources {
    kv: Option<KvResource>,
    http: Option<HttpResource>,
}

impl GrantedResources {
    /// For the plugin with this name. The error is the operator's.
    pub(crate) fn new(plugin: &str, grants: &Grants, services: &Services) -> Result<Self, String> {
        let kv = match (grants.has(Capability::Kv), &services.kv) {
            (false, _) => None,
            (true, Some(store)) => Some(KvResource { store: store.clone(), plugin: plugin.into(), limits: grants.kv }),
            (true, None) => return Err(NO_KV_STORE.to_owned()),
        };
        let http = grants.has(Capability::Http).then(|| HttpClient::new(&grants.http)).transpose()?;
        Ok(Self { kv, http: http.map(|client| HttpResource { client, limits: grants.http.clone() }) })
    }
}

/// One instance's share: a unit for each capability.
pub(crate) struct InstanceCapabilities {
    log: LogBudget,
    clock: WallClock,
    random: SystemRandom,
    kv: KvAccess,
    http: HttpAccess,
}

impl InstanceCapabilities {
    /// For an instance that is about to be configured; it may log so many lines then, and in each call.
    pub(crate) fn new(plugin: Arc<str>, log_lines: u32, granted: &GrantedResources) -> Self {
        Self {
            log: LogBudget::new(plugin, log_lines),
            clock: WallClock,
            random: SystemRandom,
            kv: KvAccess::new(granted.kv.clone()),
            http: HttpAccess::new(granted.http.clone()),
        }
    }

    /// A new call begins: it has all of its log lines.
    pub(crate) fn begin_call(&mut self) {
        self.log.reset();
    }

    /// A new call begins that may wait: it has all of its quotas.
    pub(crate) fn begin_waiting_call(&mut self) {
        self.kv.reset();
        self.http.reset();
    }

    /// The call is over.
    pub(crate) fn end_call(&mut self) {
        self.log.report_dropped();
    }

    /// What was waited since this was asked last, in milliseconds.
    pub(crate) fn take_wait_ms(&mut self) -> u32 {
        let waited = self.kv.waited.take() + self.http.waited.take();
        u32::try_from(waited.as_millis()).unwrap_or(u32::MAX)
    }
}

/// What a store carries must lead to its instance's share.
pub(crate) trait HasCapabilities: Send + 'static {
    fn capabilities(&mut self) -> &mut InstanceCapabilities;
}

/// Puts every capability into the linker. What a plugin is not granted it may not import, which is checked by name.
pub(crate) fn add_to_linker<T: HasCapabilities>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    host::log::add_to_linker::<T, HasSelf<LogBudget>>(linker, |state| &mut state.capabilities().log)?;
    host::clock::add_to_linker::<T, HasSelf<WallClock>>(linker, |state| &mut state.capabilities().clock)?;
    host::random::add_to_linker::<T, HasSelf<SystemRandom>>(linker, |state| &mut state.capabilities().random)?;
    host::kv::add_to_linker::<T, HasSelf<KvAccess>>(linker, |state| &mut state.capabilities().kv)?;
    host::http::add_to_linker::<T, HasSelf<HttpAccess>>(linker, |state| &mut state.capabilities().http)
}

/// What a component imports, and whether that is granted.
pub(crate) fn imports(component: &Component, grants: &Grants) -> Vec<(String, bool)> {
    let granted = |name: &str| {
        ALWAYS_GRANTED.contains(&name) || Capability::of_import(name).is_some_and(|capability| grants.has(capability))
    };
    let kind = component.component_type();
    kind.imports(component.engine()).map(|(name, _)| (name.to_owned(), granted(name))).collect()
}

/// The first import of a component that nobody grants.
pub(crate) fn first_ungranted_import(component: &Component, grants: &Grants) -> Option<String> {
    imports(component, grants).into_iter().find(|(_, granted)| !granted).map(|(name, _)| name)
}

/// Whether a component may have to wait for somebody.
pub(crate) fn may_wait(component: &Component) -> bool {
    let kind = component.component_type();
    let mut imports = kind.imports(component.engine()).filter_map(|(name, _)| Capability::of_import(name));
    imports.any(|capability| matches!(capability, Capability::Kv | Capability::Http))
}
