//! What a plugin's call costs: the gateway's whole way around it against the bare call, and a plugin's work in the
//! sandbox against the same code outside.

use std::hint::black_box;
use std::time::{Duration, Instant};

use arcyou_plugin_host::{Candidate, Options as HostOptions, PluginHost};
use arcyou_plugin_sdk::{Filter as _, testing};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::json;
use uuid::Uuid;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, Store};
use wit_component::ComponentEncoder;
use word_filter::WordFilter;

use self::bindings::arcyou::gateway::log::{Host, Level};
use self::bindings::arcyou::gateway::types::{Message, Verdict};
use crate::Options;
use crate::report::{Figure, Goal, Round};
use crate::stack::{plugins, plugins_dir};

mod bindings {
    #![allow(unsafe_code)]

    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit/1.0.0",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// Calls between two looks at the clock.
const CALLS: u32 = 1000;

pub fn figures(options: &Options) -> Vec<Figure> {
    let time = Duration::from_secs(options.seconds.into()) / 10;
    let short = r#"{"text":"hello"}"#;
    // 200 bytes of what people write, none of it on the list.
    let sentence = "See you at seven in front of the station, the one with the clock; 나중에 봐요. ".repeat(3);
    let long = json!({ "text": &sentence[..sentence.floor_char_boundary(186)] }).to_string();
    let (mut trivial, mut filter) = (Vec::new(), Vec::new());
    let hosted_trivial = Hosted::new("trivial", "");
    let words = "[plugin.config]\nmask = [\"badword\", \"나쁜말\"]\nreject = [\"forbidden\", \"금지어\"]\n";
    let hosted_filter = Hosted::new("word-filter", words);
    let mut bare_trivial = Bare::new("trivial");
    let config = json!({"mask": ["badword", "나쁜말"], "reject": ["forbidden", "금지어"]});
    let native: WordFilter = testing::plugin(config);
    let body: serde_json::Value = serde_json::from_str(&long).unwrap();
    for _ in 0..options.rounds {
        let ceiling = nanoseconds(time, || bare_trivial.call(short));
        trivial.push(Round { product: nanoseconds(time, hosted_trivial.call(short)), ceiling });
        let message = testing::message(body.clone());
        let ceiling = nanoseconds(time, || {
            let _ = black_box(native.filter(black_box(&message)));
        });
        filter.push(Round { product: nanoseconds(time, hosted_filter.call(&long)), ceiling });
    }
    let shares = "nothing";
    let figure = |name, ceiling, goal, rounds| Figure {
        name,
        unit: "ns a message",
        ceiling,
        shares,
        goal,
        rounds,
        notes: Vec::new(),
    };
    vec![
        figure("a trivial plugin's call", "the bare wasmtime call of the same component", Goal::AtMost(1.5), trivial),
        figure("word-filter on 200 bytes", "the same Rust code called natively", Goal::AtMost(2.0), filter),
    ]
}

/// Nanoseconds of one call.
fn nanoseconds(time: Duration, mut call: impl FnMut()) -> f64 {
    let (started, mut calls) = (Instant::now(), 0_u32);
    while started.elapsed() < time {
        (0..CALLS).for_each(|_| call());
        calls += CALLS;
    }
    started.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// The gateway's plugin host with one plugin.
struct Hosted(PluginHost);

impl Hosted {
    fn new(plugin: &str, settings: &str) -> Self {
        let dir = plugins_dir(&[(plugin, plugin, settings)]);
        Self(PluginHost::new(HostOptions::new(Some(dir.path()), None, BodyLimits::default())).unwrap())
    }

    fn call(&self, body: &str) -> impl FnMut() {
        let body = Body::parse(body, &BodyLimits::default()).unwrap();
        let chain = self.0.chain();
        move || {
            let (conversation, sender, body) = (Uuid::from_u128(1), Uuid::from_u128(2), black_box(&body));
            let preview = chain.preview(Candidate { conversation, sender, role: "member", body, edits: None });
            assert_eq!(preview.outcome, "stored");
        }
    }
}

/// A component and nothing around it.
struct Bare {
    store: Store<Silent>,
    plugin: bindings::exports::arcyou::gateway::validate::Guest,
}

struct Silent;

impl Host for Silent {
    fn log(&mut self, _: Level, _: String) {}
}

impl Bare {
    fn new(plugin: &str) -> Self {
        let module = std::fs::read(plugins().join(format!("{plugin}.wasm"))).unwrap();
        let encoded = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
        let mut config = Config::new();
        // As the gateway's engine: what it must have to interrupt a plugin is not its host's overhead.
        config.concurrency_support(false).epoch_interruption(true);
        let engine = Engine::new(&config).unwrap();
        let mut linker = Linker::new(&engine);
        bindings::arcyou::gateway::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).unwrap();
        let pre = linker.instantiate_pre(&Component::from_binary(&engine, &encoded).unwrap()).unwrap();
        let mut store = Store::new(&engine, Silent);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = pre.instantiate(&mut store).unwrap();
        let configure = bindings::exports::arcyou::gateway::configure::GuestIndices::new(&pre).unwrap();
        configure.load(&mut store, &instance).unwrap().call_configure(&mut store, "{}").unwrap().unwrap();
        let indices = bindings::exports::arcyou::gateway::validate::GuestIndices::new(&pre).unwrap();
        let plugin = indices.load(&mut store, &instance).unwrap();
        Self { store, plugin }
    }

    fn call(&mut self, body: &str) {
        let message = Message {
            conversation_id: "00000000-0000-0000-0000-000000000001",
            sender_id: "00000000-0000-0000-0000-000000000002",
            sender_role: "member",
            body: black_box(body),
            annotations: &[],
            edits: None,
        };
        let judgement = self.plugin.call_validate(&mut self.store, message).unwrap();
        assert!(matches!(judgement.verdict, Verdict::Accept));
    }
}
