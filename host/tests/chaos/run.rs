//! One run: everything is started, faults strike while clients talk, all is mended, and what is left behind is checked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::checker::{self, Violation};
use crate::device::{Clock, Device, Log, Phase, Progress, Room};
use crate::history::{Absence, At, History, Message, OutboxRow, Outcome, Seq};
use crate::schedule::{self, Fault, Step, Target};
use crate::system::{PATIENCE, System};

const USERS: usize = 6;
/// These are removed and come back.
const REMOVABLE: Range<usize> = 4..6;
const CONVERSATIONS: usize = 3;
/// What a fault leaves behind is over so long after it: backing off, starting, catching up.
const RECOVERY: Duration = Duration::from_secs(3);
/// The end of a run without faults, in which removals are held to their second.
const CALM: Duration = Duration::from_secs(6);

/// What a run came to.
pub struct Report {
    pub seed: u64,
    pub steps: Vec<Step>,
    pub sent: usize,
    pub acknowledged: usize,
    pub events: usize,
    pub streams: usize,
    pub removals: usize,
    pub violations: Vec<Violation>,
}

struct Run {
    system: System,
    sql: Client,
    clock: Clock,
    users: Vec<Uuid>,
    conversations: Vec<Uuid>,
    disturbed: Mutex<Vec<Range<At>>>,
    unexpected: Mutex<Vec<String>>,
}

type Absences = Vec<Absence>;

/// Runs the schedule of a seed, of which faults take all but the last seconds.
pub async fn run(seed: u64, length: Duration) -> Report {
    let mode = if seed.is_multiple_of(2) { "global" } else { "perconv" };
    let steps = schedule::draw(seed, length.saturating_sub(CALM).max(length / 3));
    println!("seed {seed}, {mode}, {} faults:", steps.len());
    steps.iter().for_each(|step| println!("  {step}"));
    let system = System::start(mode).await;
    let run = Arc::new(Run::prepare(system).await);

    let (phase, phases) = watch::channel(Phase::Busy);
    let mut devices = JoinSet::new();
    let progress: Vec<(Uuid, Arc<Progress>)> = run.devices(seed, &phases, &mut devices);
    let lag = tokio::spawn(worst_lag(phases.clone()));
    let removals = tokio::spawn(run.clone().remove_and_return(seed, phases));
    run.clone().strike(&steps).await;
    run.system.until_ready().await;
    tokio::time::sleep(length.saturating_sub(run.clock.now()).max(CALM)).await;
    run.last_blow(&phase).await;
    let absences = removals.await.unwrap();
    run.until_quiet(&progress).await;
    phase.send_replace(Phase::Finish);
    let lag = lag.await.unwrap();
    let logs = devices.join_all().await;
    let mut run = Arc::into_inner(run).unwrap();
    let history = run.history(logs, absences, lag).await;
    run.report(seed, steps, &history)
}

impl Run {
    async fn prepare(system: System) -> Self {
        let sql = system.sql().await;
        let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::new_v4()).collect();
        let mut conversations = Vec::new();
        for _ in 0..CONVERSATIONS {
            let row = sql.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
            let conversation: Uuid = row.get(0);
            conversations.push(conversation);
            for user in &users {
                sql.execute(ADD, &[&conversation, user]).await.unwrap();
            }
        }
        let clock = Clock(SystemTime::now());
        Self { system, sql, clock, users, conversations, disturbed: Mutex::default(), unexpected: Mutex::default() }
    }

    /// A device for each user, two for every other one.
    fn devices(
        &self,
        seed: u64,
        phase: &watch::Receiver<Phase>,
        tasks: &mut JoinSet<Log>,
    ) -> Vec<(Uuid, Arc<Progress>)> {
        let second = self.users.iter().step_by(2);
        let mut all = Vec::new();
        for (number, user) in (0..).zip(self.users.iter().chain(second)) {
            let progress = Arc::new(Progress::default());
            let device = Device {
                number,
                user: *user,
                doors: self.system.doors(),
                clock: self.clock,
                phase: phase.clone(),
                progress: progress.clone(),
                random: fastrand::Rng::with_seed(seed ^ (number << 32)),
                rooms: self.conversations.iter().map(|conversation| (*conversation, Room::default())).collect(),
                log: Log::default(),
                retries: Vec::new(),
                sockets: 0,
            };
            tasks.spawn(device.run());
            all.push((*user, progress));
        }
        all
    }

    /// Lets every fault happen in its time; back when all is mended.
    async fn strike(self: Arc<Self>, steps: &[Step]) {
        let mut faults = JoinSet::new();
        let mut targets: HashMap<Target, Arc<tokio::sync::Mutex<()>>> = HashMap::new();
        for step in steps {
            let (run, Step { at, lasts, fault }) = (self.clone(), *step);
            let target = targets.entry(fault.target()).or_default().clone();
            faults.spawn(async move {
                tokio::time::sleep(at.saturating_sub(run.clock.now())).await;
                // A fault may take longer than planned, such as a drain: the next one waits for its end.
                let _turn = target.lock().await;
                let start = run.clock.now();
                let begun = run.system.begin(fault).await;
                tokio::time::sleep(lasts).await;
                let ended = run.system.end(fault).await;
                run.disturbed.lock().unwrap().push(start..run.clock.now() + RECOVERY);
                for error in [begun, ended].into_iter().filter_map(Result::err) {
                    run.unexpected.lock().unwrap().push(format!("{fault:?}: {error}"));
                }
            });
        }
        while let Some(fault) = faults.join_next().await {
            fault.unwrap();
        }
    }

    /// The last messages are published while nobody listens, and none comes after them that would show the gap.
    async fn last_blow(&self, phase: &watch::Sender<Phase>) {
        let start = self.clock.now();
        for round in 0..8 {
            if let Err(error) = self.system.begin(Fault::KillSubscribers).await {
                self.unexpected.lock().unwrap().push(format!("the last blow: {error}"));
            }
            if round == 4 {
                phase.send_replace(Phase::Settle);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        self.disturbed.lock().unwrap().push(start..self.clock.now() + RECOVERY);
    }

    /// Other services take participants away and bring them back, until clients settle; some stay away.
    async fn remove_and_return(self: Arc<Self>, seed: u64, mut phase: watch::Receiver<Phase>) -> Absences {
        let mut random = fastrand::Rng::with_seed(!seed);
        let (mut over, mut away) = (Absences::new(), Absences::new());
        while *phase.borrow() == Phase::Busy {
            let pause = Duration::from_millis(random.u64(100..500));
            let _ = tokio::time::timeout(pause, phase.wait_for(|phase| *phase != Phase::Busy)).await;
            let user = self.users[random.usize(REMOVABLE)];
            let conversation = self.conversations[random.usize(..CONVERSATIONS)];
            if let Some(place) =
                away.iter().position(|absence| (absence.user, absence.conversation) == (user, conversation))
            {
                let until = Some(self.clock.now());
                self.sql.execute(ADD, &[&conversation, &user]).await.unwrap();
                over.push(Absence { until, ..away.swap_remove(place) });
            } else {
                self.sql.execute(REMOVE, &[&conversation, &user]).await.unwrap();
                away.push(Absence { user, conversation, from: self.clock.now(), until: None });
            }
        }
        over.extend(away);
        over
    }

    /// Waits until every message has its answer and every socket has every message. What does not come is for the checker.
    async fn until_quiet(&self, devices: &[(Uuid, Arc<Progress>)]) {
        let deadline = Instant::now() + PATIENCE;
        let pause = || tokio::time::sleep(Duration::from_millis(50));
        let unresolved = || devices.iter().any(|(_, progress)| progress.unresolved.load(Ordering::SeqCst) > 0);
        // Twice, since a device reports now and then.
        for _ in 0..2 {
            while unresolved() && Instant::now() < deadline {
                pause().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if unresolved() {
            self.unexpected.lock().unwrap().push("a message never got its final answer".to_owned());
        }
        let last = self.last().await;
        let participants = self.participants().await;
        let behind = || {
            devices.iter().any(|(user, progress)| {
                let places = progress.places.lock().unwrap();
                last.iter().any(|(id, last)| participants.contains(&(*id, *user)) && places.get(id) != Some(last))
            })
        };
        while (behind() || self.pending().await > 0) && Instant::now() < deadline {
            pause().await;
        }
        if behind() {
            self.unexpected.lock().unwrap().push("somebody did not get level with the conversations".to_owned());
        }
        // What is repeated late shows itself now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let dead = self.system.dead().into_iter().map(|part| format!("{part:?} has ended by itself"));
        self.unexpected.lock().unwrap().extend(dead);
    }

    async fn last(&self) -> HashMap<Uuid, Seq> {
        let rows = self.sql.query("SELECT id, last_seq FROM conversations", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn participants(&self) -> HashSet<(Uuid, Uuid)> {
        let rows = self.sql.query("SELECT conversation_id, user_id FROM participants", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn pending(&self) -> i64 {
        let count = "SELECT count(*) FROM outbox WHERE NOT processed AND parked_at IS NULL";
        self.sql.query_one(count, &[]).await.unwrap().get(0)
    }

    async fn history(&self, logs: Vec<Log>, absences: Absences, lag: Duration) -> History {
        let participants = self.participants().await;
        let mut history = History {
            absences,
            messages: self.messages().await,
            outbox: self.outbox().await,
            disturbed: self.disturbed.lock().unwrap().clone(),
            unexpected: self.unexpected.lock().unwrap().clone(),
            // The promise is one second. What this machine adds to it is measured by how late a timer was at worst: several
            // processes wait for one another on the way.
            removal_within: Duration::from_millis(1500) + 10 * lag,
            ..History::default()
        };
        for log in logs {
            history.sends.extend(log.sends);
            history.streams.extend(log.streams);
            history.unexpected.extend(log.unexpected);
        }
        for stream in &mut history.streams {
            stream.open &= participants.contains(&(stream.conversation, stream.user));
        }
        history
    }

    async fn messages(&self) -> Vec<Message> {
        let start = self.clock.0.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let created = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap()).saturating_sub(start);
        let select = "SELECT id, conversation_id, seq, sender_id, idempotency_key,
            (extract(epoch FROM created_at) * 1000000)::bigint FROM messages";
        let rows = self.sql.query(select, &[]).await.unwrap();
        let message = |row: &tokio_postgres::Row| Message {
            id: row.get(0),
            conversation: row.get(1),
            seq: row.get(2),
            sender: row.get(3),
            key: row.get(4),
            created: created(row.get(5)),
        };
        rows.iter().map(message).collect()
    }

    async fn outbox(&self) -> Vec<OutboxRow> {
        let select = "SELECT id, type, processed, parked_at IS NOT NULL FROM outbox";
        let rows = self.sql.query(select, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| OutboxRow {
            id: row.get(0),
            kind: row.get(1),
            processed: row.get(2),
            parked: row.get(3),
        };
        rows.iter().map(row).collect()
    }

    fn report(&mut self, seed: u64, steps: Vec<Step>, history: &History) -> Report {
        let violations = checker::check(history);
        if !violations.is_empty() {
            println!("seed {seed}: {} violations; logs in {}", violations.len(), self.system.keep_logs().display());
            violations.iter().take(50).for_each(|violation| println!("  {violation}"));
        }
        let stored = |attempt: &crate::history::Attempt| matches!(attempt.outcome, Outcome::Stored { .. });
        Report {
            seed,
            steps,
            sent: history.sends.len(),
            acknowledged: history.sends.iter().filter(|send| send.attempts.iter().any(stored)).count(),
            events: history.streams.iter().map(|stream| stream.events.len()).sum(),
            streams: history.streams.len(),
            removals: history.absences.len(),
            violations,
        }
    }
}

const ADD: &str = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2)";
const REMOVE: &str = "DELETE FROM participants WHERE conversation_id = $1 AND user_id = $2";

/// How late a short sleep ended at worst, until the end of the run.
async fn worst_lag(phase: watch::Receiver<Phase>) -> Duration {
    const NAP: Duration = Duration::from_millis(10);
    let mut worst = Duration::ZERO;
    while *phase.borrow() != Phase::Finish {
        let asleep = Instant::now();
        tokio::time::sleep(NAP).await;
        worst = worst.max(asleep.elapsed().saturating_sub(NAP));
    }
    worst
}

/// How often each kind of thing occurred.
pub fn tally(words: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}
