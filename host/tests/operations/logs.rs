//! What an operator reads in the log: what runs, what changed, and no more than that.

use std::fs::File;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::{World, blocking};

/// The log of a gateway that writes JSON.
struct Log(NamedTempFile);

impl Log {
    fn new() -> Self {
        Self(NamedTempFile::new().unwrap())
    }

    fn stdio(&self) -> Stdio {
        Stdio::from(File::create(self.0.path()).unwrap())
    }

    /// The lines whose message begins so.
    fn lines(&self, message: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message))).collect()
    }
}

const JSON: [(&str, &str); 2] = [("LOG_FORMAT", "json"), ("RUST_LOG", "info")];

#[tokio::test]
async fn the_start_names_the_plugins_and_what_their_cases_say_is_not_told() {
    let world = World::new().await;
    let dir = directory(
        &["misbehaving", "word-filter"],
        "[[plugin]]\nname = \"word-filter\"\n[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = 10000\n",
    );
    let (_, path) = dir.variable();
    let cases = "[[case]]\nname = \"it talks\"\nbody = { filter = \"log-forge\" }\nexpect = \"accept\"\n";
    std::fs::write(format!("{path}/misbehaving.cases.toml"), cases).unwrap();
    let log = Log::new();
    let gateway = world.program_logging_to(log.stdio(), &[dir.variable(), JSON[0], JSON[1]]).await;
    let loaded = log.lines("plugins loaded");
    let plugins = loaded[0]["plugins"].as_str().unwrap().to_owned();
    let (first, second) = plugins.split_once(", ").unwrap();
    let sha256 = |name: &str| {
        let file = std::fs::read(format!("{path}/{name}.wasm")).unwrap();
        beginning_of_digest(&file)
    };
    assert!(first.starts_with("word-filter ") && first.contains(&sha256("word-filter")), "{plugins}");
    assert!(second.starts_with("misbehaving ") && second.contains(&sha256("misbehaving")), "{plugins}");
    assert_eq!(log.lines("first").len(), 0, "the cases were told as if they were messages");
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"filter": "log-forge"}});
    client.ok(send).await;
    assert_eq!(log.lines("first").len(), 1);
    // The parts are the gateway's, also to a filter of log lines.
    let parts = log.lines("a part is up");
    assert!(!parts.is_empty() && parts.iter().all(|line| line["target"] == "arcyou_gateway::health"), "{parts:?}");
}

/// The beginning of a file's SHA-256, by the system's own tool.
fn beginning_of_digest(file: &[u8]) -> String {
    use std::io::Write as _;
    let mut copy = NamedTempFile::new().unwrap();
    copy.write_all(file).unwrap();
    let output = std::process::Command::new("sha256sum").arg(copy.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..12].to_owned()
}

#[tokio::test]
async fn an_outage_of_the_database_is_told_when_it_begins_and_when_it_ends() {
    let world = World::breakable().await;
    let log = Log::new();
    let gateway = world.program_logging_to(log.stdio(), &JSON).await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    // Its room is looked after each second.
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let bouncer = world.bouncer.clone().unwrap();
    let killed = bouncer.clone();
    blocking(move || killed.kill()).await;
    blocking({
        let redis = world.redis.clone();
        move || redis.kill()
    })
    .await;
    gateway.until("database", "down").await;
    // Nobody's requests are answered, again and again.
    for _ in 0..3 {
        let code = client.code(json!({"op": "history", "conversation_id": conversation})).await;
        assert_eq!(code, "unavailable");
    }
    gateway.until_metric("arcyou_fanout_store_failures_total ", 4.0).await;
    blocking(move || bouncer.restart().unwrap()).await;
    gateway.until("database", "up").await;
    while log.lines("the fan-out has answers").is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let told = |message: &str, part: &str| {
        log.lines(message).into_iter().filter(|line| line["part"] == part).collect::<Vec<_>>()
    };
    assert_eq!(told("a part is down", "database").len(), 1);
    let back = told("a part is up", "database").pop().unwrap();
    assert!(back["after_seconds"].is_u64(), "{back}");
    assert_eq!(log.lines("the database did not answer requests").len(), 1);
    let fanout = log.lines("the outbox could not be read").len() + log.lines("rooms could not be compared").len();
    assert_eq!(fanout, 1);
}
