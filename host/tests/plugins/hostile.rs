//! Hostile plugins do no harm: none of the list is more than one message's misfortune, and the neighbours notice
//! nothing.

use std::fs;
use std::path::Path;

use arcyou_plugin_host::{Candidate, Options, PluginHost};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::guests::cache;
use crate::support::hostile::{DEEDS, Deed, File, files};
use crate::support::plugins::{built, directory};

/// A guest that does one of the deeds with every message of some conversations.
fn manifest(deed: &Deed, conversations: &str) -> String {
    let Deed { filter, settings, .. } = deed;
    format!(
        "[[plugin]]\nname = \"misbehaving\"\n{settings}[plugin.breaker]\nfailures = 1000000\n\
         [plugin.when]\nconversations = [{conversations}]\n[plugin.config]\nfilter = \"{filter}\"\n"
    )
}

fn outcome(host: &PluginHost, text: &str) -> &'static str {
    let body = Body::parse(text, &BodyLimits::default()).unwrap();
    let (conversation, sender, body) = (Uuid::nil(), Uuid::nil(), &body);
    host.chain().preview(Candidate { conversation, sender, role: "member", body, edits: None }).outcome
}

fn host(dir: &Path) -> PluginHost {
    PluginHost::new(Options::new(Some(dir), Some(&cache()), BodyLimits::default())).unwrap()
}

/// The plugin under this manifest.
fn loaded(manifest: &str) -> PluginHost {
    let dir = directory(&["misbehaving"], manifest);
    host(dir.variable().1.as_ref())
}

#[test]
fn each_deed_harms_one_message() {
    for deed in DEEDS {
        let host = loaded(&manifest(deed, ""));
        let name = deed.name;
        assert_eq!(outcome(&host, "{}"), deed.outcome, "{name}");
        assert_eq!(outcome(&host, "{\"filter\":\"accept\"}"), "stored", "{name}: the next message must not suffer");
        let failed = host.status().remove(0).last_failure;
        assert_eq!(failed.is_some(), deed.failure.is_some(), "{name}: {failed:?}");
        assert!(failed.unwrap_or_default().starts_with(deed.failure.unwrap_or_default()), "{name}");
    }
}

#[test]
fn each_file_is_refused_and_the_plugins_that_run_go_on() {
    let dir = directory(&["misbehaving"], "");
    let path: &Path = dir.variable().1.as_ref();
    let running = host(path);
    let plugin = fs::read(built().join("misbehaving.wasm")).unwrap();
    for File { name, bytes, says } in files(&plugin) {
        fs::write(path.join("x.wasm"), bytes).unwrap();
        let error = running.reload().err().unwrap_or_else(|| panic!("{name} was loaded")).to_string();
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(outcome(&running, "{}"), "stored");
        fs::remove_file(path.join("x.wasm")).unwrap();
    }
}

#[test]
fn a_leak_never_fills_its_memory_and_a_trap_now_and_then_harms_no_other_call() {
    let leak = DEEDS.iter().find(|deed| deed.filter == "drip").unwrap();
    let running = loaded(&manifest(leak, ""));
    // A kibibyte each: more than twice as much as it may have.
    for _ in 0..40 << 10 {
        assert_eq!(outcome(&running, "{}"), "stored");
    }
    let status = running.status().remove(0);
    assert!(status.failures == 0 && status.instances_started > 3, "{status:?}");
    assert!(status.memory_bytes <= 16 << 20, "{status:?}");

    let seventh = DEEDS.iter().find(|deed| deed.filter == "seventh").unwrap();
    let running = loaded(&manifest(seventh, ""));
    let outcomes: Vec<_> = (0..12).map(|_| outcome(&running, "{\"validate\":\"seventh\"}")).collect();
    // Two calls for a message: the seventh is the fourth message's first.
    let expected: Vec<_> = (1..=12).map(|n| if n % 4 == 0 { "failed" } else { "stored" }).collect();
    assert_eq!(outcomes, expected);
}

/// People who chat while others are ill served.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_a_hostile_plugin_lose_nothing() {
    let world = World::new().await;
    let (victim, neighbour) = (Uuid::new_v4(), Uuid::new_v4());
    let (bad, good) = (world.conversation(&[victim]).await, world.conversation(&[neighbour]).await);
    let dir = directory(&["misbehaving"], &manifest(&DEEDS[0], &format!("\"{bad}\"")));
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (port, ends) = (gateway.port, CancellationToken::new());
    let chat = tokio::spawn(chat(port, neighbour, good, ends.clone()));
    let mut client = Client::authenticated(port, victim).await;
    for deed in DEEDS {
        let Deed { name, filter, outcome, .. } = deed;
        let frame = json!({"op": "send", "conversation_id": bad, "body": {"filter": filter}});
        let reply = client.request(frame).await;
        let told = reply["code"].as_str().or(reply["status"].as_str()).unwrap().trim_start_matches("plugin_");
        // On a busy machine any of them may be out of time.
        assert!(told == *outcome || told == "failed", "{name}: {reply}");
    }
    ends.cancel();
    let said = chat.await.unwrap();
    let rows = world.count(&format!("SELECT count(*) FROM messages WHERE conversation_id = '{good}'")).await;
    assert!(said > 0 && rows == said, "{said} said, {rows} stored");
}

/// Says one thing after another until told to stop; each must be stored and heard, in order.
async fn chat(port: u16, user: Uuid, conversation: Uuid, ends: CancellationToken) -> i64 {
    let mut client = Client::joined(port, user, conversation).await;
    let mut said = 0;
    while !ends.is_cancelled() || said == 0 {
        said += 1;
        let reply: Value = client.say(conversation, &said.to_string()).await;
        assert_eq!(reply["seq"], said, "{reply}");
        assert_eq!(client.message().await, (said.to_string(), said));
    }
    said
}
