//! The hooks that a component exports, and calls to them, directly or on a fiber.

use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre};

use crate::bindings::direct::exports::arcyou::gateway::{configure, filter, on_join, validate};
use crate::bindings::fiber::exports::arcyou::gateway as on_fiber;
use crate::bindings::{Hook, Judgement, Message, Rejection, Verdict};
use crate::capabilities::may_wait;

/// The names of a component's exports.
pub(crate) fn exports(component: &Component) -> Vec<String> {
    component.component_type().exports(component.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// The indices of a component's hooks, looked up once. A hook that is not exported is not implemented.
#[derive(Clone)]
pub(crate) struct Exports {
    configure: Option<configure::GuestIndices>,
    validate: Option<validate::GuestIndices>,
    filter: Option<filter::GuestIndices>,
    on_join: Option<on_join::GuestIndices>,
    /// The same hooks, called on a fiber. None if the plugin never waits.
    fiber: Option<FiberExports>,
}

#[derive(Clone)]
struct FiberExports {
    configure: Option<on_fiber::configure::GuestIndices>,
    validate: Option<on_fiber::validate::GuestIndices>,
    filter: Option<on_fiber::filter::GuestIndices>,
    on_join: Option<on_fiber::on_join::GuestIndices>,
}

/// The indices of an interface, if it is exported.
macro_rules! find_indices {
    ($pre:ident, $interface:literal, $module:path) => {{
        use $module as interface;
        let exported = $pre.component().get_export_index(None, concat!("arcyou:gateway/", $interface, "@1.0.0"));
        exported.map(|_| interface::GuestIndices::new($pre)).transpose()?
    }};
}

/// The functions of an interface in one instance, if it is exported.
macro_rules! load_functions {
    ($indices:expr, $store:ident, $instance:ident) => {
        $indices.as_ref().map(|found| found.load(&mut *$store, $instance)).transpose()?
    };
}

impl Exports {
    /// Fails if an exported interface has the wrong type; the error names it.
    pub(crate) fn find<T: Send + 'static>(pre: &InstancePre<T>) -> wasmtime::Result<Self> {
        let fiber = if may_wait(pre.component()) { Some(FiberExports::find(pre)?) } else { None };
        Ok(Self {
            configure: find_indices!(pre, "configure", configure),
            validate: find_indices!(pre, "validate", validate),
            filter: find_indices!(pre, "filter", filter),
            on_join: find_indices!(pre, "on-join", on_join),
            fiber,
        })
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Validate => self.validate.is_some(),
            Hook::Filter => self.filter.is_some(),
            Hook::OnJoin => self.on_join.is_some(),
        }
    }

    /// Whether the plugin may have to wait. It is called on a fiber then.
    pub(crate) fn may_wait(&self) -> bool {
        self.fiber.is_some()
    }

    /// The functions of one instance. Their types are checked here.
    pub(crate) fn load<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        instance: &Instance,
    ) -> wasmtime::Result<Functions> {
        Ok(match &self.fiber {
            None => Functions::Direct(Direct {
                configure: load_functions!(self.configure, store, instance),
                validate: load_functions!(self.validate, store, instance),
                filter: load_functions!(self.filter, store, instance),
                on_join: load_functions!(self.on_join, store, instance),
            }),
            Some(fiber) => Functions::OnFiber(OnFiber {
                configure: load_functions!(fiber.configure, store, instance),
                validate: load_functions!(fiber.validate, store, instance),
                filter: load_functions!(fiber.filter, store, instance),
                on_join: load_functions!(fiber.on_join, store, instance),
            }),
        })
    }
}

impl FiberExports {
    fn find<T: Send + 'static>(pre: &InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(Self {
            configure: find_indices!(pre, "configure", on_fiber::configure),
            validate: find_indices!(pre, "validate", on_fiber::validate),
            filter: find_indices!(pre, "filter", on_fiber::filter),
            on_join: find_indices!(pre, "on-join", on_fiber::on_join),
        })
    }
}

/// The functions of one instance.
pub(crate) enum Functions {
    Direct(Direct),
    OnFiber(OnFiber),
}

/// The functions of a plugin that never waits.
pub(crate) struct Direct {
    configure: Option<configure::Guest>,
    validate: Option<validate::Guest>,
    filter: Option<filter::Guest>,
    on_join: Option<on_join::Guest>,
}

/// The functions of a plugin that may have to wait.
pub(crate) struct OnFiber {
    configure: Option<on_fiber::configure::Guest>,
    validate: Option<on_fiber::validate::Guest>,
    filter: Option<on_fiber::filter::Guest>,
    on_join: Option<on_fiber::on_join::Guest>,
}

fn not_implemented() -> wasmtime::Error {
    wasmtime::Error::msg("the plugin does not implement this hook")
}

/// A judgement for the decision about a join.
fn join_judgement(refusal: Option<Rejection>) -> Judgement {
    Judgement { verdict: refusal.map_or(Verdict::Accept, Verdict::Reject), annotations: Vec::new() }
}

impl Direct {
    /// The inner error is the plugin's own: it refuses its configuration.
    pub(crate) fn configure<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        self.configure.as_ref().map_or(Ok(Ok(())), |guest| guest.call_configure(store, config))
    }

    /// Calls a hook. `on-join` uses only the conversation, the user and the role of `message`.
    pub(crate) fn judge<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
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
                Ok(join_judgement(match decision {
                    on_join::Decision::Allow => None,
                    on_join::Decision::Refuse(rejection) => Some(rejection),
                }))
            }
        }
    }
}

impl OnFiber {
    /// See [`Direct::configure`].
    pub(crate) async fn configure<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match &self.configure {
            Some(guest) => guest.call_configure(store, config).await,
            None => Ok(Ok(())),
        }
    }

    /// See [`Direct::judge`].
    pub(crate) async fn judge<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        hook: Hook,
        message: Message<'_>,
    ) -> wasmtime::Result<Judgement> {
        match hook {
            Hook::Validate => self.validate.as_ref().ok_or_else(not_implemented)?.call_validate(store, message).await,
            Hook::Filter => self.filter.as_ref().ok_or_else(not_implemented)?.call_filter(store, message).await,
            Hook::OnJoin => {
                let Message { conversation_id, sender_id: user_id, sender_role: role, .. } = message;
                let join = on_fiber::on_join::Join { conversation_id, user_id, role };
                let decision = self.on_join.as_ref().ok_or_else(not_implemented)?.call_on_join(store, join).await?;
                Ok(join_judgement(match decision {
                    on_fiber::on_join::Decision::Allow => None,
                    on_fiber::on_join::Decision::Refuse(rejection) => Some(rejection),
                }))
            }
        }
    }
}
