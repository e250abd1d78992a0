//! What an operator may grant to a plugin by name. Each capability is a unit: it is linked once ([`link`]), its table in
//! `plugins.toml` is validated once ([`Grants`]), and every instance gets its own share of it ([`Held`]).
//!
//! `clock` and `random` answer at once. `kv` and `http` wait for others: a plugin that imports one of them runs on a fiber
//! ([`waits`]), so that no thread waits with it.

mod clock;
mod http;
mod kv;
mod random;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, HasSelf, Linker};

pub(crate) use self::http::HttpLimits;
use self::http::{HttpClient, HttpHeld};
use self::kv::KvHeld;
pub(crate) use self::kv::KvLimits;
pub use self::kv::{KvError, KvStore, MemoryKv, RedisKv};
use super::contract::{VERSION, host};
use super::instance::State;

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
        Self::ALL.into_iter().find(|capability| version == VERSION && capability.name() == name)
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

const NO_KV: &str = "kv is granted, and there is nowhere to keep values: with PUBSUB_MODE=sharded Redis is a cluster, over whose nodes \
    keys are spread; set PLUGIN_KV_URL to a Redis that is none";

/// What capabilities reach for outside the gateway.
#[derive(Clone)]
pub(crate) struct Services {
    /// None if there is nowhere to keep values.
    pub(crate) kv: Option<Arc<dyn KvStore>>,
}

impl Services {
    /// For messages that nobody sent: what a plugin counts meanwhile is not about anybody.
    pub(crate) fn apart() -> Self {
        Self { kv: Some(Arc::new(MemoryKv::default())) }
    }
}

/// What the instances of one plugin share.
#[derive(Clone, Default)]
pub(crate) struct Granted {
    kv: Option<(Arc<dyn KvStore>, Arc<str>, KvLimits)>,
    http: Option<(HttpClient, HttpLimits)>,
}

impl Granted {
    /// For the plugin with this name. The error is the operator's.
    pub(crate) fn new(plugin: &str, grants: &Grants, services: &Services) -> Result<Self, String> {
        let kv = match (grants.has(Capability::Kv), &services.kv) {
            (false, _) => None,
            (true, Some(store)) => Some((store.clone(), plugin.into(), grants.kv)),
            (true, None) => return Err(NO_KV.to_owned()),
        };
        let http = grants.has(Capability::Http).then(|| HttpClient::new(&grants.http));
        Ok(Self { kv, http: http.transpose()?.map(|client| (client, grants.http.clone())) })
    }
}

/// One instance's share.
#[derive(Default)]
pub(crate) struct Held {
    kv: Option<KvHeld>,
    http: Option<HttpHeld>,
    /// While an instance is configured nothing may wait: then nobody waits for a start.
    awake: bool,
    /// How long the call in hand has waited since this was last looked at. Waiting is not what a deadline counts.
    waited: Duration,
}

impl Held {
    pub(crate) fn new(granted: &Granted) -> Self {
        let kv = granted.kv.clone().map(|(store, plugin, limits)| KvHeld::new(store, plugin, limits));
        let http = granted.http.clone().map(|(client, limits)| HttpHeld::new(client, limits));
        Self { kv, http, awake: false, waited: Duration::ZERO }
    }

    /// A new call begins: it has all of its quotas.
    pub(crate) fn renew(&mut self) {
        self.awake = true;
        self.waited = Duration::ZERO;
        self.kv.iter_mut().for_each(KvHeld::renew);
        self.http.iter_mut().for_each(HttpHeld::renew);
    }

    /// What was waited since this was asked last, in milliseconds.
    pub(crate) fn take_waited(&mut self) -> u32 {
        u32::try_from(std::mem::take(&mut self.waited).as_millis()).unwrap_or(u32::MAX)
    }
}

/// The result of `work`, and how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = work.await;
    (result, started.elapsed())
}

/// Puts every capability into the linker. What a plugin is not granted it may not import, which is checked by name.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    host::clock::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    host::random::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    host::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    host::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Whether a component may have to wait for somebody.
pub(crate) fn waits(component: &Component) -> bool {
    let kind = component.component_type();
    let mut imports = kind.imports(component.engine()).filter_map(|(name, _)| Capability::of_import(name));
    imports.any(|capability| matches!(capability, Capability::Kv | Capability::Http))
}
