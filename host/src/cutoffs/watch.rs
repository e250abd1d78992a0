//! The one task that asks the database: what is new about once a second, and about users who authenticate whenever
//! there are some. All who come while a question is under way are asked about together, so that a crowd that reconnects
//! costs one connection and few queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_platform::outage_log::OutageLog;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::registry::Registry;
use crate::store::{Cutoff, CutoffPlace, SchemaGate, Store, StoreError};

/// Between looks for new cutoffs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Users in one question.
const ASKED_AT_ONCE: usize = 1000;

/// Since when a user's tokens are refused. It is answered with the time of the user's disconnection, if there was one,
/// or dropped if nobody knows.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) user: Uuid,
    pub(super) answer: oneshot::Sender<Option<f64>>,
}

/// Who asks before the schema is complete is not answered, and does not wait for it.
pub(super) async fn keep_watching(
    store: Store,
    gate: SchemaGate,
    registry: Arc<Registry>,
    mut questions: mpsc::Receiver<Question>,
) {
    gate.opened().await;
    let mut watch = Watch { store, registry, known: None, log: OutageLog::new() };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            _ = looks.tick() => watch.look().await,
            count = questions.recv_many(&mut asked, ASKED_AT_ONCE) => {
                if count == 0 {
                    return;
                }
                watch.answer(std::mem::take(&mut asked)).await;
            }
        }
    }
}

struct Watch {
    store: Store,
    registry: Arc<Registry>,
    /// None until the first look.
    known: Option<Known>,
    log: OutageLog,
}

/// How far the last look came.
struct Known {
    /// What earlier transactions wrote was seen.
    oldest_running: i64,
    /// What was seen of later ones, and is seen again.
    again: HashMap<Uuid, f64>,
}

impl Watch {
    async fn look(&mut self) {
        let looked = self.try_look().await;
        let now = Instant::now();
        match looked {
            Ok(()) => {
                if let Some(line) = self.log.worked(now) {
                    let seconds = line.lasted.as_secs();
                    tracing::info!(seconds, "disconnections of users are seen again");
                }
            }
            Err(error) => {
                if let Some(line) = self.log.failed(now) {
                    let seconds = line.lasted.as_secs();
                    tracing::warn!(%error, seconds, "disconnections of users cannot be seen; sockets of theirs stay open");
                }
            }
        }
    }

    async fn try_look(&mut self) -> Result<(), StoreError> {
        let Some(known) = &self.known else {
            // Before any socket is proven: what was written earlier is in the answer to its question.
            let page = self.store.cutoffs_after(CutoffPlace::END).await?;
            self.known = Some(Known { oldest_running: page.oldest_running, again: HashMap::new() });
            return Ok(());
        };
        let mut page = self.store.cutoffs_after(CutoffPlace::before(known.oldest_running)).await?;
        // What commits between two pages is seen by the next look.
        let oldest_running = page.oldest_running;
        if oldest_running < known.oldest_running {
            // Another server, which counts its transactions anew.
            self.ask_about_everybody().await?;
        }
        let mut again = HashMap::new();
        loop {
            for cutoff in &page.cutoffs {
                again.insert(cutoff.user, cutoff.not_before);
                if known.again.get(&cutoff.user) != Some(&cutoff.not_before) {
                    self.end(*cutoff);
                }
            }
            let Some(next) = page.next else { break };
            page = self.store.cutoffs_after(next).await?;
        }
        self.known = Some(Known { oldest_running, again });
        Ok(())
    }

    /// Answers those who ask, unless the database does not: then they are dropped.
    async fn answer(&mut self, questions: Vec<Question>) {
        // The place of the first look comes before the first answer, so that nothing falls between them.
        if self.known.is_none() {
            self.look().await;
        }
        if self.known.is_none() {
            return;
        }
        let users: Vec<Uuid> = questions.iter().map(|question| question.user).collect();
        let Ok(cutoffs) = self.store.cutoffs_of(&users).await else { return };
        let found: HashMap<Uuid, f64> = cutoffs.iter().map(|cutoff| (cutoff.user, cutoff.not_before)).collect();
        for Question { user, answer } in questions {
            // Who does not wait any more needs no answer.
            let _ = answer.send(found.get(&user).copied());
        }
    }

    async fn ask_about_everybody(&self) -> Result<(), StoreError> {
        for users in self.registry.users().chunks(ASKED_AT_ONCE) {
            self.store.cutoffs_of(users).await?.into_iter().for_each(|cutoff| self.end(cutoff));
        }
        Ok(())
    }

    fn end(&self, Cutoff { user, not_before }: Cutoff) {
        let sockets = self.registry.end(user, not_before);
        if sockets > 0 {
            tracing::info!(%user, sockets, "a user was disconnected");
        }
    }
}
