//! The workers' histograms, as Prometheus scrapes them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What was counted of each kind of claim.
#[derive(Default, Clone)]
pub struct Claims(BTreeMap<String, Histogram>);

/// How many values lie at or below each bound; the last bound is infinite.
#[derive(Default, Clone)]
pub struct Histogram {
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

impl Claims {
    /// Adds what one worker's `/metrics` say.
    pub fn add(&mut self, text: &str) {
        let mut read = BTreeMap::<String, Histogram>::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("arcyou_outbox_claim_seconds_")) {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.split_once("} ").unwrap();
            let label = |name: &str| {
                let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
                value.map(|value| value.trim_end_matches('"'))
            };
            let histogram = read.entry(label("kind").unwrap().to_owned()).or_default();
            match name {
                "bucket" => {
                    let bound = label("le").unwrap().trim_start_matches('+').parse().unwrap();
                    histogram.buckets.push((bound, value.parse().unwrap()));
                }
                "sum" => histogram.sum = value.parse().unwrap(),
                _ => {}
            }
        }
        for (kind, histogram) in read {
            self.0.entry(kind).or_default().add(&histogram);
        }
    }

    /// What was counted after `earlier`.
    pub fn since(mut self, earlier: &Self) -> Self {
        for (kind, histogram) in &mut self.0 {
            if let Some(earlier) = earlier.0.get(kind) {
                histogram.subtract(earlier);
            }
        }
        self
    }

    pub fn kind(&self, kind: &str) -> Histogram {
        self.0.get(kind).cloned().unwrap_or_default()
    }
}

impl Histogram {
    fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets = other.buckets.iter().map(|(bound, _)| (*bound, 0)).collect();
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|((_, count), (_, more))| *count += more);
        self.sum += other.sum;
    }

    fn subtract(&mut self, earlier: &Self) {
        self.buckets.iter_mut().zip(&earlier.buckets).for_each(|((_, count), (_, before))| *count -= before);
        self.sum -= earlier.sum;
    }

    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// The bound, in milliseconds, at or below which this share of the values lies; none without values.
    pub fn at_most(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let (bound, _) = self.buckets.iter().find(|(_, count)| *count >= wanted)?;
        (wanted > 0).then_some(bound * 1000.0)
    }

    pub fn json(&self) -> Value {
        json!({
            "count": self.count(), "seconds_in_all": self.sum,
            "p50_at_most_ms": self.at_most(0.5), "p99_at_most_ms": self.at_most(0.99),
            "max_at_most_ms": self.at_most(1.0),
        })
    }
}
