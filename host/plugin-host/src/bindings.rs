//! The plugin interface: the only bindings to the WIT package.

/// All imports and exports, with hooks that are called directly.
pub(crate) mod direct {
    #![allow(unsafe_code, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "../../plugin-sdk/wit/1.0.0",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: {
            "arcyou:gateway/random": trappable,
            "arcyou:gateway/kv": async,
            "arcyou:gateway/http": async,
        },
    });
}

/// The same hooks, called on a fiber, for plugins that may have to wait.
pub(crate) mod fiber {
    #![allow(unsafe_code, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "../../plugin-sdk/wit/1.0.0",
        inline: "package arcyou:host; world hooks {
            export arcyou:gateway/configure@1.0.0;
            export arcyou:gateway/validate@1.0.0;
            export arcyou:gateway/filter@1.0.0;
            export arcyou:gateway/on-join@1.0.0;
        }",
        world: "arcyou:host/hooks",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: { "arcyou:gateway/types": super::direct::arcyou::gateway::types },
    });
}

/// The interfaces that plugins may import.
pub(crate) mod host {
    pub(crate) use super::direct::arcyou::gateway::{clock, http, kv, log, random};
}

pub(crate) use direct::arcyou::gateway::types::{
    AnnotationParam, AnnotationResult, Edited, Judgement, Message, Rejection, Verdict,
};

/// The version of the WIT package that this gateway supports.
pub(crate) const INTERFACE_VERSION: &str = "1.0.0";

/// A function of a plugin that the gateway calls.
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
