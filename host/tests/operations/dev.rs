//! `arcyou-gateway dev`: one process, nothing to configure.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::guests::CACHE_HOME;
use crate::support::plugins::fill;
use crate::support::program::free_port;

/// What `dev` prints and takes.
pub(crate) struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where it says that its page is.
    pub(crate) page: String,
    /// What it says of where it listens.
    listens: String,
    port: u16,
    tokens: Vec<Uuid>,
    conversation: Uuid,
}

/// A folder that the account which PostgreSQL runs under can reach.
pub(crate) fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

/// What the repository ships, without the guests of other tests.
const SHIPPED: &[&str] = &["body-shape", "flood-guard", "link-guard", "pii-mask", "toxicity-hook", "word-filter"];

impl Dev {
    pub(crate) async fn start(folder: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let plugins = folder.join("plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        fill(&plugins, SHIPPED, include_str!("../../../plugins/plugins.toml"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"))
            .arg("dev")
            .arg("--data-dir")
            .arg(folder.join("database"))
            .args(arguments)
            .env_remove("DATABASE_URL")
            // Blank is as good as not set.
            .env("BIND_ADDR", "")
            .env_remove("REDIS_URL")
            .env("PORT", port.to_string())
            .env("ADMIN_ADDR", format!("127.0.0.1:{}", free_port()))
            .env("PLUGINS_DIR", plugins)
            .env("DRAIN_SECONDS", "1")
            .env("XDG_CACHE_HOME", CACHE_HOME)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut tokens, mut conversation, mut listens, mut page) = (Vec::new(), None, String::new(), String::new());
        // What stands there to be pasted is valid, and is all that a newcomer has.
        while tokens.len() < 2 || conversation.is_none() {
            let line = lines.next_line().await.unwrap().expect("dev ended");
            if let Some((_, link)) = line.split_once("open http://") {
                page = format!("http://{}", link.split(' ').next().unwrap());
            }
            if line.starts_with("The gateway listens") {
                listens.clone_from(&line);
            }
            if let Some(frame) = line.trim().strip_prefix("{\"op\"").map(|_| line.trim()) {
                let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
                let id = |name: &str| frame[name].as_str().map(|id| id.parse().unwrap());
                tokens.extend(id("token"));
                conversation = id("conversation_id").or(conversation);
            }
        }
        let conversation = conversation.unwrap();
        Self { child, lines, page, listens, port, tokens, conversation }
    }

    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        // Read to the end, so that the child never waits for us.
        while self.lines.next_line().await.unwrap().is_some() {}
        assert!(self.child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn two_users_chat_and_what_they_said_is_kept_until_fresh() {
    let folder = folder();
    let dev = Dev::start(folder.path(), &[]).await;
    assert!(dev.listens.contains(&format!("ws://127.0.0.1:{}, for this machine alone", dev.port)), "{}", dev.listens);
    // What is bound to every interface answers here.
    assert!(TcpStream::connect(("127.0.0.2", dev.port)).await.is_err(), "others reach it");
    let mut a = Client::joined(dev.port, dev.tokens[0], dev.conversation).await;
    let mut b = Client::joined(dev.port, dev.tokens[1], dev.conversation).await;
    a.say(dev.conversation, "Hello!").await;
    assert_eq!(message(&mut b).await, ("Hello!".to_owned(), 1));
    b.say(dev.conversation, "What a badword.").await;
    assert_eq!(message(&mut a).await.1, 1);
    assert_eq!(message(&mut a).await, ("What a *******.".to_owned(), 2));
    dev.stop().await;

    let dev = Dev::start(folder.path(), &[]).await;
    let mut a = Client::authenticated(dev.port, dev.tokens[0]).await;
    let history = a.ok(json!({"op": "history", "conversation_id": dev.conversation})).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 2);
    dev.stop().await;

    let dev = Dev::start(folder.path(), &["--fresh"]).await;
    let mut a = Client::authenticated(dev.port, dev.tokens[0]).await;
    let history = a.ok(json!({"op": "history", "conversation_id": dev.conversation})).await;
    assert_eq!(history["messages"], json!([]));
    dev.stop().await;
}

/// The next message. That the two were added to their conversation may be told before it.
async fn message(client: &mut Client) -> (String, i64) {
    loop {
        let event = client.event().await;
        if event["type"] != "participant.added" {
            let message = &event["message"];
            break (message["body"]["text"].as_str().unwrap().to_owned(), message["seq"].as_i64().unwrap());
        }
    }
}

/// `dev` that is still starting.
fn starting(folder: &Path) -> Command {
    let mut dev = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    dev.arg("dev").arg("--data-dir").arg(folder.join("database")).current_dir(folder);
    dev.env_remove("DATABASE_URL").env_remove("REDIS_URL").env_remove("PLUGINS_DIR");
    dev.env("PORT", free_port().to_string()).env("ADMIN_ADDR", format!("127.0.0.1:{}", free_port()));
    dev.env("XDG_CACHE_HOME", CACHE_HOME).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    dev
}

/// Processes that have `text` in their command line, but for one.
fn processes(text: &str, but: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    all.filter(|pid| *pid != but && has(pid)).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

async fn terminate(dev: &mut Child) {
    let pid = dev.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert!(dev.wait().await.unwrap().success());
}

#[tokio::test]
async fn told_to_stop_while_the_database_is_made_it_leaves_nothing_running() {
    let folder = folder();
    let text = folder.path().join("database").display().to_string();
    let mut dev = starting(folder.path()).spawn().unwrap();
    let own = dev.id().unwrap();
    until("the database is being made", || !processes(&text, own).is_empty()).await;
    terminate(&mut dev).await;
    until("something goes on", || processes(&text, own).is_empty()).await;
    // And nothing is broken.
    Dev::start(folder.path(), &[]).await.stop().await;
}

#[tokio::test]
async fn told_to_stop_while_plugins_are_built_it_stops_the_compilers() {
    let folder = folder();
    let plugin = folder.path().join("plugins/slow");
    std::fs::create_dir_all(&plugin).unwrap();
    let marker = format!("sleep 86{}", fastrand::u32(10_000..99_999));
    std::fs::write(plugin.join("build.sh"), format!("{marker}\n")).unwrap();
    // What is there already is used.
    let mut dev = starting(folder.path()).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").spawn().unwrap();
    let compilers = || processes(&marker.replace(' ', "\0"), 0);
    until("the plugin is being built", || !compilers().is_empty()).await;
    terminate(&mut dev).await;
    until("the compiler goes on", || compilers().is_empty()).await;
}
