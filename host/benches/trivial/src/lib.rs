//! A plugin that accepts everything: what is left of a call is the gateway's.

use arcyou_plugin_sdk::{Message, NoConfig, Plugin, Validate, Verdict};

struct Trivial;

impl Plugin for Trivial {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Validate for Trivial {
    fn validate(&self, _: &Message) -> Verdict {
        Verdict::accept()
    }
}

arcyou_plugin_sdk::export!(Trivial: validate);
