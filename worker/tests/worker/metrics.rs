//! `/metrics`: what docs/metrics.md says, from the first scrape, in the form that Prometheus likes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::Bed;
use crate::support::process::Process;

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

/// The rows of the table: `| name | type | labels | meaning |`.
fn documented() -> Described {
    let text = include_str!("../../../docs/metrics.md");
    let text = text.split("\n## ").find(|part| part.starts_with("Worker")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `arcyou_"));
    rows.map(|row| {
        let mut cells = row.trim_end_matches('|').split(" | ").map(str::trim);
        let name = format!("arcyou_{}", cells.next().unwrap().trim_end_matches('`'));
        let kind = cells.next().unwrap().to_owned();
        (name, (kind, cells.nth(1).unwrap().replace('`', "")))
    })
    .collect()
}

#[tokio::test]
async fn all_metrics_are_documented_described_and_there_from_the_start() {
    let bed = Bed::new().await;
    let process = Process::start(&bed).await;
    process.until_ready(true).await;
    let (_, text) = process.get("/metrics").await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool is installed by host/local-services/setup.sh test");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let objections = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && objections.is_empty(), "{objections}");
    assert_eq!(described(&text), documented(), "docs/metrics.md (right) and /metrics (left)");
    for series in [
        "arcyou_outbox_published_total 0",
        "arcyou_outbox_outages_total{part=\"bus\"} 0",
        "arcyou_outbox_delay_seconds_count 0",
        concat!("arcyou_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\""),
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "no {series} in\n{text}");
    }
}
