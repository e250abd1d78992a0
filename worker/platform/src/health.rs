//! The state of the parts of a process, for `/ready` and the gauge `arcyou_part_up`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The state of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// Nothing has been reported yet. Counts as not up.
    Starting,
    /// It works.
    Up,
    /// It does not work; the report has the reason.
    Down,
}

/// Whose log lines tell of the parts, so that a filter for a program's lines lets them through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Program {
    Gateway,
    #[default]
    Worker,
}

/// Writes a log line whose target is the program's.
macro_rules! say {
    ($program:expr, $level:ident, $($line:tt)*) => {
        match $program {
            Program::Gateway => tracing::$level!(target: "arcyou_gateway::health", $($line)*),
            Program::Worker => tracing::$level!(target: "arcyou_outbox_worker::health", $($line)*),
        }
    };
}

/// Between the lines about a part that stays down.
const REMIND_AFTER: Duration = Duration::from_secs(300);

/// All parts. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, PartEntry>>>,
    draining: Arc<AtomicBool>,
    /// The parts that readiness depends on; None means every part.
    essential: Option<&'static [&'static str]>,
    program: Program,
}

/// The handle with which one component reports its state. Clones share the same state.
#[derive(Debug, Clone)]
pub struct Part {
    name: String,
    health: Health,
}

/// What a report changed.
struct Changed {
    state: bool,
    /// The remark, or the state.
    remark: bool,
    /// How long the state before lasted.
    before: Duration,
    /// How long the same state has lasted, if it was time to say so again.
    lasts: Option<Duration>,
}

#[derive(Debug)]
struct PartEntry {
    state: PartState,
    since: SystemTime,
    /// The same moment as `since` by a clock that nobody can set.
    started: Instant,
    /// When the log last said so.
    said: Instant,
    /// Why it is down, or what operators must know although it is up.
    remark: Option<String>,
}

/// The state of all parts at one moment.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every essential part is up, and the process is not about to end.
    pub ready: bool,
    /// Whether the process is about to end: it finishes its work, and wants no more.
    pub draining: bool,
    /// Whether any part is not up.
    pub degraded: bool,
    /// The parts by name.
    pub parts: BTreeMap<String, PartReport>,
}

/// One part of a [`Report`].
#[derive(Debug, Serialize)]
pub struct PartReport {
    pub state: PartState,
    /// When the state began, in UTC as RFC 3339.
    pub since: String,
    /// How many seconds ago the state began.
    pub seconds: u64,
    /// Why the part is down; None if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What operators must know although the part is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Health {
    /// Without parts; every part that is added is essential.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without parts; only those named here are essential. The process can do its work without the others.
    pub fn with_essential(essential: &'static [&'static str]) -> Self {
        Self { essential: Some(essential), ..Self::default() }
    }

    /// The same, whose log lines are those of this program.
    pub fn of(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// The part of this name. A new one begins as [`PartState::Starting`].
    pub fn part(&self, name: &str) -> Part {
        self.parts().entry(name.to_owned()).or_insert_with(|| PartEntry::new(PartState::Starting, None));
        let part = Part { name: name.to_owned(), health: self.clone() };
        part.gauge(part.state());
        part
    }

    /// Reports that the process is about to end. It is not ready from now on, whatever its parts are.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The state of all parts now.
    pub fn report(&self) -> Report {
        let parts = self.parts();
        let is_essential = |name: &str| self.essential.is_none_or(|essential| essential.contains(&name));
        let draining = self.is_draining();
        Report {
            draining,
            ready: !draining && parts.iter().all(|(name, part)| part.state == PartState::Up || !is_essential(name)),
            degraded: parts.values().any(|part| part.state != PartState::Up),
            parts: parts.iter().map(|(name, entry)| (name.clone(), entry.report())).collect(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, PartEntry>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Reports that the part works.
    pub fn up(&self) {
        let changed = self.change(PartState::Up, None);
        if changed.state {
            let after_seconds = changed.before.as_secs();
            say!(self.health.program, info, part = self.name, after_seconds, "a part is up");
        } else if changed.remark {
            say!(self.health.program, info, part = self.name, "a part is up, without the warning");
        }
    }

    /// Reports that the part works, but not as it should. Operators see the warning: it must contain no secret.
    pub fn up_but(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let had_warning = self.warns();
        if self.change(PartState::Up, Some(warning.clone())).state || !had_warning {
            say!(self.health.program, warn, part = self.name, warning, "a part is up, with a warning");
        }
    }

    /// Reports that the part does not work. Operators see the reason: it must contain no secret.
    pub fn down(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let changed = self.change(PartState::Down, Some(reason.clone()));
        if changed.state {
            say!(self.health.program, warn, part = self.name, reason, "a part is down");
        } else {
            self.remind(&changed, &reason);
        }
    }

    /// As [`down`](Self::down), for what nobody but an operator can mend: each new reason is logged.
    pub fn needs_mending(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let changed = self.change(PartState::Down, Some(reason.clone()));
        if changed.remark {
            say!(self.health.program, warn, part = self.name, reason, "a part is down until somebody acts");
        } else {
            self.remind(&changed, &reason);
        }
    }

    /// As [`down`](Self::down), for what is nothing unusual: the part waits for another program. Each new reason is
    /// logged, and is no warning.
    pub fn waits(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let changed = self.change(PartState::Down, Some(reason.clone()));
        if changed.remark {
            say!(self.health.program, info, part = self.name, reason, "a part waits");
        } else {
            self.remind(&changed, &reason);
        }
    }

    /// An outage that lasts is told again now and then, by whoever reports it again.
    fn remind(&self, changed: &Changed, reason: &str) {
        if let Some(lasts) = changed.lasts {
            let seconds = lasts.as_secs();
            say!(self.health.program, warn, part = self.name, reason, seconds, "a part is still down");
        }
    }

    /// Whether it is up with a warning.
    fn warns(&self) -> bool {
        let parts = self.health.parts();
        parts.get(&self.name).is_some_and(|entry| entry.state == PartState::Up && entry.remark.is_some())
    }

    /// The latest reported state.
    pub fn state(&self) -> PartState {
        self.health.parts().get(&self.name).map_or(PartState::Starting, |entry| entry.state)
    }

    /// What has changed. A new remark alone does not change `since`.
    fn change(&self, state: PartState, remark: Option<String>) -> Changed {
        let before = {
            let mut parts = self.health.parts();
            let entry = parts.entry(self.name.clone());
            let entry = entry.or_insert_with(|| PartEntry::new(PartState::Starting, None));
            let (lasted, now) = (entry.started.elapsed(), Instant::now());
            if entry.state == state {
                let is_due = now.saturating_duration_since(entry.said) >= REMIND_AFTER;
                let remark_changed = entry.remark != remark;
                if is_due {
                    entry.said = now;
                }
                entry.remark = remark;
                let lasts = is_due.then_some(lasted);
                return Changed { state: false, remark: remark_changed, before: Duration::ZERO, lasts };
            }
            *entry = PartEntry::new(state, remark);
            lasted
        };
        self.gauge(state);
        Changed { state: true, remark: true, before, lasts: None }
    }

    fn gauge(&self, state: PartState) {
        metrics::gauge!("arcyou_part_up", "part" => self.name.clone()).set(if state == PartState::Up {
            1.0
        } else {
            0.0
        });
    }
}

impl PartEntry {
    fn new(state: PartState, remark: Option<String>) -> Self {
        let now = Instant::now();
        Self { state, since: SystemTime::now(), started: now, said: now, remark }
    }

    fn report(&self) -> PartReport {
        let (reason, warning) = match self.state {
            PartState::Up => (None, self.remark.clone()),
            PartState::Starting | PartState::Down => (self.remark.clone(), None),
        };
        PartReport {
            state: self.state,
            since: rfc3339(self.since),
            seconds: self.started.elapsed().as_secs(),
            reason,
            warning,
        }
    }
}

fn rfc3339(at: SystemTime) -> String {
    let seconds = OffsetDateTime::from(at).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    seconds.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_essential_part_is_up() {
        let health = Health::new();
        assert!(health.report().ready);
        let (one, two) = (health.part("one"), health.part("two"));
        one.up();
        assert!(!health.report().ready);
        two.up();
        assert!(health.report().ready);
        one.down("it left");
        let report = health.report();
        assert!(!report.ready);
        assert_eq!(report.parts["one"].reason.as_deref(), Some("it left"));
        assert_eq!(report.parts["two"].state, PartState::Up);
    }

    #[test]
    fn a_process_that_drains_is_not_ready_whatever_its_parts_are() {
        let health = Health::with_essential(&["database"]);
        health.part("database").up();
        assert!(health.report().ready && !health.report().draining);
        health.clone().drain();
        let report = health.report();
        assert!(!report.ready && report.draining && !report.degraded);
    }

    #[test]
    fn a_new_reason_does_not_move_the_time() {
        let health = Health::new();
        let part = health.part("one");
        part.down("first");
        let since = health.parts().get("one").map(|entry| entry.started);
        part.down("second");
        assert_eq!(health.parts().get("one").map(|entry| entry.started), since);
        assert_eq!(health.report().parts["one"].reason.as_deref(), Some("second"));
    }

    #[test]
    fn what_is_not_essential_degrades_only() {
        let health = Health::with_essential(&["database"]);
        let (database, redis) = (health.part("database"), health.part("redis"));
        database.up();
        redis.down("it left");
        let report = health.report();
        assert!(report.ready && report.degraded);
        database.down("it left too");
        assert!(!health.report().ready);
    }

    #[test]
    fn a_warning_is_shown_and_degrades_nothing() {
        let health = Health::new();
        health.part("auth").up_but("everybody is believed");
        let report = health.report();
        assert!(report.ready && !report.degraded);
        assert_eq!(report.parts["auth"].warning.as_deref(), Some("everybody is believed"));
        assert_eq!(report.parts["auth"].reason, None);
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(
            rfc3339(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(951_782_399_500)),
            "2000-02-28T23:59:59Z"
        );
    }
}
