//! A table for people, and JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::metrics::{Claims, Histogram};
use crate::options::Options;
use crate::system::{System, directory};
use crate::view::{Cost, View};

pub struct Phase {
    pub phase: String,
    pub seconds: u64,
    pub claims: Claims,
    pub lags: Figures,
    /// Rows that were committed and not published at the end.
    pub backlog: i64,
    pub view: View,
}

/// A summary of latencies, in milliseconds.
pub struct Figures {
    count: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Figures {
    pub fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len().saturating_sub(1) as f64 * share) as usize;
            latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self { count: latencies.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

pub struct Report {
    conditions: Value,
    phases: Vec<Value>,
    pub written: i64,
    /// Rows that were committed and never published.
    pub never_heard: i64,
    /// Publications of a row after its first.
    pub heard_again: i64,
}

impl Report {
    pub async fn new(options: &Options, system: &System<'_>) -> Self {
        let version: String = system.sql.query_one("SHOW server_version", &[]).await.unwrap().get(0);
        let conditions = json!({
            "rows_per_second": options.rate, "workers": options.workers,
            "postgresql": version, "load_average": load_average(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
        });
        println!("{conditions}\n");
        println!(
            "{:<26} {:>18} {:>18} {:>15} {:>7}   {:>21} {:>21} {:>9} {:>7}",
            "", "recent claims, ms", "sweeps, ms", "lag, ms", "", "explain recent", "explain sweep", "", "index"
        );
        println!(
            "{:<26} {:>6} {:>5} {:>5} {:>6} {:>5} {:>5} {:>7} {:>7} {:>7}   {:>10} {:>10} {:>10} {:>10} {:>9} {:>7}",
            "",
            "count",
            "p50 ≤",
            "p99 ≤",
            "count",
            "p50 ≤",
            "p99 ≤",
            "p50",
            "p99",
            "backlog",
            "ms",
            "pages",
            "ms",
            "pages",
            "dead rows",
            "MiB"
        );
        Self { conditions, phases: Vec::new(), written: 0, never_heard: 0, heard_again: 0 }
    }

    pub fn add(&mut self, phase: Phase) {
        let (recent, sweep) = (phase.claims.kind("recent"), phase.claims.kind("sweep"));
        let Phase { phase: name, seconds, lags, backlog, view, .. } = phase;
        let claims = |of: &Histogram| {
            let bound = |share| of.at_most(share).map_or_else(|| "-".to_owned(), |bound| bound.to_string());
            format!("{:>6} {:>5} {:>5}", of.count(), bound(0.5), bound(0.99))
        };
        let cost = |of: &Cost| format!("{:>10.2} {:>10}", of.ms, of.hits + of.reads);
        println!(
            "{name:<26} {} {} {:>7.1} {:>7.1} {backlog:>7}   {} {} {:>9} {:>7.1}",
            claims(&recent),
            claims(&sweep),
            lags.p50,
            lags.p99,
            cost(&view.recent),
            cost(&view.sweep),
            view.dead_rows,
            view.pending_index_mib,
        );
        let cost = |of: &Cost| json!({ "ms": of.ms, "pages_hit": of.hits, "pages_read": of.reads });
        self.phases.push(json!({
            "phase": name, "seconds": seconds, "backlog": backlog,
            "claims": { "recent": recent.json(), "sweep": sweep.json() },
            "lag_ms": { "count": lags.count, "p50": lags.p50, "p99": lags.p99, "max": lags.max },
            "explain": { "recent": cost(&view.recent), "sweep": cost(&view.sweep) },
            "table_mib": view.table_mib, "pending_index_mib": view.pending_index_mib,
            "dead_rows": view.dead_rows, "autovacuums": view.autovacuums,
        }));
    }

    pub fn write(self) {
        let Self { conditions, phases, written, never_heard, heard_again } = self;
        println!("\n{written} rows written; {never_heard} never published, {heard_again} published again");
        let report = json!({
            "conditions": conditions, "load_average_at_the_end": load_average(), "phases": phases,
            "written": written, "never_published": never_heard, "published_again": heard_again,
        });
        let path = directory().join("claim.json");
        std::fs::write(&path, format!("{report:#}\n")).unwrap();
        println!("{}", path.display());
        assert_eq!(never_heard, 0, "every row that was committed must be published");
    }
}

/// The load of the machine; None if the system does not report it.
fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
