//! Reloads while people talk: none of them notices a good version, and a bad one costs a handful of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::program::Program;

/// 1,000 messages a second, by people who each say something every 40 ms.
const PEOPLE: usize = 40;
const EVERY: Duration = Duration::from_millis(40);
const RELOADS: usize = 5;

/// What became of the messages so far.
#[derive(Default)]
struct Count {
    stored: AtomicU64,
    failed: AtomicU64,
}

impl Count {
    fn all(&self) -> [u64; 2] {
        [self.stored.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst)]
    }

    /// Waits until so many more are stored.
    async fn more(&self, messages: u64) {
        let until = self.stored.load(Ordering::SeqCst) + messages;
        while self.stored.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn talk(port: u16, user: Uuid, conversation: Uuid, count: Arc<Count>, ends: CancellationToken) {
    let mut client = Client::authenticated(port, user).await;
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while ends.run_until_cancelled(pace.tick()).await.is_some() {
        let frame = json!({"op": "send", "conversation_id": conversation, "body": {"text": "hello"}});
        let reply = client.request(frame).await;
        let counted = if reply["success"] == true { &count.stored } else { &count.failed };
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(reply["success"] == true || reply["code"] == "plugin_failed", "{reply}");
    }
}

fn version(filter: &str, number: usize) -> String {
    format!(
        "# {number}\n[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = {}\n[plugin.config]\nfilter = \"{filter}\"\n",
        10_000 - number
    )
}

/// Reloads that went well so far.
async fn reloads(gateway: &Program) -> String {
    let metrics = gateway.get("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("arcyou_plugin_reloads_total{result=\"loaded\"}"));
    line.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_loses_nothing_and_a_bad_version_goes_by_itself() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], &version("accept", 0));
    let gateway = world.program(&[dir.variable(), ("RATE_LIMIT_PER_SECOND", "0")]).await;
    let (count, ends) = (Arc::new(Count::default()), CancellationToken::new());
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        let user = Uuid::new_v4();
        let conversation = world.conversation(&[user]).await;
        people.push(tokio::spawn(talk(gateway.port, user, conversation, count.clone(), ends.clone())));
    }
    let started = Instant::now();
    for number in 1..=RELOADS {
        count.more(500).await;
        let before = reloads(&gateway).await;
        dir.configure(&version("accept", number));
        while reloads(&gateway).await == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    count.more(500).await;
    let [stored, failed] = count.all();
    let rate = stored as f64 / started.elapsed().as_secs_f64();
    println!("{stored} messages, {rate:.0} a second, {RELOADS} reloads, {failed} failed");
    assert_eq!(failed, 0);

    dir.configure(&version("panic", 0));
    gateway.until("plugins", "down").await;
    let failed = count.all()[1];
    count.more(1000).await;
    let after = count.all()[1];
    println!("{after} failed before the bad version was rolled back");
    // Five in a row; calls that were under way at that moment may fail as well.
    assert!((5..5 + PEOPLE as u64).contains(&failed) && after == failed, "{failed}, then {after}");
    ends.cancel();
    for person in people {
        person.await.unwrap();
    }
    let rows = world.count("SELECT count(*) FROM messages").await;
    assert_eq!(rows as u64, count.all()[0], "what was acknowledged is stored");
}
