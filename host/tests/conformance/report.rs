//! What the fuzzing client found, from the reports that it writes, and as a table for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Where this layer is not as strict as it may be, and why.
const LENIENCES: &[(&str, &str)] = &[
    ("6.4.3", "the text is judged when its frame is complete, not in the middle of it"),
    ("6.4.4", "the text is judged when its frame is complete, not in the middle of it"),
];

/// The suite's groups of cases.
const GROUPS: &[(u32, &str)] = &[
    (1, "framing"),
    (2, "pings and pongs"),
    (3, "reserved bits"),
    (4, "opcodes"),
    (5, "fragmentation"),
    (6, "UTF-8"),
    (7, "closing"),
    (9, "sizes and round trips"),
    (10, "automatic fragmentation"),
    (12, "compression"),
    (13, "compression's parameters"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As the suite wants it.
    Ok,
    /// Conformant, and not what a SHOULD asks for.
    NonStrict,
    /// The RFC leaves it open.
    Informational,
    /// It needs what is not offered.
    NotRun,
    Failed,
}

impl Outcome {
    const ALL: [(Self, &str); 5] = [
        (Self::Ok, "OK"),
        (Self::NonStrict, "NON-STRICT"),
        (Self::Informational, "INFORMATIONAL"),
        (Self::NotRun, "not run"),
        (Self::Failed, "FAILED"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, _)| *outcome == self).unwrap().1
    }
}

pub struct Case {
    /// As `6.4.3`.
    id: String,
    pub outcome: Outcome,
    /// Why it is not OK.
    reason: String,
}

impl Case {
    fn new(report: &Value) -> Self {
        let text = |name: &str| report[name].as_str().unwrap_or_default();
        let id = text("id").to_owned();
        // The handshake's answer names the extensions that both sides agreed on.
        let has_extension = text("httpResponse").to_ascii_lowercase().contains("sec-websocket-extensions:");
        let lenience = LENIENCES.iter().find(|(lenient, _)| *lenient == id).map(|(_, why)| *why);
        let (outcome, reason) = match (text("behavior"), text("behaviorClose")) {
            ("OK", "OK") => (Outcome::Ok, String::new()),
            ("UNIMPLEMENTED", "OK") if !has_extension => {
                (Outcome::NotRun, "permessage-deflate is not negotiated".to_owned())
            }
            ("NON-STRICT", "OK") => (Outcome::NonStrict, lenience.unwrap_or(text("result")).to_owned()),
            ("OK" | "NON-STRICT" | "INFORMATIONAL", "OK" | "INFORMATIONAL") => {
                let (what, code) = (text("description"), &report["remoteCloseCode"]);
                (Outcome::Informational, format!("the RFC leaves it open ({what}); closed with {code}"))
            }
            (behavior, close) => {
                let (result, result_close) = (text("result"), text("resultClose"));
                (Outcome::Failed, format!("{behavior}: {result} Its end: {close}: {result_close}"))
            }
        };
        Self { id, outcome, reason }
    }

    /// For sorting: 6.10 comes after 6.9.
    fn numbers(&self) -> Vec<u32> {
        self.id.split('.').map(|number| number.parse().unwrap()).collect()
    }

    fn group(&self) -> u32 {
        self.numbers()[0]
    }
}

/// Every case in its order.
pub fn read(reports: &Path) -> Vec<Case> {
    let parse = |name: &str| -> Value { serde_json::from_slice(&fs::read(reports.join(name)).unwrap()).unwrap() };
    let index = parse("index.json");
    let entries = index.as_object().unwrap().values().flat_map(|agent| agent.as_object().unwrap().values());
    let mut cases: Vec<Case> = entries.map(|entry| Case::new(&parse(entry["reportfile"].as_str().unwrap()))).collect();
    cases.sort_by_key(Case::numbers);
    cases
}

/// The table, and each case that is not OK with its reason; neighbours with the same one share a line.
pub fn print(cases: &[Case]) {
    let header: String = Outcome::ALL.iter().map(|(_, name)| format!("{name:>15}")).collect();
    println!("{:<30}{header}", "");
    let mut groups: BTreeMap<u32, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        groups.entry(case.group()).or_default().push(case);
    }
    for (number, cases) in &groups {
        let name = GROUPS.iter().find(|(group, _)| group == number).map_or("", |(_, name)| name);
        row(&format!("{number:>2} {name}"), cases);
    }
    row(&format!("all {}", cases.len()), &cases.iter().collect::<Vec<_>>());

    let not_ok: Vec<&Case> = cases.iter().filter(|case| case.outcome != Outcome::Ok).collect();
    for alike in not_ok.chunk_by(|a, b| (a.outcome, &a.reason) == (b.outcome, &b.reason)) {
        let (first, last) = (alike[0], alike[alike.len() - 1]);
        let ids = match alike.len() {
            1 => first.id.clone(),
            count => format!("{} to {} ({count})", first.id, last.id),
        };
        println!("{} {ids}: {}", first.outcome.name(), first.reason);
    }
}

fn row(name: &str, cases: &[&Case]) {
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let counts: String = Outcome::ALL.iter().map(|(outcome, _)| format!("{:>15}", count(*outcome))).collect();
    println!("{name:<30}{counts}");
}
