//! A plugin that does whatever it is told to: by its configuration, or by the message's field `do`.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::Duration;

use arcyou_plugin_sdk::{Edited, Filter, Message, Plugin, Validate, Verdict, info};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// What each hook does with a message that does not say.
    validate: String,
    filter: String,
    /// What `new` does.
    start: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { validate: "accept".into(), filter: "accept".into(), start: String::new() }
    }
}

struct Misbehaving {
    config: Config,
    calls: Cell<u32>,
    kept: RefCell<Vec<Vec<u8>>>,
}

impl Plugin for Misbehaving {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        match config.start.as_str() {
            "refuse" => return Err("I do not like\nmy configuration".into()),
            "panic" => panic!("cannot start"),
            "loop" => endless(),
            _ => {}
        }
        Ok(Self { config, calls: Cell::new(0), kept: RefCell::default() })
    }
}

impl Validate for Misbehaving {
    fn validate(&self, message: &Message) -> Verdict {
        let told = message.text("validate").unwrap_or_else(|| self.config.validate.clone());
        self.act(&told, message)
    }
}

impl Filter for Misbehaving {
    fn filter(&self, message: &Message) -> Verdict {
        let told = message.text("filter").unwrap_or_else(|| self.config.filter.clone());
        self.act(&told, message)
    }
}

impl Misbehaving {
    fn act(&self, what: &str, message: &Message) -> Verdict {
        self.calls.set(self.calls.get() + 1);
        match what {
            "accept" => Verdict::accept(),
            "reject" => Verdict::reject("told_to", "I was told to").retry_after(Duration::from_millis(1500)),
            "reject-odd" => Verdict::reject("Not A Token\n", "x"),
            "reject-long" => Verdict::reject("long", format!("forged\nline {}", "한".repeat(2000))),
            "discard" => Verdict::discard(),
            "hold" => Verdict::hold("somebody should look"),
            "replace" => Verdict::replace(&json!({"text": "replaced"})),
            "replace-garbage" => Verdict::replace_text("{\"a\":1,\"a\":2"),
            "replace-huge" => Verdict::replace(&json!({"text": "x".repeat(4 << 20)})),
            "append" => message.replace_field("text", &format!("{}+", message.text("text").unwrap_or_default())),
            "reject-replaced" if message.text("text").as_deref() == Some("replaced") => {
                Verdict::reject("seen", "twice")
            }
            "reject-replaced" => Verdict::accept(),
            "annotate" => Verdict::accept()
                .annotate("role", message.sender_role())
                .annotate("calls", self.calls.get().to_string()),
            "annotate-flood" => (0..100).fold(Verdict::accept(), |verdict, n| verdict.annotate(n.to_string(), "x")),
            "see" => {
                let seen: Vec<String> =
                    message.annotations().iter().map(|note| format!("{}={}", note.key, note.value)).collect();
                Verdict::accept().annotate("saw", seen.join(","))
            }
            "echo" => {
                Verdict::accept().annotate("ids", format!("{} {}", message.conversation_id(), message.sender_id()))
            }
            "edits" => Verdict::accept().annotate("edits", seen_edits(message)),
            "panic" => panic!("this is what I panic about"),
            "panic-of-edits" if message.edits().is_some() => panic!("I edit {}", seen_edits(message)),
            "panic-of-edits" => Verdict::accept(),
            "loop" => endless(),
            "memory" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(black_box(vec![1; 1 << 20]));
                }
            }
            "leak" => {
                self.kept.borrow_mut().push(black_box(vec![1; 6 << 20]));
                Verdict::accept()
            }
            // Little by little, for ever.
            "drip" => {
                self.kept.borrow_mut().push(black_box(vec![1; 1 << 10]));
                Verdict::accept()
            }
            "seventh" if self.calls.get() == 7 => panic!("the seventh call"),
            "seventh" => Verdict::accept(),
            "recurse" => Verdict::hold(recurse(black_box(0)).to_string()),
            "log-flood" => {
                for line in 0..100_000 {
                    info!("line {line}");
                }
                Verdict::accept()
            }
            "log-flood-panic" => {
                (0..100).for_each(|line| info!("line {line}"));
                panic!("last words")
            }
            // SAFETY: none; this is what a broken toolchain might do.
            "bad-text" => Verdict::hold(unsafe { String::from_utf8_unchecked(vec![b'a', 0xff]) }),
            "log-forge" => {
                info!("first\nERROR forged");
                Verdict::accept()
            }
            "parse" => Verdict::accept()
                .annotate("n", message.body::<Value>().map_or(0, |body| body.to_string().len()).to_string()),
            other => panic!("nobody told me how to {other:?}"),
        }
    }
}

/// The id, the version and the body of what is edited.
fn seen_edits(message: &Message) -> String {
    let seen = |edited: &Edited| format!("{} {} {}", edited.message_id(), edited.version(), edited.body_text());
    message.edits().map_or_else(|| "nothing".to_owned(), seen)
}

fn endless() -> ! {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + black_box(frame[7])
}

arcyou_plugin_sdk::export!(Misbehaving: validate, filter);
