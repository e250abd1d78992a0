//! From a request to joined conversations. One or a list of them: the same steps, and the same number of queries.

use std::collections::HashMap;

use arcyou_protocol::{Echo, ErrorCode, Failure, JoinTarget, Joined, Op, Reply, ResumeFrom, Seq};
use futures_util::stream::{self, StreamExt as _};
use metrics::counter;
use uuid::Uuid;

use super::conversation::{CatchUp, Conversation, Entered};
use super::requests::Session;
use super::wire::{End, Wire};
use crate::authorize::not_participant;
use crate::fanout::RoomRef;
use crate::store::{Participation, logged};

/// A client that is further behind than this many messages, or lacks some that are purged, reads `history` instead.
const LARGEST_BACKFILL: Seq = 10_000;
/// Joins of one list that plugins are asked about at the same time: some of them wait for other services.
const ASKED_AT_ONCE: usize = 16;

/// Why a join is refused.
pub(crate) const JOIN_REFUSALS: &[ErrorCode] = &[
    ErrorCode::NotParticipant,
    ErrorCode::TooManyJoined,
    ErrorCode::UnknownMessage,
    ErrorCode::Rejected,
    ErrorCode::PluginFailed,
    ErrorCode::Unavailable,
    ErrorCode::Internal,
];

/// Where a join starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    cursor: Seq,
    /// Whether every message after the client's last one follows; none if the client did not ask.
    resumed: Option<bool>,
}

/// A conversation that may be joined.
struct Admitted {
    target: JoinTarget,
    room: RoomRef,
    participation: Participation,
    start: Start,
}

impl Session {
    pub(super) async fn join(
        &mut self,
        user: Uuid,
        target: JoinTarget,
        echo: &Echo,
        wire: &mut Wire,
    ) -> Result<(), End> {
        self.tell_evicted()?;
        let answer = self.admit(user, &[target]).await.map(|mut answers| answers.pop());
        let admitted = match answer {
            Ok(Some(Ok(admitted))) => admitted,
            Ok(Some(Err(failure))) | Err(failure) => {
                count(failure.code.value(), 1);
                return self.say(failure.encode(Op::Join.value(), echo));
            }
            Ok(None) => return Ok(()),
        };
        let (joined, catch_up) = self.take(admitted);
        self.say(Reply::Join(joined).encode(echo))?;
        self.start(user, target.conversation, catch_up);
        if self.is_page_due() { self.send_page(wire).await } else { Ok(()) }
    }

    /// The same for several conversations, answered together.
    pub(super) async fn join_list(
        &mut self,
        user: Uuid,
        targets: &[JoinTarget],
        echo: &Echo,
        wire: &mut Wire,
    ) -> Result<(), End> {
        self.tell_evicted()?;
        let answers = match self.admit(user, targets).await {
            Ok(answers) => answers,
            Err(failure) => {
                count(failure.code.value(), targets.len() as u64);
                return self.say(failure.encode(Op::Join.value(), echo));
            }
        };
        // The answer is large beside a small queue.
        wire.flush().await?;
        let mut started = Vec::with_capacity(answers.len());
        let mut entries = Vec::with_capacity(answers.len());
        for (target, answer) in targets.iter().zip(answers) {
            entries.push(match answer {
                Ok(admitted) => {
                    let (joined, catch_up) = self.take(admitted);
                    started.push((target.conversation, catch_up));
                    Ok(joined)
                }
                Err(failure) => {
                    count(failure.code.value(), 1);
                    Err(Failure { conversation: Some(target.conversation), ..failure })
                }
            });
        }
        self.say(Reply::JoinList(entries).encode(echo))?;
        for (conversation, catch_up) in started {
            self.start(user, conversation, catch_up);
        }
        if self.is_page_due() { self.send_page(wire).await } else { Ok(()) }
    }

    /// Which of these may be joined, in their order. An error is one of all of them.
    async fn admit(&self, user: Uuid, targets: &[JoinTarget]) -> Result<Vec<Result<Admitted, Failure>>, Failure> {
        let limit = self.shared.limits.max_joined;
        let mut places = limit.saturating_sub(self.conversations.len());
        let too_many = || {
            let text = format!("this socket has joined {limit} conversations already; leave one first");
            Failure::new(ErrorCode::TooManyJoined, text)
        };
        let is_new = |target: &JoinTarget| !self.conversations.contains_key(&target.conversation);
        // The rooms come first: what is published from here on waits there while the database is read.
        let enter = |target: &JoinTarget| match places == 0 && is_new(target) {
            true => Err(too_many()),
            false => Ok((*target, self.shared.fanout.enter(target.conversation))),
        };
        let entered: Vec<Result<(JoinTarget, RoomRef), Failure>> = targets.iter().map(enter).collect();
        let wanted: Vec<JoinTarget> = entered.iter().flatten().map(|(target, _)| *target).collect();
        let mut found = self.starting_points(user, &wanted).await?;
        let mut take_place = |target: &JoinTarget| {
            if is_new(target) {
                places = places.checked_sub(1).ok_or_else(too_many)?;
            }
            Ok(())
        };
        let mut permitted = Vec::with_capacity(entered.len());
        for entered in entered {
            permitted.push(entered.and_then(|(target, room)| {
                let standing = found.remove(&target.conversation).unwrap_or_else(|| Err(not_participant()));
                let (participation, start) = standing?;
                take_place(&target)?;
                Ok(Admitted { target, room, participation, start })
            }));
        }
        // Those who participate are asked about; a second join too. A token's renewal is no join: what was joined goes
        // on.
        let ask = |permitted: Result<Admitted, Failure>| async move {
            let admitted = permitted?;
            let role = &admitted.participation.role;
            self.shared.ingress.admit(admitted.target.conversation, user, role).await.map(|()| admitted)
        };
        Ok(stream::iter(permitted).map(ask).buffered(ASKED_AT_ONCE).collect().await)
    }

    /// Checks the rights to join and finds where events start.
    async fn starting_points(
        &self,
        user: Uuid,
        targets: &[JoinTarget],
    ) -> Result<HashMap<Uuid, Result<(Participation, Start), Failure>>, Failure> {
        if targets.is_empty() {
            return Ok(HashMap::new());
        }
        let store = &self.shared.store;
        let conversations: Vec<Uuid> = targets.iter().map(|target| target.conversation).collect();
        let mut participations = store.participations(&conversations, user).await.map_err(logged)?;
        let last_ids: Vec<(Uuid, i64)> = targets
            .iter()
            .filter(|target| participations.contains_key(&target.conversation))
            .filter_map(|target| match target.resume {
                Some(ResumeFrom::Id(id)) if id > 0 => Some((target.conversation, id)),
                _ => None,
            })
            .collect();
        let seqs = if last_ids.is_empty() {
            HashMap::new()
        } else {
            store.seqs_of(&last_ids, LARGEST_BACKFILL).await.map_err(logged)?
        };
        let standing = |target: &JoinTarget| {
            let participation = participations.remove(&target.conversation)?;
            let seq_of_id = seqs.get(&target.conversation).copied();
            let start = start_of(target.resume, seq_of_id, &participation);
            Some((target.conversation, start.map(|start| (participation, start))))
        };
        Ok(targets.iter().filter_map(standing).collect())
    }

    /// Takes the place of an earlier join of the same conversation, if there is one.
    fn take(&mut self, admitted: Admitted) -> (Joined, CatchUp) {
        let Admitted { target: JoinTarget { conversation, resume }, room, participation, mut start } = admitted;
        // A second join starts the events anew, by itself where the first one has come to. Nothing of the first waits
        // for the reply to a send: those are given before a join is carried out.
        if let Some(cursor) = self.remove(conversation).map(Conversation::stop) {
            start.cursor = resume.map_or(cursor, |_| start.cursor);
        }
        let Participation { role, last_read_id, last_seq, .. } = participation;
        let entered = Some(Entered { room, target: last_seq, role: role.as_str().into(), is_checked: true });
        let joined = Joined { conversation, last_seq, last_read_id, role, resumed: start.resumed };
        count("joined", 1);
        (joined, CatchUp { cursor: start.cursor, entered })
    }
}

fn count(outcome: &'static str, joins: u64) {
    counter!("arcyou_joins_total", "outcome" => outcome).increment(joins);
}

/// Where events start: after `resume`, whose message has `seq_of_id` if it is named by its id.
fn start_of(
    resume: Option<ResumeFrom>,
    seq_of_id: Option<Seq>,
    &Participation { last_seq, purged_seq, .. }: &Participation,
) -> Result<Start, Failure> {
    let after = match resume {
        None => return Ok(Start { cursor: last_seq, resumed: None }),
        Some(ResumeFrom::Id(0)) => Some(0),
        Some(ResumeFrom::Id(_)) => seq_of_id,
        Some(ResumeFrom::Seq(seq)) => Some(seq).filter(|seq| *seq <= last_seq),
    };
    let after = after.ok_or_else(|| {
        Failure::new(ErrorCode::UnknownMessage, "this conversation has no such message or seq to resume after")
    })?;
    let is_resumed = after >= purged_seq && last_seq.saturating_sub(after) <= LARGEST_BACKFILL;
    Ok(Start { cursor: if is_resumed { after } else { last_seq }, resumed: Some(is_resumed) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn events_start_where_the_client_stopped() {
        let participation =
            |purged_seq| Participation { role: "member".to_owned(), last_read_id: 0, last_seq: 50_000, purged_seq };
        let start_at = |resume, seq_of_id, purged_seq| {
            start_of(resume, seq_of_id, &participation(purged_seq)).map(|start| (start.cursor, start.resumed))
        };
        let start = |resume, seq_of_id| start_at(resume, seq_of_id, 0);
        assert_eq!(start(None, None).unwrap(), (50_000, None));
        assert_eq!(start(Some(ResumeFrom::Seq(49_990)), None).unwrap(), (49_990, Some(true)));
        assert_eq!(start(Some(ResumeFrom::Seq(50_000)), None).unwrap(), (50_000, Some(true)));
        assert_eq!(start(Some(ResumeFrom::Seq(0)), None).unwrap(), (50_000, Some(false)));
        assert_eq!(start(Some(ResumeFrom::Id(7)), Some(40_000)).unwrap(), (40_000, Some(true)));
        assert_eq!(start(Some(ResumeFrom::Id(0)), None).unwrap(), (50_000, Some(false)));
        assert_eq!(start_at(Some(ResumeFrom::Seq(49_990)), None, 49_990).unwrap(), (49_990, Some(true)));
        assert_eq!(start_at(Some(ResumeFrom::Seq(49_990)), None, 49_991).unwrap(), (50_000, Some(false)));
        assert_eq!(start_at(Some(ResumeFrom::Id(7)), Some(0), 1).unwrap(), (50_000, Some(false)));
        assert_eq!(start_at(None, None, 49_991).unwrap(), (50_000, None));
        for resume in [ResumeFrom::Seq(50_001), ResumeFrom::Id(7)] {
            assert_eq!(start(Some(resume), None).unwrap_err().code, ErrorCode::UnknownMessage);
        }
    }
}
