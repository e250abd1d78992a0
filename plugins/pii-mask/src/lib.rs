//! Masks what says who somebody is: mail addresses, phone numbers, Korean resident registration numbers, card numbers.
//! Each of their letters and digits becomes an asterisk; what stands between them, and the rest of the body, stays.
//! It guards against slips, not against people who mean to tell: digits in words or in other scripts are not found.

mod find;

use std::collections::{BTreeMap, BTreeSet};

use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};
use find::{Finder, Kind};

/// What stands under `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// What is masked.
    mask: BTreeSet<Kind>,
    /// Top-level fields to look into; all if there are none.
    fields: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mask: [Kind::Mail, Kind::ResidentNumber, Kind::Card, Kind::Phone].into(), fields: Vec::new() }
    }
}

struct PiiMask {
    config: Config,
    finder: Finder,
}

impl Plugin for PiiMask {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config, finder: Finder::new()? })
    }
}

impl PiiMask {
    /// The text with its finds masked; how many there are is added to `counts`.
    fn mask(&self, text: &str, counts: &mut BTreeMap<Kind, usize>) -> Option<String> {
        let mut masked = text.to_owned();
        for kind in &self.config.mask {
            // Backwards, so that the places of those to come hold; in what is masked already, nothing is found.
            for at in self.finder.find(*kind, &masked).into_iter().rev() {
                let star = |c: char| if c.is_alphanumeric() { '*' } else { c };
                let stars: String = masked[at.clone()].chars().map(star).collect();
                masked.replace_range(at, &stars);
                *counts.entry(*kind).or_default() += 1;
            }
        }
        (masked != text).then_some(masked)
    }
}

impl Filter for PiiMask {
    fn filter(&self, message: &Message) -> Verdict {
        let mut counts = BTreeMap::new();
        let verdict = message.replace_strings(&self.config.fields, |text| self.mask(text, &mut counts));
        counts.iter().fold(verdict, |verdict, (kind, count)| verdict.annotate(kind.annotation(), count.to_string()))
    }
}

arcyou_plugin_sdk::export!(PiiMask: filter);

#[cfg(test)]
mod tests;
