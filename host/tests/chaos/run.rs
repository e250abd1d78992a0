//! One run: everything is started, faults strike while clients talk, all is mended, and what is left behind is checked.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::checker;
use crate::device::{Clock, Device, Log, Phase, Progress, Room};
use crate::history::{Absence, At, Seq};
use crate::report::Report;
use crate::schedule::{DEVICES, Fault, Step, Target};
use crate::sql::Sql;
use crate::system::{PATIENCE, System};

/// Every other one has two devices.
const USERS: usize = DEVICES * 2 / 3;
/// These are removed and come back.
const REMOVABLE: Range<usize> = 4..6;
const CONVERSATIONS: usize = 3;
/// What a fault leaves behind is over so long after it: backing off, starting, catching up.
const RECOVERY: Duration = Duration::from_secs(3);
/// The end of a run without faults, in which removals are held to their second.
pub const CALM: Duration = Duration::from_secs(5);

pub struct Run {
    pub system: System,
    pub sql: Sql,
    pub clock: Clock,
    users: Vec<Uuid>,
    conversations: Vec<Uuid>,
    pub disturbed: Mutex<Vec<Range<At>>>,
    pub unexpected: Mutex<Vec<String>>,
}

pub type Absences = Vec<Absence>;

/// Lets these faults happen while clients talk; the last seconds are without any.
pub async fn run(seed: u64, steps: Vec<Step>, length: Duration) -> Report {
    let started = Instant::now();
    let mode = if seed.is_multiple_of(2) { "global" } else { "perconv" };
    let plan: Vec<String> = steps.iter().map(|step| format!("\n  {step}")).collect();
    println!("seed {seed}, {mode}, {} faults:{}", steps.len(), plan.concat());
    let run = Arc::new(Run::prepare(System::start(mode).await).await);

    let (phase, phases) = watch::channel(Phase::Busy);
    let mut devices = JoinSet::new();
    let progress: Vec<(Uuid, Arc<Progress>)> = run.devices(seed, &phases, &mut devices);
    let lag = tokio::spawn(worst_lag(phases.clone()));
    let removals = tokio::spawn(run.clone().remove_and_return(seed, phases));
    run.clone().strike(&steps).await;
    tokio::time::sleep(length.saturating_sub(run.clock.now()).max(CALM)).await;
    run.last_blow(&phase).await;
    let absences = removals.await.unwrap();
    run.until_quiet(&progress).await;
    phase.send_replace(Phase::Finish);
    let lag = lag.await.unwrap();
    let logs = devices.join_all().await;
    let mut run = Arc::into_inner(run).unwrap();
    let closes = logs.iter().flat_map(|log| log.closes.clone()).collect();
    let history = run.history(logs, absences, lag).await;
    let violations = checker::check(&history);
    let logs = (!violations.is_empty()).then(|| run.system.keep_logs().to_owned());
    Report::new(seed, steps, &history, closes, violations, logs, started.elapsed())
}

impl Run {
    async fn prepare(system: System) -> Self {
        let sql = system.sql();
        let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::new_v4()).collect();
        let mut conversations = Vec::new();
        for _ in 0..CONVERSATIONS {
            let conversation = Uuid::new_v4();
            sql.query("INSERT INTO conversations (id) VALUES ($1)", &[&conversation]).await;
            conversations.push(conversation);
            for user in &users {
                sql.query(ADD, &[&conversation, user]).await;
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
                reads: self.system.reader(usize::try_from(number).unwrap()),
                random: fastrand::Rng::with_seed(seed ^ (number << 32)),
                rooms: self.conversations.iter().map(|conversation| (*conversation, Room::default())).collect(),
                log: Log::default(),
                bodies: Vec::new(),
                retries: Vec::new(),
                known: Vec::new(),
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
        faults.join_all().await;
        let mended = self.clock.now();
        self.system.until_ready().await;
        self.disturbed.lock().unwrap().push(mended..self.clock.now() + RECOVERY);
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
                self.sql.query(ADD, &[&conversation, &user]).await;
                over.push(Absence { until, ..away.swap_remove(place) });
            } else {
                self.sql.query(REMOVE, &[&conversation, &user]).await;
                away.push(Absence { user, conversation, from: self.clock.now(), until: None });
            }
        }
        over.extend(away);
        over
    }

    /// Waits until every message has its answer and every socket has every message. What does not come is for the
    /// checker.
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
        let rows = self.sql.query("SELECT id, last_seq FROM conversations", &[]).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub async fn participants(&self) -> HashSet<(Uuid, Uuid)> {
        let rows = self.sql.query("SELECT conversation_id, user_id FROM participants", &[]).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn pending(&self) -> i64 {
        let count = "SELECT count(*) FROM outbox WHERE NOT processed AND parked_at IS NULL";
        self.sql.query(count, &[]).await[0].get(0)
    }
}

const ADD: &str = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
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
