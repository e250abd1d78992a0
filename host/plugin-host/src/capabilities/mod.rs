//! Capabilities: what an operator may grant to a plugin by name. Each capability is a unit. Its table in `plugins.toml`
//! is validated once ([`Grants`]), it is linked once ([`add_to_linker`]), and its resources are shared by all instances
//! of a plugin ([`GrantedResources`]). Each instance has quotas of its own ([`InstanceCapabilities`]).
//!
//! `log` is always granted. `clock` and `random` return at once. `kv` and `http` wait for others: a plugin that imports
//! one of them runs on a fiber ([`may_wait`]), so that it does not block a thread while it waits.

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

/// Imports that need no grant. The first one holds only types.
const ALWAYS_GRANTED: [&str; 2] = ["arcyou:gateway/types@1.0.0", "arcyou:gateway/log@1.0.0"];

/// A capability that a plugin has only if its entry grants it.
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

    /// The capability that an import belongs to, in the supported version of the interface.
    pub(crate) fn of_import(import: &str) -> Option<Self> {
        let (name, version) = import.strip_prefix("arcyou:gateway/")?.split_once('@')?;
        Self::ALL.into_iter().find(|capability| version == INTERFACE_VERSION && capability.name() == name)
    }
}

/// The capabilities that are granted to one plugin, and their limits: configuration only.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Grants {
    names: Vec<Capability>,
    kv: KvLimits,
    http: HttpLimits,
}

impl Grants {
    /// From the entry's `grants` and its tables. If they contradict each other, the error says what to write.
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

    /// The line of `plugins.toml` that grants these as well as what is granted already.
    pub(crate) fn line_with(&self, more: &[Capability]) -> String {
        let all = Capability::ALL.into_iter().filter(|one| self.has(*one) || more.contains(one));
        let names: Vec<String> = all.map(|capability| format!("\"{}\"", capability.name())).collect();
        format!("grants = [{}]", names.join(", "))
    }

    /// The arguments that [`Grants::new`] takes to build an equal value.
    pub(crate) fn parts(&self) -> (Vec<Capability>, Option<KvLimits>, Option<HttpLimits>) {
        let kv = self.has(Capability::Kv).then_some(self.kv);
        let http = self.has(Capability::Http).then(|| self.http.clone());
        (self.names.clone(), kv, http)
    }
}

const NO_KV_STORE: &str = "kv is granted, and there is nowhere to keep values: with PUBSUB_MODE=sharded Redis is a \
    cluster, over whose nodes keys are spread; set PLUGIN_KV_URL to a Redis that is none";

/// The services that capabilities use outside the gateway.
#[derive(Clone)]
pub(crate) struct Services {
    /// None if there is no store for values.
    pub(crate) kv: Option<Arc<dyn KvStore>>,
}

impl Services {
    /// For dry runs: values that a plugin stores meanwhile must not reach its real ones.
    pub(crate) fn in_memory() -> Self {
        Self { kv: Some(Arc::new(MemoryKv::default())) }
    }
}

/// The granted resources that all instances of one plugin share.
#[derive(Clone, Default)]
pub(crate) struct GrantedResources {
    kv: Option<KvResource>,
    http: Option<HttpResource>,
}

impl GrantedResources {
    /// For the plugin with this name. The error is for the operator.
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

/// The capabilities of one instance.
pub(crate) struct InstanceCapabilities {
    log: LogBudget,
    clock: WallClock,
    random: SystemRandom,
    kv: KvAccess,
    http: HttpAccess,
}

impl InstanceCapabilities {
    /// For an instance that is about to be configured. It may log `log_lines` lines then, and in each call.
    pub(crate) fn new(plugin: Arc<str>, log_lines: u32, granted: &GrantedResources) -> Self {
        Self {
            log: LogBudget::new(plugin, log_lines),
            clock: WallClock,
            random: SystemRandom,
            kv: KvAccess::new(granted.kv.clone()),
            http: HttpAccess::new(granted.http.clone()),
        }
    }

    /// Resets the quotas of capabilities that never wait.
    pub(crate) fn begin_call(&mut self) {
        self.log.reset();
    }

    /// Resets the quotas of capabilities that may wait.
    pub(crate) fn begin_waiting_call(&mut self) {
        self.kv.reset();
        self.http.reset();
    }

    pub(crate) fn end_call(&mut self) {
        self.log.report_dropped();
    }

    /// The last error that the plugin logged in the call, or while it started.
    pub(crate) fn take_last_error(&mut self) -> Option<String> {
        self.log.take_last_error()
    }

    /// Milliseconds waited since this was last taken.
    pub(crate) fn take_wait_ms(&mut self) -> u32 {
        let waited = self.kv.waited.take() + self.http.waited.take();
        u32::try_from(waited.as_millis()).unwrap_or(u32::MAX)
    }
}

/// The data of a store, which holds the capabilities of its instance.
pub(crate) trait HasCapabilities: Send + 'static {
    fn capabilities(&mut self) -> &mut InstanceCapabilities;
}

/// Adds every capability to the linker, whether it is granted or not: ungranted imports are rejected by name before.
pub(crate) fn add_to_linker<T: HasCapabilities>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    host::log::add_to_linker::<T, HasSelf<LogBudget>>(linker, |state| &mut state.capabilities().log)?;
    host::clock::add_to_linker::<T, HasSelf<WallClock>>(linker, |state| &mut state.capabilities().clock)?;
    host::random::add_to_linker::<T, HasSelf<SystemRandom>>(linker, |state| &mut state.capabilities().random)?;
    host::kv::add_to_linker::<T, HasSelf<KvAccess>>(linker, |state| &mut state.capabilities().kv)?;
    host::http::add_to_linker::<T, HasSelf<HttpAccess>>(linker, |state| &mut state.capabilities().http)
}

/// The imports of a component, each with whether it is granted.
pub(crate) fn imports(component: &Component, grants: &Grants) -> Vec<(String, bool)> {
    let granted = |name: &str| {
        ALWAYS_GRANTED.contains(&name) || Capability::of_import(name).is_some_and(|capability| grants.has(capability))
    };
    let kind = component.component_type();
    kind.imports(component.engine()).map(|(name, _)| (name.to_owned(), granted(name))).collect()
}

/// The imports of a component that are not granted.
pub(crate) fn ungranted_imports(component: &Component, grants: &Grants) -> Vec<String> {
    imports(component, grants).into_iter().filter(|(_, granted)| !granted).map(|(name, _)| name).collect()
}

/// Whether a component imports a capability that may wait.
pub(crate) fn may_wait(component: &Component) -> bool {
    let kind = component.component_type();
    let mut imports = kind.imports(component.engine()).filter_map(|(name, _)| Capability::of_import(name));
    imports.any(|capability| matches!(capability, Capability::Kv | Capability::Http))
}
