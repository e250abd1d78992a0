//! What clients say, and what the plugins of a run must make of it.

use serde_json::{Value, json};

use crate::history::Verdict;

/// Plugins that replace, reject, discard and hold. A pause of a busy machine does not count as theirs.
pub const PLUGINS: [&str; 3] = ["body-shape", "word-filter", "misbehaving"];
pub const CONFIG: &str = r#"
[chain]
deadline_ms = 30000

[[plugin]]
name = "body-shape"
[plugin.limits]
deadline_ms = 10000
[plugin.config]
fields = ["filter"]

[[plugin]]
name = "word-filter"
[plugin.limits]
deadline_ms = 10000
[plugin.config]
mask = ["badword"]
reject = ["forbidden"]

[[plugin]]
name = "misbehaving"
[plugin.limits]
deadline_ms = 10000
"#;

/// A body, and what becomes of it.
pub fn body(random: &mut fastrand::Rng, key: &str) -> (Value, Verdict) {
    let text = format!("message {key}{}", long(random));
    let told = |filter: &str| json!({"text": text, "filter": filter});
    match random.u8(..40) {
        0 => (json!({"text": format!("forbidden {text}")}), Verdict::Reject),
        1 => (json!({"text": text, "colour": "red"}), Verdict::Reject),
        2 => (told("discard"), Verdict::Discard),
        3 => (told("hold"), Verdict::Hold(told("hold"))),
        4..7 => {
            (json!({"text": format!("badword {text}")}), Verdict::Store(json!({"text": format!("******* {text}")})))
        }
        7 => (told("append"), Verdict::Store(json!({"text": format!("{text}+"), "filter": "append"}))),
        _ => (json!({"text": text}), Verdict::Store(json!({"text": text}))),
    }
}

/// Most messages are short, some are not.
fn long(random: &mut fastrand::Rng) -> String {
    let length = if random.u8(..4) == 0 { random.usize(500..2_000) } else { 0 };
    ".".repeat(length)
}
