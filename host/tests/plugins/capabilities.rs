//! What plugins may do beside answering: values in Redis, requests over HTTP, decisions about joins; and the interface
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcyou_plugin_host::{Options, PluginHost};
use arcyou_protocol::body::BodyLimits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;
use wit_component::StringEncoding;
use wit_parser::{LiftLowerAbi, ManglingAndAbi};

use crate::support::World;
use crate::support::client::Client;
use crate::support::guests::{Dir, annotations, logged, send};
use crate::support::plugins::directory;

/// What plugins are built against.
const PACKAGE: &str = include_str!("../../../plugin-sdk/wit/1.0.0/gateway.wit");

fn message(conversation: Uuid, text: &str) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": {"text": text}})
}

/// A plugin with all that the world `plugin` of this package has; each of its functions ends in a trap.
fn dummy(package: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let id = resolve.push_str("gateway.wit", package).unwrap();
    let world = resolve.select_world(&[id], Some("plugin")).unwrap();
    let mut module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// The same with another world.
fn with_world(package: &str, parts: &str) -> String {
    format!("{}world plugin {{ {parts} }}", package.split("world plugin").next().unwrap())
}

fn refusal(package: &str) -> String {
    let dir = Dir::empty();
    dir.write("dummy.wasm", &dummy(package));
    dir.error()
}

#[test]
fn the_gateway_offers_and_calls_what_the_package_says() {
    let granted = |names: &[&str]| {
        // Not configured, it is called by nothing while it is loaded.
        let parts = "import log; import clock; import random; import kv; import http;
            export validate; export filter; export on-join;";
        let dir = Dir::empty();
        dir.write("dummy.wasm", &dummy(&with_world(PACKAGE, parts)));
        let hosts = if names.contains(&"http") { "[plugin.http]\nhosts = [\"example.com\"]\n" } else { "" };
        dir.manifest(&format!("[[plugin]]\nname = \"dummy\"\ngrants = {names:?}\n{hosts}"));
        dir
    };
    let names = ["clock", "random", "kv", "http"];
    for missing in names {
        let others: Vec<&str> = names.into_iter().filter(|name| *name != missing).collect();
        let error = granted(&others).error();
        // The whole line: what is granted already stays.
        let (import, line) = (format!("`arcyou:gateway/{missing}@1.0.0`"), format!("grants = {names:?}"));
        assert!(error.contains(&import) && error.contains(&line), "{error}");
    }
    assert_eq!(send(&granted(&names).host(), json!({})).outcome, "failed", "it was called, and trapped");
}

#[test]
fn a_plugin_for_another_version_is_refused_and_told_which_there_is() {
    for version in ["0.9.0", "1.0.1", "1.1.0", "2.0.0"] {
        let package = PACKAGE.replace("@1.0.0;", &format!("@{version};"));
        let error = refusal(&package);
        assert!(error.contains("it exports `arcyou:gateway/") && error.contains(&format!("@{version}`")), "{error}");
        assert!(error.contains("`arcyou:gateway@1.0.0`") && error.contains("SDK"), "{error}");
        let error = refusal(&with_world(&package, "import kv;"));
        assert!(error.contains(&format!("it imports `arcyou:gateway/kv@{version}`")), "{error}");
        assert!(error.contains("`arcyou:gateway@1.0.0`") && !error.contains("grants ="), "{error}");
    }
    // A hook that this gateway would never call.
    let later = with_world(PACKAGE, "export validate; export later;") + " interface later { later: func(); }";
    let error = refusal(&later);
    assert!(error.contains("it exports `arcyou:gateway/later@1.0.0`"), "{error}");
}

#[test]
fn what_is_not_granted_is_refused_with_the_line_to_add() {
    let dir = Dir::empty();
    dir.copy("flood-guard.wasm", "flood-guard.wasm");
    let error = dir.error();
    assert!(error.contains("arcyou:gateway/kv@1.0.0") && error.contains("grants = [\"kv\"]"), "{error}");
    let entry = |rest: &str| {
        dir.manifest(&format!("[[plugin]]\nname = \"flood-guard\"\n{rest}"));
        dir.error()
    };
    assert!(entry("grants = [\"disk\"]\n").contains("line 3"));
    assert!(entry("grants = [\"kv\"]\n[plugin.kv]\ncalls = 0\n").contains("line 5"));
    assert!(entry("grants = [\"http\"]\n").contains("hosts ="));
    assert!(entry("grants = [\"kv\", \"http\"]\n[plugin.http]\nhosts = [\"https://x\"]\n").contains("line 5"));
    assert!(entry("[plugin.kv]\ncalls = 1\n").contains("grants = [\"kv\"]"));
    // A gateway whose Redis is a cluster, and that was told of no other.
    dir.manifest("[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n");
    let mut options = Options::new(Some(dir.path()), None, BodyLimits::default());
    options.kv = None;
    let error = PluginHost::new(options).err().unwrap().to_string();
    assert!(error.contains("flood-guard") && error.contains("PLUGIN_KV_URL"), "{error}");
}

#[test]
fn time_chance_and_values_are_there_for_a_plugin_that_is_granted_them() {
    let dir = Dir::empty();
    dir.copy("dice.wasm", "dice.wasm");
    dir.manifest("[[plugin]]\nname = \"dice\"\ngrants = [\"clock\", \"kv\"]\n");
    let error = dir.error();
    assert!(
        error.contains("arcyou:gateway/random@1.0.0") && error.contains("grants = [\"clock\", \"random\", \"kv\"]"),
        "{error}"
    );
    dir.manifest(
        "[[plugin]]\nname = \"dice\"\ngrants = [\"clock\", \"kv\", \"random\"]\n\
        [plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\n",
    );
    let host = dir.host();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    let noted = [json!({"key": "a"}), json!({"key": "a", "bytes": "65536"})]
        .map(|body| annotations(&send(&host, body))["dice"].take());
    for (noted, length, asked) in [(&noted[0], "8", "Ok(1)"), (&noted[1], "65536", "Ok(2)")] {
        let clock: u128 = noted["clock_ms"].as_str().unwrap().parse().unwrap();
        assert!((before..=now()).contains(&clock), "{noted}");
        assert_eq!((&noted["length"], &noted["asked"]), (&json!(length), &json!(asked)));
    }
    assert_ne!(noted[0]["begins"], noted[1]["begins"]);
    // More at once is the plugin's failure.
    assert_eq!(send(&host, json!({"bytes": "65537"})).outcome, "failed");
}

#[tokio::test]
async fn a_flood_limit_counts_across_gateways_and_a_join_may_be_refused() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n[plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\n\
        [plugin.config]\nmessages = 2\nseconds = 3600\njoins = 2\n[chain]\ndeadline_ms = 60000\n";
    let dir = directory(&["flood-guard"], config);
    let (one, two) = (world.gateway_with(&[dir.variable()]).await, world.gateway_with(&[dir.variable()]).await);
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut here = Client::joined(one.port, user, conversation).await;
    let mut there = Client::joined(two.port, user, conversation).await;
    here.ok(message(conversation, "a")).await;
    there.ok(message(conversation, "b")).await;
    let refused = here.request(message(conversation, "c")).await;
    assert_eq!((&refused["code"], &refused["reject_code"]), (&json!("rejected"), &json!("too_fast")), "{refused}");
    // The third join, wherever.
    let refused = there.request(json!({"op": "join", "conversation_id": conversation})).await;
    assert_eq!(
        (&refused["op"], &refused["code"], &refused["plugin"], &refused["reject_code"], &refused["retry_after_ms"]),
        (&json!("join"), &json!("rejected"), &json!("flood-guard"), &json!("too_fast"), &json!(3_600_000))
    );
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

#[tokio::test]
async fn while_redis_is_away_the_plugin_decides() {
    let world = World::alone().await;
    let config = "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n[plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\n\
        [plugin.config]\naccept_uncounted = false\n[chain]\ndeadline_ms = 60000\n";
    let dir = directory(&["flood-guard"], config);
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    client.ok(message(conversation, "a")).await;
    let redis = world.redis.clone();
    crate::support::blocking(move || redis.kill()).await;
    let refused = client.request(message(conversation, "b")).await;
    assert_eq!((&refused["code"], &refused["reject_code"]), (&json!("rejected"), &json!("not_counted")), "{refused}");
}

/// A service that answers each request with this, once it may.
pub(crate) struct Service {
    pub(crate) port: u16,
    requests: Arc<AtomicUsize>,
    may_answer: watch::Sender<bool>,
}

impl Service {
    pub(crate) async fn start(response: &'static str, may_answer: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
        let (may_answer, wait) = watch::channel(may_answer);
        let counted = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (counted, mut wait) = (counted.clone(), wait.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    if socket.read(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _ = wait.wait_for(|may| *may).await;
                    let _ = socket.write_all(response.as_bytes()).await;
                });
            }
        });
        Self { port, requests, may_answer }
    }
}

const HARMLESS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\nconnection: close\r\n\r\n{\"score\": 0.1}";
const MOVED: &str =
    "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn toxicity(port: u16, hosts: &str, http: &str, when: &str) -> String {
    format!(
        "[[plugin]]\nname = \"toxicity-hook\"\ngrants = [\"http\"]\n{when}[plugin.http]\nhosts = [{hosts}]\n{http}\
         [plugin.limits]\ndeadline_ms = 10000\nwall_ms = 60000\n\
         [plugin.config]\nurl = \"http://127.0.0.1:{port}/score\"\nunanswered = \"reject\"\n[chain]\ndeadline_ms = 60000\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_to_listed_hosts_and_only_so_far() {
    let (harmless, silent, moved) = (
        Service::start(HARMLESS, true).await,
        Service::start(HARMLESS, false).await,
        Service::start(MOVED, true).await,
    );
    let listed = |port: u16| format!("\"http://127.0.0.1:{port}\"");
    let judged = async |service: &Service, hosts: String, http: &'static str| {
        let config = toxicity(service.port, &hosts, http, "");
        crate::support::blocking(move || {
            let dir = Dir::empty();
            dir.copy("toxicity-hook.wasm", "toxicity-hook.wasm");
            dir.manifest(&config);
            let host = dir.host();
            let mut code = None;
            let lines = logged(|| code = send(&host, json!({"text": "hm"})).code);
            (code, lines.join("\n"))
        })
        .await
    };
    let (code, log) = judged(&harmless, listed(harmless.port), "timeout_ms = 30000\n").await;
    assert_eq!(code, None, "{log}");
    let refused = Some("not_checked".to_owned());
    for (service, hosts, http, why) in [
        (&harmless, "\"http://localhost\"".to_owned(), "", "not among the plugin's hosts"),
        (&harmless, format!("\"127.0.0.1:{}\"", harmless.port), "", "to allow plain http, list"),
        (&silent, listed(silent.port), "timeout_ms = 50\n", "no response in time"),
        (&harmless, listed(harmless.port), "timeout_ms = 30000\nresponse_bytes = 12\n", "too large"),
        (&moved, listed(moved.port), "timeout_ms = 30000\n", "status is 302"),
    ] {
        let (code, log) = judged(service, hosts, http).await;
        assert_eq!(code, refused, "{why}");
        assert!(log.contains(why), "{why} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_wait_for_a_service_hold_no_thread() {
    const WAITING: usize = 50;
    let world = World::new().await;
    let service = Service::start(HARMLESS, false).await;
    let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
    let (slow, fast) = (world.conversation(&[user]).await, world.conversation(&[other]).await);
    let when = format!("when = {{ conversations = [\"{slow}\"] }}\n");
    let hosts = format!("\"http://127.0.0.1:{}\"", service.port);
    let dir = directory(&["toxicity-hook"], &toxicity(service.port, &hosts, "timeout_ms = 30000\n", &when));
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let mut client = Client::joined(gateway.port, user, slow).await;
        waiting.push(tokio::spawn(async move { client.ok(message(slow, "hm")).await }));
    }
    while service.requests.load(Ordering::SeqCst) < WAITING {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut client = Client::joined(gateway.port, other, fast).await;
    for seq in 1..=20 {
        assert_eq!(client.ok(message(fast, "on we go")).await["seq"], seq);
    }
    assert!(waiting.iter().all(|send| !send.is_finished()));
    service.may_answer.send_replace(true);
    for send in waiting {
        assert_eq!(send.await.unwrap()["status"], "stored");
    }
}
