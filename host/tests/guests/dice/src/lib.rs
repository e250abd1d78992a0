//! A plugin that notes the time, how often it was asked under the message's `key`, as many random bytes as its `bytes`
//! says, and the id of what is edited.

use std::time::Duration;

use arcyou_plugin_sdk::{Edited, Message, NoConfig, Plugin, Validate, Verdict, clock, kv, random};

struct Dice;

impl Plugin for Dice {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Validate for Dice {
    fn validate(&self, message: &Message) -> Verdict {
        let length = message.text("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(8);
        let asked = kv::increment(&message.text("key").unwrap_or_default(), 1, Duration::from_secs(60));
        let bytes = random::bytes(length);
        Verdict::accept()
            .annotate("asked", format!("{asked:?}"))
            .annotate("clock_ms", clock::now().as_millis().to_string())
            .annotate("length", bytes.len().to_string())
            .annotate("begins", format!("{:?}", &bytes[..8]))
            .annotate("edits", message.edits().map_or(0, Edited::message_id).to_string())
    }
}

arcyou_plugin_sdk::export!(Dice: validate);
