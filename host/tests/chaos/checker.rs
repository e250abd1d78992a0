//! What must hold of a run, whatever was killed in it. Pure: a history in, violations out.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use crate::changes;
use crate::history::{
    Absence, At, Attempt, Event, Held, History, Message, Outcome, Page, Send, Seq, Stream, Told, Verdict, Window,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged as stored or held, and neither.
    Lost,
    /// Acknowledged with other ids than it is stored with.
    WrongAck,
    /// Said to be not stored, although it was.
    FalseRefusal,
    /// Two messages, held ones included, with one idempotency key, one id or one place.
    StoredTwice,
    /// Stored, and nobody sent it.
    Invented,
    /// A message did not become what the plugins make of it.
    WrongVerdict,
    /// A conversation's places in the database are not 1, 2, 3 …
    StoreHole,
    /// The same event twice on one socket.
    Repeated,
    /// An event before an earlier one.
    OutOfOrder,
    /// An event is missing between two others, or at the join.
    Hole,
    /// A socket that has not heard everything although all is quiet, or a page without what was acknowledged before.
    Behind,
    /// Two sockets saw different messages in the same place.
    Disagreement,
    /// An event of a message that is not stored there.
    Phantom,
    /// A client saw another body than the stored one.
    Altered,
    /// An event for somebody who was removed too long ago.
    AfterRemoval,
    /// A join, a page or a new message of somebody who had been removed before they asked.
    WithoutRight,
    /// An outbox row that is neither processed nor parked.
    Unrelayed,
    /// A text of a message whose deletion had been told.
    TextAfterDeletion,
    /// Versions of a message that are not 1, 2, 3 …, or do not end with the one that stands.
    VersionHole,
    /// An event that tells nothing, although what it could tell still stands.
    NotOvertaken,
    /// A client's conversation is not what the database has.
    RoomDiffers,
    /// A dump of the database has a text that was deleted.
    Leak,
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
        held: HashMap::new(),
        known: known(history),
        last: HashMap::new(),
        places: HashMap::new(),
        absences: HashMap::new(),
        disturbed: merged(&history.disturbed),
        violations: Vec::new(),
    };
    checker.read_absences();
    checker.read_messages();
    checker.read_held();
    history.sends.iter().for_each(|send| checker.check_send(send));
    history.streams.iter().for_each(|stream| checker.check_stream(stream));
    history.pages.iter().for_each(|page| checker.check_page(page));
    checker.check_agreement();
    checker.check_outbox();
    history.unexpected.iter().for_each(|what| checker.object(Kind::Unexpected, what.clone()));
    checker.violations.extend(changes::check(history));
    checker.violations
}

type Key<'a> = (Uuid, Uuid, &'a str);

struct Checker<'a> {
    history: &'a History,
    by_place: HashMap<(Uuid, Seq), &'a Message>,
    by_key: HashMap<Key<'a>, &'a Message>,
    held: HashMap<Key<'a>, &'a Held>,
    /// When each conversation was known to have reached which place, both growing.
    known: HashMap<Uuid, Vec<(At, Seq)>>,
    last: HashMap<Uuid, Seq>,
    /// The places of the messages alone, in their order.
    places: HashMap<Uuid, Vec<Seq>>,
    absences: HashMap<(Uuid, Uuid), Vec<&'a Absence>>,
    disturbed: Vec<Range<At>>,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn object(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    fn read_absences(&mut self) {
        for absence in &self.history.absences {
            self.absences.entry((absence.conversation, absence.user)).or_default().push(absence);
        }
    }

    fn read_messages(&mut self) {
        let sent: HashMap<Key<'a>, ()> = self.history.sends.iter().map(|send| (send.name(), ())).collect();
        let mut places: BTreeMap<Uuid, Vec<Seq>> = BTreeMap::new();
        let mut ids = HashMap::new();
        for message in &self.history.messages {
            let Message { id, conversation, seq, sender, key, .. } = message;
            places.entry(*conversation).or_default().push(*seq);
            let same_id = ids.insert(id, seq).is_some();
            if same_id || self.by_place.insert((*conversation, *seq), message).is_some() {
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
        for (conversation, seqs) in &mut places {
            seqs.sort_unstable();
            self.places.insert(*conversation, seqs.clone());
        }
        for made in &self.history.made {
            places.entry(made.conversation).or_default().push(made.seq);
        }
        for (conversation, mut seqs) in places {
            seqs.sort_unstable();
            self.last.insert(conversation, seqs.last().copied().unwrap_or(0));
            if let Some((expected, found)) = (1..).zip(&seqs).find(|(expected, found)| expected != *found) {
                self.object(Kind::StoreHole, format!("{conversation} has {found} in place {expected}"));
            }
        }
    }

    fn read_held(&mut self) {
        let sent: HashMap<Key<'a>, ()> = self.history.sends.iter().map(|send| (send.name(), ())).collect();
        for held in &self.history.held {
            let Some(key) = &held.key else { continue };
            let name = (held.conversation, held.sender, key.as_str());
            if self.by_key.contains_key(&name) || self.held.insert(name, held).is_some() {
                let what =
                    format!("key {key} of {} in {} is held, and there once more", held.sender, held.conversation);
                self.object(Kind::StoredTwice, what);
            }
            if !sent.contains_key(&name) {
                self.object(Kind::Invented, format!("nobody sent key {key}, which is held in {}", held.conversation));
            }
        }
    }

    fn check_send(&mut self, send: &Send) {
        let Send { user, conversation, key, reply_to: _, verdict, attempts } = send;
        let name = format!("key {key} of {user} in {conversation}");
        let (stored, held) = (self.by_key.get(&send.name()).copied(), self.held.get(&send.name()).copied());
        let as_judged = match verdict {
            // What was edited since is looked at beside the edits.
            Verdict::Store(body) => {
                held.is_none() && stored.is_none_or(|stored| stored.version > 1 || stored.body == *body)
            }
            Verdict::Hold(body) => stored.is_none() && held.is_none_or(|held| held.body == *body),
            Verdict::Discard | Verdict::Reject => stored.is_none() && held.is_none(),
        };
        if !as_judged {
            self.object(Kind::WrongVerdict, format!("{name} is {stored:?} and {held:?}, to become {verdict:?}"));
        }
        for attempt in attempts {
            if !attempt.outcome.may_follow(verdict) {
                self.object(
                    Kind::WrongVerdict,
                    format!("{name} was answered {:?}, to become {verdict:?}", attempt.outcome),
                );
            }
            match &attempt.outcome {
                Outcome::Stored { id, seq, duplicate } => {
                    let ack = format!("{name}, acknowledged as id {id}, place {seq}");
                    match stored {
                        None => self.object(Kind::Lost, ack.clone()),
                        Some(found) if (found.id, found.seq) != (*id, *seq) => {
                            self.object(Kind::WrongAck, format!("{ack}, is id {}, place {}", found.id, found.seq));
                        }
                        Some(_) => {}
                    }
                    if !duplicate
                        && self.absent_throughout(*conversation, *user, attempt.asked, attempt.ended).is_some()
                    {
                        self.object(Kind::WithoutRight, format!("{ack} after its sender was removed"));
                    }
                }
                Outcome::Held if held.is_none() => self.object(Kind::Lost, format!("{name}, acknowledged as held")),
                _ => {}
            }
        }
        // Only tries from the first that was not refused on may have stored it.
        let refused = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Refused | Outcome::Rejected);
        let first = attempts.iter().find(|attempt| !refused(attempt)).map(|attempt| attempt.asked);
        let created = stored.map(|stored| stored.created).or(held.map(|held| held.created));
        if let Some(created) = created.filter(|created| first.is_none_or(|first| *created < first)) {
            self.object(Kind::FalseRefusal, format!("{name} was refused, and stored at {created:?}: {attempts:?}"));
        }
    }

    fn check_stream(&mut self, stream: &Stream) {
        let name = stream.name();
        let absent = self.absent_throughout(stream.conversation, stream.user, stream.asked, stream.joined);
        if absent.is_some() {
            self.object(Kind::WithoutRight, format!("{name} began after the user was removed"));
        }
        let mut at = stream.from;
        for event in &stream.events {
            let Event { seq, at: time, .. } = event;
            if *seq == at {
                self.object(Kind::Repeated, format!("{name} had place {seq} twice"));
            } else if *seq < at {
                self.object(Kind::OutOfOrder, format!("{name} had place {seq} after {at}"));
            } else if *seq > at + 1 {
                self.object(Kind::Hole, format!("{name} had place {seq} next after {at}, at {time:?}"));
            }
            at = at.max(*seq);
            self.check_seen(stream.conversation, event, &name);
        }
        let last = self.last.get(&stream.conversation).copied().unwrap_or(0);
        if stream.open && at < last {
            self.object(Kind::Behind, format!("{name} ends at {at}, the conversation at {last}"));
        }
        self.check_absences(stream, &name);
    }

    /// What a client saw is what is stored there.
    fn check_seen(&mut self, conversation: Uuid, event: &Event, name: &str) {
        let Event { seq, id, body, told, .. } = event;
        let Told::Message { kind, version, .. } = told else { return };
        if kind != "message.created" {
            return;
        }
        match self.by_place.get(&(conversation, *seq)) {
            // Another version is looked at beside the edits.
            Some(stored) if stored.id == *id && (stored.version != *version || stored.body == *body) => {}
            Some(stored) if stored.id == *id => {
                let what = format!("{name} had {body} in place {seq}, stored is {}", stored.body);
                self.object(Kind::Altered, what);
            }
            _ => self.object(Kind::Phantom, format!("{name} had id {id} in place {seq}, which is not stored")),
        }
    }

    fn check_page(&mut self, page: &Page) {
        let Page { user, conversation, asked, answered, window, messages, has_more } = page;
        let name = format!("page {window:?} of {conversation} for {user} at {answered:?}");
        if self.absent_throughout(*conversation, *user, *asked, *answered).is_some() {
            self.object(Kind::WithoutRight, format!("{name} after the user was removed"));
        }
        // Changes take places too: what counts is the number of a message among the messages.
        let places = self.places.get(conversation).cloned().unwrap_or_default();
        let count = |up_to: Seq| places.partition_point(|place| *place <= up_to) as Seq;
        let seqs: Vec<Seq> = messages.iter().map(|message| count(message.seq)).collect();
        let window = &match window {
            Window::Newest => Window::Newest,
            Window::Before(seq) => Window::Before(count(seq - 1) + 1),
            Window::After(seq) => Window::After(count(*seq)),
        };
        let (first, step) = match window {
            Window::Newest => (seqs.first().copied().unwrap_or(0), -1),
            // Before what is not there yet stands the newest.
            Window::Before(seq) => (seqs.first().copied().unwrap_or(0).min(seq - 1), -1),
            Window::After(seq) => (seq + 1, 1),
        };
        if (0..).zip(&seqs).any(|(place, seq)| *seq != first + step * place) {
            self.object(Kind::Hole, format!("{name} has the places {seqs:?}"));
        }
        messages.iter().for_each(|message| self.check_seen(*conversation, message, &name));
        let known = self.known.get(conversation).map_or(&[][..], Vec::as_slice);
        let known = known[..known.partition_point(|(at, _)| at < asked)].last().map_or(0, |(_, seq)| count(*seq));
        let (reached, must) = match window {
            Window::Newest => (first, known),
            Window::Before(seq) => (first, known.min(seq - 1)),
            Window::After(seq) if *has_more => (0, 0),
            Window::After(seq) => (seqs.last().copied().unwrap_or(*seq), known),
        };
        let ended = *has_more || step > 0 || seqs.last().copied().unwrap_or(1) == 1;
        if reached < must || !ended {
            self.object(Kind::Behind, format!("{name} has the places {seqs:?} and no more, {must} was there before"));
        }
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

/// Since when acknowledgements say how far each conversation has come.
fn known(history: &History) -> HashMap<Uuid, Vec<(At, Seq)>> {
    let mut known: HashMap<Uuid, Vec<(At, Seq)>> = HashMap::new();
    for send in &history.sends {
        for Attempt { ended, outcome, .. } in &send.attempts {
            if let Outcome::Stored { seq, .. } = outcome {
                known.entry(send.conversation).or_default().push((*ended, *seq));
            }
        }
    }
    for places in known.values_mut() {
        places.sort_unstable();
        let mut furthest = 0;
        places.iter_mut().for_each(|(_, seq)| {
            furthest = furthest.max(*seq);
            *seq = furthest;
        });
    }
    known
}

impl Outcome {
    /// Whether a message that is to become this may be answered so.
    fn may_follow(&self, verdict: &Verdict) -> bool {
        match self {
            Self::Stored { .. } => matches!(verdict, Verdict::Store(_)),
            Self::Held => matches!(verdict, Verdict::Hold(_)),
            Self::Discarded => *verdict == Verdict::Discard,
            Self::Rejected => *verdict == Verdict::Reject,
            Self::Refused | Self::Unknown => true,
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
