//! What wit-bindgen makes of `wit/`: one world for each hook, so that a plugin's component exports only what it
//! implements.

#![allow(missing_docs, unsafe_code, unreachable_pub)]

#[cfg(target_arch = "wasm32")]
pub(crate) mod log {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world log { import arcyou:gateway/log@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
    });
    pub(crate) use arcyou::gateway::log::{Level, log};
}

#[cfg(target_arch = "wasm32")]
pub(crate) mod clock {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world clock { import arcyou:gateway/clock@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
    });
    pub(crate) use arcyou::gateway::clock::*;
}

#[cfg(target_arch = "wasm32")]
pub(crate) mod random {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world random { import arcyou:gateway/random@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
    });
    pub(crate) use arcyou::gateway::random::*;
}

#[cfg(target_arch = "wasm32")]
pub(crate) mod kv {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world kv { import arcyou:gateway/kv@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
    });
    pub(crate) use arcyou::gateway::kv::*;
}

#[cfg(target_arch = "wasm32")]
pub(crate) mod http {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world http { import arcyou:gateway/http@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
    });
    pub(crate) use arcyou::gateway::http::*;
}

pub mod configure {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world configure { export arcyou:gateway/configure@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_configure",
    });
    pub use exports::arcyou::gateway::configure::Guest;
}

pub mod validate {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world validate { export arcyou:gateway/validate@1.0.0; }",
        path: "wit/1.0.0",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_validate",
    });
    pub use arcyou::gateway::types;
    pub use exports::arcyou::gateway::validate::Guest;
}

pub mod filter {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world filter { export arcyou:gateway/filter@1.0.0; }",
        path: "wit/1.0.0",
        with: { "arcyou:gateway/types@1.0.0": crate::bindings::validate::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_filter",
    });
    pub use exports::arcyou::gateway::filter::Guest;
}

pub mod on_join {
    wit_bindgen::generate!({
        inline: "package arcyou:sdk; world on-join { export arcyou:gateway/on-join@1.0.0; }",
        path: "wit/1.0.0",
        with: { "arcyou:gateway/types@1.0.0": crate::bindings::validate::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_join",
    });
    pub use exports::arcyou::gateway::on_join::{Decision, Guest, Join};
}
