//! What must hold of a run, whatever was killed in it. Pure: a history in, violations out.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use crate::history::{Absence, At, Event, History, Message, Outcome, Send, Seq, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged as stored, and not stored.
    Lost,
    /// Acknowledged with other ids than it is stored with.
    WrongAck,
    /// Said to be not stored, although it was.
    FalseRefusal,
    /// Two messages with one idempotency key, one id or one place.
    StoredTwice,
    /// Stored, and nobody sent it.
    Invented,
    /// A conversation's places in the database are not 1, 2, 3 …
    StoreHole,
    /// The same event twice on one socket.
    Repeated,
    /// An event before an earlier one.
    OutOfOrder,
    /// An event is missing between two others, or at the join.
    Hole,
    /// A socket that has not heard everything although all is quiet.
    Behind,
    /// Two sockets saw different messages in the same place.
    Disagreement,
    /// An event of a message that is not stored there.
    Phantom,
    /// An event for somebody who was removed too long ago.
    AfterRemoval,
    /// A join or a new message of somebody who had been removed before they asked.
    WithoutRight,
    /// An outbox row that is neither processed nor parked.
    Unrelayed,
    /// Anything else that the protocol does not allow.
    Unexpected,
}

/// Something that must not happen did.
#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Every violation in a history; none if all promises were kept.
pub fn check(history: &History) -> Vec<Violation> {
    let mut checker = Checker {
        history,
        by_place: HashMap::new(),
        by_key: HashMap::new(),
        last: HashMap::new(),
        absences: HashMap::new(),
        disturbed: merged(&history.disturbed),
        violations: Vec::new(),
    };
    checker.read_messages();
    history.sends.iter().for_each(|send| checker.check_send(send));
    history.streams.iter().for_each(|stream| checker.check_stream(stream));
    checker.check_agreement();
    checker.check_outbox();
    history.unexpected.iter().for_each(|what| checker.object(Kind::Unexpected, what.clone()));
    checker.violations
}

type Key<'a> = (Uuid, Uuid, &'a str);

struct Checker<'a> {
    history: &'a History,
    by_place: HashMap<(Uuid, Seq), i64>,
    by_key: HashMap<Key<'a>, &'a Message>,
    last: HashMap<Uuid, Seq>,
    absences: HashMap<(Uuid, Uuid), Vec<&'a Absence>>,
    disturbed: Vec<Range<At>>,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn object(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    fn read_messages(&mut self) {
        for absence in &self.history.absences {
            self.absences.entry((absence.conversation, absence.user)).or_default().push(absence);
        }
        let sent: HashMap<Key<'a>, ()> = self.history.sends.iter().map(|send| (send.name(), ())).collect();
        let mut places: BTreeMap<Uuid, Vec<Seq>> = BTreeMap::new();
        let mut ids = HashMap::new();
        for message in &self.history.messages {
            let Message { id, conversation, seq, sender, key, .. } = message;
            places.entry(*conversation).or_default().push(*seq);
            let same_id = ids.insert(id, seq).is_some();
            if same_id || self.by_place.insert((*conversation, *seq), *id).is_some() {
                self.object(Kind::StoredTwice, format!("id {id} or place {seq} of {conversation} is there twice"));
            }
            let Some(key) = key else { continue };
            let name = (*conversation, *sender, key.as_str());
            if let Some(first) = self.by_key.insert(name, message) {
                let what = format!("key {key} of {sender} is in places {} and {seq} of {conversation}", first.seq);
                self.object(Kind::StoredTwice, what);
            }
            if !sent.contains_key(&name) {
                self.object(Kind::Invented, format!("nobody sent key {key} (id {id}, place {seq} of {conversation})"));
            }
        }
        for (conversation, mut seqs) in places {
            seqs.sort_unstable();
            self.last.insert(conversation, seqs.last().copied().unwrap_or(0));
            if let Some((expected, found)) = (1..).zip(&seqs).find(|(expected, found)| expected != *found) {
                self.object(Kind::StoreHole, format!("{conversation} has {found} in place {expected}"));
            }
        }
    }

    fn check_send(&mut self, send: &Send) {
        let Send { user, conversation, key, attempts } = send;
        let stored = self.by_key.get(&send.name()).copied();
        for attempt in attempts {
            let Outcome::Stored { id, seq, duplicate } = &attempt.outcome else { continue };
            let ack = format!("key {key} of {user} in {conversation}, acknowledged as id {id}, place {seq}");
            match stored {
                None => self.object(Kind::Lost, ack.clone()),
                Some(found) if (found.id, found.seq) != (*id, *seq) => {
                    self.object(Kind::WrongAck, format!("{ack}, is id {}, place {}", found.id, found.seq));
                }
                Some(_) => {}
            }
            if !duplicate && self.absent_throughout(*conversation, *user, attempt.asked, attempt.ended).is_some() {
                self.object(Kind::WithoutRight, format!("{ack} after its sender was removed"));
            }
        }
        // Only tries from the first that was not refused on may have stored it.
        let first = attempts.iter().find(|attempt| attempt.outcome != Outcome::Refused).map(|attempt| attempt.asked);
        if let Some(found) = stored.filter(|found| first.is_none_or(|first| found.created < first)) {
            let what = format!("key {key} of {user} was refused, and stored as id {} at {:?}", found.id, found.created);
            self.object(Kind::FalseRefusal, what);
        }
    }

    fn check_stream(&mut self, stream: &Stream) {
        let name = stream.name();
        let absent = self.absent_throughout(stream.conversation, stream.user, stream.asked, stream.joined);
        if absent.is_some() {
            self.object(Kind::WithoutRight, format!("{name} began after the user was removed"));
        }
        let mut at = stream.from;
        for Event { seq, id, at: time } in &stream.events {
            if *seq == at {
                self.object(Kind::Repeated, format!("{name} had place {seq} twice"));
            } else if *seq < at {
                self.object(Kind::OutOfOrder, format!("{name} had place {seq} after {at}"));
            } else if *seq > at + 1 {
                self.object(Kind::Hole, format!("{name} had place {seq} next after {at}, at {time:?}"));
            }
            at = at.max(*seq);
            if self.by_place.get(&(stream.conversation, *seq)) != Some(id) {
                self.object(Kind::Phantom, format!("{name} had id {id} in place {seq}, which is not stored"));
            }
        }
        let last = self.last.get(&stream.conversation).copied().unwrap_or(0);
        if stream.open && at < last {
            self.object(Kind::Behind, format!("{name} ends at {at}, the conversation at {last}"));
        }
        self.check_absences(stream, &name);
    }

    /// The first event that came too late tells enough.
    fn check_absences(&mut self, stream: &Stream, name: &str) {
        let absences = self.absences.get(&(stream.conversation, stream.user)).cloned().unwrap_or_default();
        for Absence { from, until, .. } in absences {
            let within = |at: At| at > *from && until.is_none_or(|until| at < until);
            let late = stream
                .events
                .iter()
                .find(|event| within(event.at) && self.undisturbed(*from, event.at) > self.history.removal_within);
            if let Some(Event { at, seq, .. }) = late {
                self.object(Kind::AfterRemoval, format!("{name} had place {seq} at {at:?}, removed at {from:?}"));
            }
        }
    }

    /// An absence that lasted from a question to its answer.
    fn absent_throughout(&self, conversation: Uuid, user: Uuid, asked: At, answered: At) -> Option<&'a Absence> {
        let absences = self.absences.get(&(conversation, user))?;
        let covers = |absence: &&&Absence| absence.from < asked && absence.until.is_none_or(|until| answered < until);
        absences.iter().find(covers).copied()
    }

    /// How much of the time between two moments nothing was wrong.
    fn undisturbed(&self, from: At, to: At) -> Duration {
        let overlap = |range: &Range<At>| range.end.min(to).saturating_sub(range.start.max(from));
        (to - from).saturating_sub(self.disturbed.iter().map(overlap).sum())
    }

    fn check_agreement(&mut self) {
        let mut seen: HashMap<(Uuid, Seq), i64> = HashMap::new();
        for stream in &self.history.streams {
            for Event { seq, id, .. } in &stream.events {
                let first = *seen.entry((stream.conversation, *seq)).or_insert(*id);
                if first != *id {
                    let what = format!("{} had id {id} in place {seq}, others {first}", stream.name());
                    self.object(Kind::Disagreement, what);
                }
            }
        }
    }

    fn check_outbox(&mut self) {
        for row in self.history.outbox.iter().filter(|row| !row.processed && !row.parked) {
            self.object(Kind::Unrelayed, format!("outbox row {} ({}) was left behind", row.id, row.kind));
        }
    }
}

impl Send {
    fn name(&self) -> Key<'_> {
        (self.conversation, self.user, &self.key)
    }
}

impl Stream {
    fn name(&self) -> String {
        let Self { socket, user, conversation, joined, from, .. } = self;
        format!("socket {socket} of {user} in {conversation} (joined at {joined:?} after {from})")
    }
}

/// The same time in ranges that do not overlap.
fn merged(ranges: &[Range<At>]) -> Vec<Range<At>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<At>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
