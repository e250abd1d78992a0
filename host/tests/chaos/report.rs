//! What runs came to, for people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::checker::{Kind, Violation};
use crate::history::{Attempt, History, Outcome};
use crate::schedule::Step;

/// What a run came to.
pub struct Report {
    pub seed: u64,
    pub steps: Vec<Step>,
    pub sent: usize,
    pub stored: usize,
    pub held: usize,
    pub discarded: usize,
    pub rejected: usize,
    /// Stored messages that reply to one.
    pub replies: usize,
    /// Edits, deletions and reactions that were asked for, and how many of each kind are stored.
    pub changes: usize,
    pub made: Vec<(String, usize)>,
    /// Conversations of clients that were compared with the database's.
    pub rooms: usize,
    pub events: usize,
    pub streams: usize,
    pub pages: usize,
    pub removals: usize,
    /// How often each close code came.
    pub closes: Vec<(u16, usize)>,
    pub violations: Vec<Violation>,
    pub took: Duration,
}

impl Report {
    /// Prints what is wrong, and where the programs' logs are then.
    pub fn new(
        seed: u64,
        steps: Vec<Step>,
        history: &History,
        closes: Vec<(u16, usize)>,
        violations: Vec<Violation>,
        logs: Option<PathBuf>,
        took: Duration,
    ) -> Self {
        if let Some(logs) = logs {
            let what: Vec<String> = violations.iter().take(50).map(|violation| format!("\n  {violation}")).collect();
            println!("seed {seed}: {} violations; logs in {}{}", violations.len(), logs.display(), what.concat());
        }
        let answered = |is: fn(&Outcome) -> bool| {
            let any = |attempts: &[Attempt]| attempts.iter().any(|attempt| is(&attempt.outcome));
            history.sends.iter().filter(|send| any(&send.attempts)).count()
        };
        Self {
            seed,
            steps,
            sent: history.sends.len(),
            stored: answered(|outcome| matches!(outcome, Outcome::Stored { .. })),
            held: answered(|outcome| *outcome == Outcome::Held),
            discarded: answered(|outcome| *outcome == Outcome::Discarded),
            rejected: answered(|outcome| *outcome == Outcome::Rejected),
            replies: history.messages.iter().filter(|message| message.reply_to.is_some()).count(),
            changes: history.changes.len(),
            made: history.made.iter().map(|made| (made.kind.clone(), 1)).collect(),
            rooms: history.rooms.len(),
            events: history.streams.iter().map(|stream| stream.events.len()).sum(),
            streams: history.streams.len(),
            pages: history.pages.len(),
            removals: history.absences.len(),
            closes,
            violations,
            took,
        }
    }
}

/// Prints what all of these runs came to together.
pub fn summarise(title: &str, reports: &[Report]) {
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    let seconds = reports.iter().map(|report| report.took.as_secs_f64()).sum::<f64>();
    let found = |kind| reports.iter().flat_map(|report| &report.violations).filter(|found| found.kind == kind).count();
    let faults = tally(reports.iter().flat_map(|report| &report.steps).map(|step| (step.fault.kind(), 1)));
    let made = tally(reports.iter().flat_map(|report| report.made.iter().cloned()));
    let closes = tally(reports.iter().flat_map(|report| report.closes.iter().copied()));
    let kinds = tally(reports.iter().flat_map(|report| &report.violations).map(|found| (found.kind, 1)));
    println!(
        "{title}: {} runs, {:.1} minutes
  {} messages sent: {} stored, {} held, {} discarded, {} rejected by plugins, the others refused for want of the right to send
  {} replies; {} changes asked for: {made:?}; {} conversations of clients compared
  {} events on {} streams, {} pages of history, {} removals
  {} faults: {faults:?}
  sockets closed: {closes:?}
  lost {}, repeated {}, out of order {}; violations: {kinds:?}",
        reports.len(),
        seconds / 60.0,
        sum(|report| report.sent),
        sum(|report| report.stored),
        sum(|report| report.held),
        sum(|report| report.discarded),
        sum(|report| report.rejected),
        sum(|report| report.replies),
        sum(|report| report.changes),
        sum(|report| report.rooms),
        sum(|report| report.events),
        sum(|report| report.streams),
        sum(|report| report.pages),
        sum(|report| report.removals),
        sum(|report| report.steps.len()),
        found(Kind::Lost) + found(Kind::Hole) + found(Kind::Behind),
        found(Kind::Repeated) + found(Kind::StoredTwice),
        found(Kind::OutOfOrder) + found(Kind::Disagreement),
    );
}

fn tally<T: Ord>(counted: impl Iterator<Item = (T, usize)>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    counted.for_each(|(what, count)| *counts.entry(what).or_default() += count);
    counts
}
