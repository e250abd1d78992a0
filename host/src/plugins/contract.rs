//! The plugin interface as the gateway sees it: the only bindings to the WIT package.

use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};

use super::capabilities::{self, Capability, Grants};
use super::instance::State;

mod bindings {
    #![allow(missing_docs, unsafe_code, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit/1.0.0",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: {
            "arcyou:gateway/random": trappable,
            "arcyou:gateway/kv": async,
            "arcyou:gateway/http": async,
        },
    });
}

/// The same hooks, called on a fiber: for plugins that may have to wait.
mod fiber {
    #![allow(missing_docs, unsafe_code, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit/1.0.0",
        inline: "package arcyou:host; world hooks {
            export arcyou:gateway/configure@1.0.0;
            export arcyou:gateway/validate@1.0.0;
            export arcyou:gateway/filter@1.0.0;
            export arcyou:gateway/on-join@1.0.0;
        }",
        world: "arcyou:host/hooks",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: { "arcyou:gateway/types": super::bindings::arcyou::gateway::types },
    });
}

/// What plugins may import.
pub(crate) mod host {
    pub(crate) use super::bindings::arcyou::gateway::{clock, http, kv, random};
}

pub(crate) use bindings::arcyou::gateway::log::Level;
pub(crate) use bindings::arcyou::gateway::types::{
    AnnotationParam, AnnotationResult, Judgement, Message, Rejection, Verdict,
};
use bindings::exports::arcyou::gateway::{configure, filter, on_join, validate};
use fiber::exports::arcyou::gateway as waiting;

/// The version of the package that this gateway knows.
pub(crate) const VERSION: &str = "1.0.0";
/// Everything that every plugin may import. The first holds types alone.
const GRANTED: [&str; 2] = ["arcyou:gateway/types@1.0.0", "arcyou:gateway/log@1.0.0"];

/// Where a plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hook {
    Validate,
    Filter,
    OnJoin,
}

impl Hook {
    pub(crate) const ALL: [Self; 3] = [Self::Validate, Self::Filter, Self::OnJoin];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Filter => "filter",
            Self::OnJoin => "on-join",
        }
    }
}

impl bindings::arcyou::gateway::log::Host for State {
    fn log(&mut self, level: Level, message: String) {
        self.write_log(level, &message);
    }
}

/// The linker with all that may be granted, and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::arcyou::gateway::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    capabilities::link(&mut linker)?;
    Ok(linker)
}

/// What a component imports, and whether that is granted.
pub(crate) fn imports(component: &Component, grants: &Grants) -> Vec<(String, bool)> {
    let granted = |name: &str| {
        GRANTED.contains(&name) || Capability::of_import(name).is_some_and(|capability| grants.has(capability))
    };
    let kind = component.component_type();
    kind.imports(component.engine()).map(|(name, _)| (name.to_owned(), granted(name))).collect()
}

/// The first import of a component that nobody grants.
pub(crate) fn foreign_import(component: &Component, grants: &Grants) -> Option<String> {
    imports(component, grants).into_iter().find(|(_, granted)| !granted).map(|(name, _)| name)
}

/// What a component exports.
pub(crate) fn exports(component: &Component) -> Vec<String> {
    component.component_type().exports(component.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// Where a component's hooks are; looked up once. What it does not export, it does not implement.
#[derive(Clone)]
pub(crate) struct Exports {
    configure: Option<configure::GuestIndices>,
    validate: Option<validate::GuestIndices>,
    filter: Option<filter::GuestIndices>,
    on_join: Option<on_join::GuestIndices>,
    /// The same once more, for a plugin that may have to wait.
    waiting: Option<Waiting>,
}

#[derive(Clone)]
struct Waiting {
    configure: Option<waiting::configure::GuestIndices>,
    validate: Option<waiting::validate::GuestIndices>,
    filter: Option<waiting::filter::GuestIndices>,
    on_join: Option<waiting::on_join::GuestIndices>,
}

/// The indices of an interface, if it is exported.
macro_rules! found {
    ($pre:ident, $interface:literal, $module:path) => {{
        use $module as interface;
        let exported = $pre.component().get_export_index(None, concat!("arcyou:gateway/", $interface, "@1.0.0"));
        exported.map(|_| interface::GuestIndices::new($pre)).transpose()?
    }};
}

/// The functions of an interface in one instance, if it is exported.
macro_rules! loaded {
    ($indices:expr, $store:ident, $instance:ident) => {
        $indices.as_ref().map(|found| found.load(&mut *$store, $instance)).transpose()?
    };
}

impl Exports {
    /// The error says which interface has another shape than it should.
    pub(crate) fn find(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        let waiting = if capabilities::waits(pre.component()) { Some(Waiting::find(pre)?) } else { None };
        Ok(Self {
            configure: found!(pre, "configure", configure),
            validate: found!(pre, "validate", validate),
            filter: found!(pre, "filter", filter),
            on_join: found!(pre, "on-join", on_join),
            waiting,
        })
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Validate => self.validate.is_some(),
            Hook::Filter => self.filter.is_some(),
            Hook::OnJoin => self.on_join.is_some(),
        }
    }

    /// Whether the plugin may have to wait, so that it is called on a fiber.
    pub(crate) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// The functions of one instance; their types are checked here.
    pub(crate) fn load(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Functions> {
        Ok(match &self.waiting {
            None => Functions::AtOnce(AtOnce {
                configure: loaded!(self.configure, store, instance),
                validate: loaded!(self.validate, store, instance),
                filter: loaded!(self.filter, store, instance),
                on_join: loaded!(self.on_join, store, instance),
            }),
            Some(waiting) => Functions::OnFiber(OnFiber {
                configure: loaded!(waiting.configure, store, instance),
                validate: loaded!(waiting.validate, store, instance),
                filter: loaded!(waiting.filter, store, instance),
                on_join: loaded!(waiting.on_join, store, instance),
            }),
        })
    }
}

impl Waiting {
    fn find(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(Self {
            configure: found!(pre, "configure", waiting::configure),
            validate: found!(pre, "validate", waiting::validate),
            filter: found!(pre, "filter", waiting::filter),
            on_join: found!(pre, "on-join", waiting::on_join),
        })
    }
}

/// What can be called on one instance.
pub(crate) enum Functions {
    AtOnce(AtOnce),
    OnFiber(OnFiber),
}

/// For a plugin that never waits.
pub(crate) struct AtOnce {
    configure: Option<configure::Guest>,
    validate: Option<validate::Guest>,
    filter: Option<filter::Guest>,
    on_join: Option<on_join::Guest>,
}

/// For a plugin that may have to wait.
pub(crate) struct OnFiber {
    configure: Option<waiting::configure::Guest>,
    validate: Option<waiting::validate::Guest>,
    filter: Option<waiting::filter::Guest>,
    on_join: Option<waiting::on_join::Guest>,
}

fn not_implemented() -> wasmtime::Error {
    wasmtime::Error::msg("the plugin does not implement this hook")
}

/// A decision about a join as the judgement that it is.
fn judgement(refusal: Option<Rejection>) -> Judgement {
    Judgement { verdict: refusal.map_or(Verdict::Accept, Verdict::Reject), annotations: Vec::new() }
}

impl AtOnce {
    /// The inner error is the plugin's own.
    pub(crate) fn configure(&self, store: &mut Store<State>, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.configure.as_ref().map_or(Ok(Ok(())), |guest| guest.call_configure(store, config))
    }

    /// Of a message to the hook `on-join`, only the conversation and the user count.
    pub(crate) fn judge(
        &self,
        store: &mut Store<State>,
        hook: Hook,
        message: Message<'_>,
    ) -> wasmtime::Result<Judgement> {
        match hook {
            Hook::Validate => self.validate.as_ref().ok_or_else(not_implemented)?.call_validate(store, message),
            Hook::Filter => self.filter.as_ref().ok_or_else(not_implemented)?.call_filter(store, message),
            Hook::OnJoin => {
                let Message { conversation_id, sender_id: user_id, sender_role: role, .. } = message;
                let join = on_join::Join { conversation_id, user_id, role };
                let decision = self.on_join.as_ref().ok_or_else(not_implemented)?.call_on_join(store, join)?;
                Ok(judgement(match decision {
                    on_join::Decision::Allow => None,
                    on_join::Decision::Refuse(rejection) => Some(rejection),
                }))
            }
        }
    }
}

impl OnFiber {
    /// As [`AtOnce::configure`].
    pub(crate) async fn configure(
        &self,
        store: &mut Store<State>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match &self.configure {
            Some(guest) => guest.call_configure(store, config).await,
            None => Ok(Ok(())),
        }
    }

    /// As [`AtOnce::judge`].
    pub(crate) async fn judge(
        &self,
        store: &mut Store<State>,
        hook: Hook,
        message: Message<'_>,
    ) -> wasmtime::Result<Judgement> {
        match hook {
            Hook::Validate => self.validate.as_ref().ok_or_else(not_implemented)?.call_validate(store, message).await,
            Hook::Filter => self.filter.as_ref().ok_or_else(not_implemented)?.call_filter(store, message).await,
            Hook::OnJoin => {
                let Message { conversation_id, sender_id: user_id, sender_role: role, .. } = message;
                let join = waiting::on_join::Join { conversation_id, user_id, role };
                let decision = self.on_join.as_ref().ok_or_else(not_implemented)?.call_on_join(store, join).await?;
                Ok(judgement(match decision {
                    waiting::on_join::Decision::Allow => None,
                    waiting::on_join::Decision::Refuse(rejection) => Some(rejection),
                }))
            }
        }
    }
}
