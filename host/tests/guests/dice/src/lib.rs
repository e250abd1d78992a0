//! A plugin that notes the time, and as many random bytes as the message's `bytes` asks for.

use arcyou_plugin_sdk::{Message, NoConfig, Plugin, Validate, Verdict, clock, random};

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
        let bytes = random::bytes(length);
        Verdict::accept()
            .annotate("clock_ms", clock::now().as_millis().to_string())
            .annotate("length", bytes.len().to_string())
            .annotate("begins", format!("{:?}", &bytes[..8]))
    }
}

arcyou_plugin_sdk::export!(Dice: validate);
