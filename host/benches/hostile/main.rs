//! What hostile plugins do, and what the neighbours notice: `make bench-hostile`.
//!
//! One gateway process with one plugin that is called for one conversation alone, and does there whatever its messages
//! ask for, as fast as the answers come. In other conversations people say something at a steady rate; the time from
//! the intended moment of each message to its acknowledgement is what counts, so that a stall is not hidden by waiting
//! for it. Everything shares this machine.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod neighbours;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use arcyou_plugin_host::{Candidate, Options, PluginHost};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use neighbours::Neighbours;
use support::World;
use support::client::Client;
use support::hostile::{DEEDS, Deed, File, files};
use support::plugins::{built, directory};
use support::program::Program;

/// How long each deed is done, and by how many at once.
const EACH: Duration = Duration::from_secs(4);
const ATTACKERS: usize = 2;
/// Messages to a plugin that leaks, each two calls.
const LEAKS: u32 = 500_000;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let attacker = Uuid::new_v4();
    let bad = world.conversation(&[attacker]).await;
    let manifest = format!(
        "[[plugin]]\nname = \"misbehaving\"\n[plugin.breaker]\nfailures = 1000000\n[plugin.when]\nconversations = [\"{bad}\"]\n"
    );
    let dir = directory(&["misbehaving"], &manifest);
    let gateway = world.program(&[dir.variable(), ("RATE_LIMIT_PER_SECOND", "0")]).await;
    let neighbours = Neighbours::start(&world, gateway.port).await;

    row("what is tried", "what happens", &"the neighbours meanwhile");
    tokio::time::sleep(EACH).await;
    row("nothing", "", &neighbours.since());
    for deed in DEEDS {
        let happened = attack(gateway.port, attacker, bad, deed).await;
        row(deed.name, &happened, &neighbours.since());
    }
    let plugin = fs::read(built().join("misbehaving.wasm")).unwrap();
    for file in files(&plugin) {
        let happened = drop_in(&gateway, Path::new(dir.variable().1), &file).await;
        row(file.name, &happened, &neighbours.since());
    }
    let (said, stored) = (
        neighbours.stop().await,
        world.count(&format!("SELECT count(*) FROM messages WHERE conversation_id <> '{bad}'")).await,
    );
    println!("\n{said} messages of neighbours acknowledged, {stored} stored, none refused");
    leak(Path::new(dir.variable().1));
}

fn row(tried: &str, happened: &str, meanwhile: &dyn std::fmt::Display) {
    println!("{tried:<32} {happened:<44} {meanwhile}");
}

/// Sends the same message again and again; tells what became of it how often.
async fn attack(port: u16, user: Uuid, conversation: Uuid, deed: &Deed) -> String {
    let ends = CancellationToken::new();
    let attacker = async |ends: CancellationToken| {
        let mut client = Client::authenticated(port, user).await;
        let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
        while !ends.is_cancelled() {
            let frame = json!({"op": "send", "conversation_id": conversation, "body": {"filter": deed.filter}});
            let reply = client.request(frame).await;
            let told = reply["code"].as_str().or(reply["status"].as_str()).unwrap().to_owned();
            *outcomes.entry(told).or_default() += 1;
        }
        outcomes
    };
    let all = futures_util::future::join_all((0..ATTACKERS).map(|_| attacker(ends.clone())));
    let stop = async {
        tokio::time::sleep(EACH).await;
        ends.cancel()
    };
    let (all, ()) = tokio::join!(all, stop);
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    for (told, count) in all.into_iter().flatten() {
        *outcomes.entry(told).or_default() += count;
    }
    outcomes.iter().map(|(told, count)| format!("{count} × {told}")).collect::<Vec<_>>().join(", ")
}

/// Puts a file where the gateway loads plugins from, and takes it away when it was refused.
async fn drop_in(gateway: &Program, dir: &Path, file: &File) -> String {
    let started = Instant::now();
    fs::write(dir.join("x.wasm"), &file.bytes).unwrap();
    let loaded = loop {
        match plugins(gateway).await {
            (_, true) => break true,
            (true, _) => break false,
            _ if started.elapsed() > Duration::from_secs(150) => break true,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let took = started.elapsed();
    fs::remove_file(dir.join("x.wasm")).unwrap();
    while plugins(gateway).await != (false, false) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = if loaded { "compiled and started" } else { "refused" };
    format!("{told} after {:.1} s", took.as_secs_f64())
}

/// Whether the changed files are refused, and whether there is a second plugin.
async fn plugins(gateway: &Program) -> (bool, bool) {
    let parsed = async |path: &str| -> Value {
        let answer = gateway.get(path).await;
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let ready = parsed("/ready").await;
    let plugins = parsed("/plugins").await;
    (ready["parts"]["plugins"]["state"] == "down", plugins["plugins"].as_array().unwrap().len() > 1)
}

/// A million calls of a plugin that keeps a kibibyte of each message.
fn leak(dir: &Path) {
    fs::write(dir.join("plugins.toml"), "[[plugin]]\nname = \"misbehaving\"\n[plugin.config]\nfilter = \"drip\"\n")
        .unwrap();
    let host = PluginHost::new(Options::new(Some(dir), None, BodyLimits::default())).unwrap();
    let body = Body::parse("{}", &BodyLimits::default()).unwrap();
    let started = Instant::now();
    for _ in 0..LEAKS {
        let (conversation, sender, body) = (Uuid::nil(), Uuid::nil(), &body);
        let preview = host.chain().preview(Candidate { conversation, sender, role: "member", body, edits: None });
        assert_eq!(preview.outcome, "stored");
    }
    let status = host.status().remove(0);
    println!(
        "a leak over {} calls: {} instances one after another, {} failures, {} KiB held at the end, {:.1} s",
        2 * LEAKS,
        status.instances_started,
        status.failures,
        status.memory_bytes / 1024,
        started.elapsed().as_secs_f64()
    );
}
