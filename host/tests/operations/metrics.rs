//! `/metrics`: what docs/metrics.md says, from the first scrape, in the form that Prometheus likes.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::plugins::directory;
use crate::support::program::Program;

/// The text of `/metrics`.
async fn scrape(gateway: &Program) -> String {
    gateway.get("/metrics").await.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Name → type and help.
type Described = BTreeMap<String, (String, String)>;

fn described(text: &str) -> Described {
    let mut all = Described::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            all.entry(name.to_owned()).or_default().1 = help.to_owned();
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            all.entry(name.to_owned()).or_default().0 = kind.to_owned();
        }
    }
    all
}

/// The rows of a section's table: `| name | type | labels | meaning |`.
fn documented(section: &str) -> Described {
    let text = include_str!("../../../docs/metrics.md");
    let text = text.split("\n## ").find(|part| part.starts_with(section)).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `arcyou_"));
    rows.map(|row| {
        let mut cells = row.trim_end_matches('|').split(" | ").map(str::trim);
        let name = format!("arcyou_{}", cells.next().unwrap().trim_end_matches('`'));
        let kind = cells.next().unwrap().to_owned();
        (name, (kind, cells.nth(1).unwrap().replace('`', "")))
    })
    .collect()
}

/// What Prometheus' own tool objects to.
async fn objections(metrics: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool is installed by host/local-services/setup.sh test");
    let mut input = child.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}{}", if output.status.success() { "" } else { "it failed: " }, String::from_utf8(text).unwrap())
}

const PLUGINS: &str = "[[plugin]]\nname = \"flood-guard\"\ngrants = [\"kv\"]\n";

#[tokio::test]
async fn all_metrics_are_documented_described_and_there_from_the_start() {
    let world = World::new().await;
    let dir = directory(&["flood-guard"], PLUGINS);
    let gateway = world.program(&[dir.variable()]).await;
    gateway.until("plugin_values", "up").await;
    let text = scrape(&gateway).await;
    assert_eq!(objections(&text).await, "");
    assert_eq!(described(&text), documented("Gateway"), "docs/metrics.md (right) and /metrics (left)");
    for series in [
        "arcyou_sends_total{outcome=\"overloaded\"} 0",
        "arcyou_joins_total{outcome=\"not_participant\"} 0",
        "arcyou_auth_refused_total{code=\"token_expired\"} 0",
        "arcyou_closed_total{code=\"4000\"} 0",
        "arcyou_refused_connections_total{bound=\"handshakes\"} 0",
        "arcyou_refused_origins_total 0",
        "arcyou_commit_failures_total{kind=\"lost\"} 0",
        "arcyou_admin_refused_total{reason=\"token\"} 0",
        "arcyou_ack_seconds_count 0",
        "arcyou_plugin_reloads_total{result=\"refused\"} 0",
        "arcyou_plugin_rollbacks_total{plugin=\"flood-guard\"} 0",
        // Most calls take less than a tenth of a millisecond.
        "arcyou_plugin_call_seconds_bucket{plugin=\"flood-guard\",hook=\"filter\",le=\"0.00001\"} 0",
        concat!("arcyou_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\""),
        "arcyou_plugin_info{plugin=\"flood-guard\",version=\"",
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "no {series} in\n{text}");
    }
}

#[tokio::test]
async fn what_is_refused_is_counted_and_a_client_that_hangs_up_is_no_fault() {
    let world = World::new().await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let held = "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason, created_at)
        SELECT $1, $2, '{}', 'a plugin', 'why not', now() - n * interval '1 hour' FROM generate_series(2, 1, -1) n";
    world.sql.execute(held, &[&conversation, &user]).await.unwrap();
    let gateway = world.program(&[("ALLOWED_ORIGINS", "https://chat.example")]).await;
    let mut page = "ws://127.0.0.1/ws".into_client_request().unwrap();
    page.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let refused = client_async(page, stream).await;
    assert!(matches!(&refused, Err(Error::Http(response)) if response.status() == 403), "{refused:?}");
    let mut client = Client::connect(gateway.port).await;
    assert_eq!(client.code(json!({"op": "auth", "token": "no user"})).await, "token_malformed");
    client.ok(json!({"op": "auth", "token": user})).await;
    assert_eq!(client.code(json!({"op": "join", "conversation_id": Uuid::new_v4()})).await, "not_participant");
    client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    gateway.until_metric("arcyou_connections ", 1.0).await;
    // Its connection ends, without a close frame.
    drop(client);
    for _ in 0..1500 {
        if gateway.metric("arcyou_connections ").await == 0.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gateway.until_metric("arcyou_held_oldest_seconds ", 7200.0).await;
    for (metric, expected) in [
        ("arcyou_refused_origins_total", 1.0),
        ("arcyou_auth_refused_total{code=\"token_malformed\"}", 1.0),
        ("arcyou_joins_total{outcome=\"not_participant\"}", 1.0),
        ("arcyou_joins_total{outcome=\"joined\"}", 1.0),
        ("arcyou_closed_total{code=\"1002\"}", 0.0),
        ("arcyou_held_messages", 2.0),
        ("arcyou_connections", 0.0),
    ] {
        assert_eq!(gateway.metric(&format!("{metric} ")).await, expected, "{metric}");
    }
}
