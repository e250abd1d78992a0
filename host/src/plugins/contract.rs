//! The plugin interface as the gateway sees it: the only bindings to the WIT package.

use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};

use super::instance::State;

mod bindings {
    #![allow(missing_docs, unsafe_code, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit/1.0.0",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use bindings::arcyou::gateway::log::Level;
pub(crate) use bindings::arcyou::gateway::types::{
    AnnotationParam, AnnotationResult, Judgement, Message, Rejection, Verdict,
};
use bindings::exports::arcyou::gateway::{configure, filter, validate};

/// Everything that a plugin may import. The first holds types alone.
const GRANTED: [&str; 2] = ["arcyou:gateway/types@1.", "arcyou:gateway/log@1."];

/// Where a plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hook {
    Validate,
    Filter,
}

impl Hook {
    pub(crate) const ALL: [Self; 2] = [Self::Validate, Self::Filter];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Filter => "filter",
        }
    }
}

impl bindings::arcyou::gateway::log::Host for State {
    fn log(&mut self, level: Level, message: String) {
        self.write_log(level, &message);
    }
}

/// The linker with all that is granted, and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::arcyou::gateway::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// What a component imports, and whether that is granted.
pub(crate) fn imports(component: &Component) -> Vec<(String, bool)> {
    let granted = |name: &str| GRANTED.iter().any(|granted| name.starts_with(granted));
    let kind = component.component_type();
    kind.imports(component.engine()).map(|(name, _)| (name.to_owned(), granted(name))).collect()
}

/// The first import of a component that nobody grants.
pub(crate) fn foreign_import(component: &Component) -> Option<String> {
    imports(component).into_iter().find(|(_, granted)| !granted).map(|(name, _)| name)
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
}

impl Exports {
    /// The error says which interface has another shape than it should.
    pub(crate) fn find(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        let exported = |interface: &str| pre.component().get_export_index(None, interface).is_some();
        Ok(Self {
            configure: exported("arcyou:gateway/configure@1.0.0")
                .then(|| configure::GuestIndices::new(pre))
                .transpose()?,
            validate: exported("arcyou:gateway/validate@1.0.0")
                .then(|| validate::GuestIndices::new(pre))
                .transpose()?,
            filter: exported("arcyou:gateway/filter@1.0.0").then(|| filter::GuestIndices::new(pre)).transpose()?,
        })
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Validate => self.validate.is_some(),
            Hook::Filter => self.filter.is_some(),
        }
    }

    /// The functions of one instance; their types are checked here.
    pub(crate) fn load(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Functions> {
        Ok(Functions {
            configure: self.configure.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            validate: self.validate.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            filter: self.filter.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
        })
    }
}

/// What can be called on one instance.
pub(crate) struct Functions {
    configure: Option<configure::Guest>,
    validate: Option<validate::Guest>,
    filter: Option<filter::Guest>,
}

impl Functions {
    /// The inner error is the plugin's own.
    pub(crate) fn configure(&self, store: &mut Store<State>, config: &str) -> wasmtime::Result<Result<(), String>> {
        self.configure.as_ref().map_or(Ok(Ok(())), |guest| guest.call_configure(store, config))
    }

    pub(crate) fn judge(
        &self,
        store: &mut Store<State>,
        hook: Hook,
        message: Message<'_>,
    ) -> wasmtime::Result<Judgement> {
        match (hook, &self.validate, &self.filter) {
            (Hook::Validate, Some(guest), _) => guest.call_validate(store, message),
            (Hook::Filter, _, Some(guest)) => guest.call_filter(store, message),
            _ => Err(wasmtime::Error::msg("the plugin does not implement this hook")),
        }
    }
}
