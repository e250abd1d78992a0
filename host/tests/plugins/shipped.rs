//! The plugins of this repository, as they are shipped: built, configured as their `plugins.toml` has it, held to their
//! cases.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arcyou_plugin_host::tool::build;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::guests::{Dir, compile_for_gateways, edit, edit_from, logged, send, send_from};
use crate::support::plugins::built;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

const SCRIPTED: [&str; 4] =
    ["plugins/JavaScript", "plugins/Python", "host/tests/guests/JavaScript", "host/tests/guests/Python"];

/// The plugins in JavaScript and Python, and those of the tests; built when anything that they are made of has changed,
/// since that takes half a minute, and so does compiling what comes of it, which is never the same twice.
pub(crate) fn scripted() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("plugins-test-scripted");
        let (stamp, made_of) = (out.join("made-of.sha256"), digest());
        if fs::read_to_string(&stamp).ok().as_ref() != Some(&made_of) {
            build::build(&SCRIPTED.map(|folder| root().join(folder)), &out).unwrap();
            fs::write(stamp, made_of).unwrap();
        }
        out
    })
}

/// Of the scripts, the plugins, and the SDK that they are built with; the versions of the tools stand beside the
/// scripts.
fn digest() -> String {
    let mut files = Vec::new();
    SCRIPTED.iter().chain(&["plugin-sdk"]).for_each(|folder| files_in(&root().join(folder), &mut files));
    files.extend(["javascript.sh", "python.sh"].map(|script| root().join("host/tests/guests").join(script)));
    files.sort();
    let mut sum = Sha256::new();
    for file in files {
        let content = fs::read(&file).unwrap();
        sum.update(format!("{} {}\n", file.strip_prefix(root()).unwrap().display(), content.len()));
        sum.update(content);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below, but for what the scripts install and compilers leave.
fn files_in(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let is_installed = ["node_modules", ".venv", "target"].iter().any(|name| path.ends_with(name));
        match path.is_dir() {
            true if is_installed => {}
            true => files_in(&path, files),
            false => files.push(path),
        }
    }
}

/// Every plugin that is shipped, with where it is built to.
pub(crate) fn shipped() -> BTreeMap<String, &'static Path> {
    let folders = |dir: &str, holds: &str, built: fn() -> &'static Path| {
        let entries = fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let plugins: Vec<PathBuf> = entries.filter(|path| path.join(holds).is_file()).collect();
        plugins.into_iter().map(move |path| (path.file_name().unwrap().to_str().unwrap().to_owned(), built()))
    };
    let crates = folders("plugins", "Cargo.toml", built);
    let scripts = ["plugins/JavaScript", "plugins/Python"].map(|dir| folders(dir, "build.sh", scripted));
    crates.chain(scripts.into_iter().flatten()).collect()
}

/// A directory with those of them that have such a name, enabled.
fn directory(is_wanted: impl Fn(&str) -> bool) -> Dir {
    let dir = Dir::empty();
    for (name, built) in shipped().into_iter().filter(|(name, _)| is_wanted(name)) {
        for file in ["wasm", "cases.toml"].map(|kind| format!("{name}.{kind}")) {
            dir.write(&file, &fs::read(built.join(&file)).unwrap());
        }
    }
    let mut manifest: toml::Table = fs::read_to_string(root().join("plugins/plugins.toml")).unwrap().parse().unwrap();
    let entries = manifest["plugin"].as_array_mut().unwrap();
    entries.retain(|entry| is_wanted(entry["name"].as_str().unwrap()));
    for entry in entries.iter_mut().map(|entry| entry.as_table_mut().unwrap()) {
        entry.remove("enabled");
        // A pause of a busy machine is not the plugin's.
        let limits = entry.entry("limits").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
        limits.extend([("deadline_ms", 10_000), ("startup_ms", 60_000)].map(|(key, ms)| (key.to_owned(), ms.into())));
    }
    manifest.insert("chain".to_owned(), toml::Table::from_iter([("deadline_ms".to_owned(), 10_000.into())]).into());
    dir.manifest(&manifest.to_string());
    dir
}

/// The gateway holds each plugin to its cases before it loads it, in the sandbox.
#[test]
fn each_plugin_has_an_entry_and_cases_that_hold() {
    let manifest: toml::Table = fs::read_to_string(root().join("plugins/plugins.toml")).unwrap().parse().unwrap();
    let entries = manifest["plugin"].as_array().unwrap().iter();
    let listed: BTreeSet<String> = entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, shipped().into_keys().collect());
    let status = directory(|_| true).host().status();
    let hooks: HashMap<_, _> = status.into_iter().map(|status| (status.plugin, status.hooks)).collect();
    assert_eq!(hooks.len(), listed.len());
    assert_eq!(
        (&hooks["body-shape"], &hooks["word-filter"]),
        (&vec!["validate"], &vec!["filter"]),
        "what they implement"
    );
}

/// What a message may not say, no edit makes it say. What stands is no excuse, and no reason to refuse what is better.
#[test]
fn nobody_smuggles_anything_in_by_an_edit() {
    // The service that it asks is not there.
    let host = directory(|name| name != "toxicity-hook").host();
    let fine = json!({"text": "fine"});
    let long = "a".repeat(4001);
    for (text, plugin, code) in [
        (long.as_str(), "body-shape", "text_too_long"),
        ("look: http://www.evil.example", "link-guard", "link_denied"),
        ("that is FORBIDDEN", "word-filter", "forbidden_word"),
        ("@everyone, look!", "mention-limit", "mentions_everybody"),
        ("log in at pаypal", "script-guard", "imitation"),
    ] {
        let body = json!({"text": text});
        for stands in [&fine, &body] {
            let edited = edit(&host, stands, &body);
            let told = (edited.outcome, edited.plugin.as_deref(), edited.code.as_deref());
            assert_eq!(told, ("rejected", Some(plugin), Some(code)), "{stands} becomes {body}");
        }
        assert_eq!(edit(&host, &body, &fine).outcome, "stored", "{body} becomes {fine}");
    }
    let masked = edit(&host, &fine, &json!({"text": "What a badword, call 010-1234-5678"}));
    assert_eq!(masked.body.as_deref(), Some(r#"{"text":"What a *******, call ***-****-****"}"#));
    let held = edit(&host, &fine, &json!({"text": "what a surprise"}));
    assert_eq!((held.outcome, held.plugin.as_deref()), ("held", Some("word-filter")));

    let (sender, same) = (2_000_000, json!({"text": "the same again"}));
    for _ in 0..3 {
        assert_eq!(send_from(&host, sender, same.clone()).outcome, "stored");
    }
    assert_eq!(edit_from(&host, sender, &fine, &same).code.as_deref(), Some("repeated"));
    for (stands, body) in [(&same, json!({"text": "The same, again!"})), (&same, fine.clone()), (&fine, same.clone())] {
        let edited = edit_from(&host, sender, stands, &body);
        assert_eq!(edited.outcome, "stored", "{stands} becomes {body}: {edited:?}");
    }
}

/// An exception is no verdict: the call fails, and its author finds where in the gateway's log.
#[test]
fn uncaught_exceptions_fail_the_call_and_are_logged_with_their_stack() {
    for (name, thrown, place) in [("throwing", "TypeError", "lookUp"), ("raising", "KeyError: 'absent'", "look_up")] {
        let dir = Dir::empty();
        dir.write(&format!("{name}.wasm"), &fs::read(scripted().join(format!("{name}.wasm"))).unwrap());
        let manifest = format!(
            "[chain]\ndeadline_ms = 10000\n[[plugin]]\nname = {name:?}\n[plugin.limits]\nstartup_ms = 60000\nmemory_mib = 32\ndeadline_ms = 10000\n"
        );
        dir.manifest(&manifest);
        let host = dir.host();
        for (text, outcome, words) in [
            ("throw", "failed", [thrown, place]),
            ("nothing", "failed", ["TypeError", "validate must return a verdict"]),
            ("fine", "stored", ["", ""]),
        ] {
            let lines =
                logged(|| assert_eq!(send(&host, json!({"text": text})).outcome, outcome, "{name}: {text}")).concat();
            assert!(words.iter().all(|word| lines.contains(word)), "{name}: {text}: {lines}");
        }
        dir.manifest(&format!("{manifest}[plugin.config]\nrefuse = \"not with me\"\n"));
        let refused = host.reload().unwrap_err().to_string();
        assert_eq!(refused, format!("plugin {name} refuses its configuration: not with me"));
    }
}

#[tokio::test]
async fn messages_pass_all_of_a_chain_or_meet_the_one_that_objects() {
    let chain = ["body-shape", "link-guard", "pii-mask", "word-filter", "mention-limit", "script-guard"];
    // What the gateway has to compile is compiled before it starts.
    let compiled = move || {
        let dir = directory(|name| chain.contains(&name));
        compile_for_gateways(dir.path());
        dir
    };
    let dir = tokio::task::spawn_blocking(compiled).await.unwrap();
    let world = World::new().await;
    let (gateway, _worker) =
        (world.gateway_with(&[("PLUGINS_DIR", dir.path().to_str().unwrap())]).await, world.worker().await);
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let send = |text: &str| json!({"op": "send", "conversation_id": conversation, "body": {"text": text}});
    client.ok(send("@철수 내 번호는 010-1234-5678, https://good.example")).await;
    assert_eq!(client.message().await, ("@철수 내 번호는 ***-****-****, https://good.example".to_owned(), 1));
    let annotations = world.sql.query_one("SELECT annotations::text FROM messages", &[]).await.unwrap();
    let annotations: Value = serde_json::from_str(annotations.get(0)).unwrap();
    assert_eq!(annotations, json!({"mention-limit": {"mentions": "1"}, "pii-mask": {"masked_phones": "1"}}));
    for (text, plugin, code) in [
        ("http://www.evil.example", "link-guard", "link_denied"),
        ("@everyone, look!", "mention-limit", "mentions_everybody"),
        ("log in at pаypal", "script-guard", "imitation"),
    ] {
        let reply = client.request(send(text)).await;
        let told = ["code", "plugin", "reject_code"].map(|key| reply[key].as_str().unwrap_or_default());
        assert_eq!(told, ["rejected", plugin, code], "{reply}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
}
