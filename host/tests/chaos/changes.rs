//! What must hold of edits, deletions and reactions. Pure: a history in, violations out.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use crate::checker::{Kind, Violation};
use crate::history::{Ask, Change, Event, History, Made, Message, Outcome, Room, Send, Seq, Stream, Told, Verdict};

/// Every violation in a history that concerns changes of messages.
pub fn check(history: &History) -> Vec<Violation> {
    let mut checker = Checker {
        history,
        messages: history.messages.iter().map(|message| (message.id, message)).collect(),
        made: history.made.iter().map(|made| ((made.conversation, made.seq), made)).collect(),
        texts: HashMap::new(),
        violations: Vec::new(),
    };
    checker.read_made();
    history.changes.iter().for_each(|change| checker.check_change(change));
    history.messages.iter().for_each(|message| checker.check_message(message));
    history.streams.iter().for_each(|stream| checker.check_stream(stream));
    history.rooms.iter().for_each(|room| checker.check_room(room));
    let leaks = history.leaks.iter().map(|key| Violation { kind: Kind::Leak, what: format!("the text of {key}") });
    checker.violations.extend(leaks);
    checker.violations
}

struct Checker<'a> {
    history: &'a History,
    messages: HashMap<i64, &'a Message>,
    made: HashMap<(Uuid, Seq), &'a Made>,
    /// The text of each version; null: it is deleted.
    texts: HashMap<(i64, i64), Value>,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn object(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    /// Each stored change was asked for, an edit once; and each message has the versions 1, 2, 3 …
    fn read_made(&mut self) {
        let (mut asked, mut edits) = (HashSet::new(), HashMap::new());
        for Change { user, message, ask, .. } in &self.history.changes {
            asked.insert((*user, *message, ask.kind()));
            if let Ask::Edit { key, verdict: Verdict::Store(body), .. } = ask {
                edits.insert((*user, key.as_str()), (*message, body));
            }
        }
        let mut versions: BTreeMap<i64, Vec<(Seq, i64)>> = BTreeMap::new();
        let mut keys = HashSet::new();
        for made in &self.history.made {
            let Made { conversation, seq, kind, message, user, key, version, .. } = made;
            let name = format!("{kind} of {message} by {user} in place {seq} of {conversation}");
            if !asked.contains(&(*user, *message, kind.as_str())) {
                self.object(Kind::Invented, format!("nobody asked for {name}"));
            }
            let Some(version) = version else { continue };
            versions.entry(*message).or_default().push((*seq, *version));
            if kind == "message.deleted" {
                self.texts.insert((*message, *version), Value::Null);
                continue;
            }
            match edits.get(&(*user, key.as_deref().unwrap_or_default())) {
                Some((edited, _)) if !keys.insert((user, key)) || edited != message => {
                    self.object(Kind::StoredTwice, format!("{name}: its key is that of another one"));
                }
                Some((_, body)) => drop(self.texts.insert((*message, *version), (*body).clone())),
                None => self.object(Kind::WrongVerdict, format!("{name} was not to be stored")),
            }
        }
        let sent: HashMap<(Uuid, &str), &Send> =
            self.history.sends.iter().map(|send| ((send.user, send.key.as_str()), send)).collect();
        for message in &self.history.messages {
            let send = message.key.as_deref().and_then(|key| sent.get(&(message.sender, key)));
            if let Some(Verdict::Store(body)) = send.map(|send| &send.verdict) {
                self.texts.insert((message.id, 1), body.clone());
            }
            if send.is_some_and(|send| send.reply_to != message.reply_to) {
                let what = format!("message {} replies to {:?}, sent was {send:?}", message.id, message.reply_to);
                self.object(Kind::Altered, what);
            }
            let mut its = versions.remove(&message.id).unwrap_or_default();
            its.sort_unstable();
            let numbers: Vec<i64> = its.iter().map(|(_, version)| *version).collect();
            if numbers != (2..=message.version).collect::<Vec<_>>() {
                let what =
                    format!("message {} has the versions {numbers:?}, and stands at {}", message.id, message.version);
                self.object(Kind::VersionHole, what);
            }
        }
    }

    /// What was acknowledged is there.
    fn check_change(&mut self, change: &Change) {
        let Change { user, conversation, message, ask, attempts } = change;
        for attempt in attempts {
            let name = format!("{} of {message} by {user}, acknowledged as {:?}", ask.kind(), attempt.outcome);
            match &attempt.outcome {
                Outcome::Stored { id, seq, .. } => match self.made.get(&(*conversation, *seq)) {
                    None => self.object(Kind::Lost, name),
                    Some(made) if id != message || made.message != *message || made.kind != ask.kind() => {
                        self.object(Kind::WrongAck, format!("{name}, is {made:?}"));
                    }
                    Some(_) => {}
                },
                Outcome::Discarded | Outcome::Rejected | Outcome::Held => {
                    let fits = matches!(
                        (ask, &attempt.outcome),
                        (Ask::Edit { verdict: Verdict::Discard, .. }, Outcome::Discarded)
                            | (Ask::Edit { verdict: Verdict::Reject, .. }, Outcome::Rejected)
                            | (Ask::Edit { verdict: Verdict::Hold(_), .. }, Outcome::Held)
                    );
                    if !fits {
                        self.object(Kind::WrongVerdict, name);
                    }
                }
                Outcome::Refused | Outcome::Unknown => {}
            }
        }
    }

    /// What stands is the text of the newest version.
    fn check_message(&mut self, message: &Message) {
        let text = self.texts.get(&(message.id, message.version));
        if text.is_some_and(|text| *text != message.body) {
            let what = format!("message {} is {}, its version {} {text:?}", message.id, message.body, message.version);
            self.object(Kind::Altered, what);
        }
    }

    fn check_stream(&mut self, stream: &Stream) {
        let mut deleted = HashSet::new();
        for event in &stream.events {
            let name = format!(
                "socket {} of {} in {} had {:?} of {} in place {}",
                stream.socket, stream.user, stream.conversation, event.told, event.id, event.seq
            );
            if !event.body.is_null() && deleted.contains(&event.id) {
                self.object(Kind::TextAfterDeletion, name.clone());
            }
            if event.told.kind() == "message.deleted" {
                deleted.insert(event.id);
            }
            self.check_event(stream.conversation, event, name);
        }
    }

    /// What an event told is what is stored there, or a newer version of it.
    fn check_event(&mut self, conversation: Uuid, event: &Event, name: String) {
        if let Told::Message { version, reply_to, .. } = &event.told {
            let other_text = self.texts.get(&(event.id, *version)).is_some_and(|text| *text != event.body);
            let other_aim = self.messages.get(&event.id).is_some_and(|message| message.reply_to != *reply_to);
            if other_text || other_aim {
                return self.object(Kind::Altered, format!("{name}: {}", event.body));
            }
        }
        if event.told.kind() == "message.created" {
            return;
        }
        let Some(made) = self.made.get(&(conversation, event.seq)).copied() else {
            return self.object(Kind::Phantom, name);
        };
        if made.kind != event.told.kind() || made.message != event.id {
            return self.object(Kind::Phantom, format!("{name}, stored is {made:?}"));
        }
        match &event.told {
            Told::Message { version, .. } if made.version.is_none_or(|made| made > *version) => {
                self.object(Kind::Altered, format!("{name}, stored is {made:?}"));
            }
            Told::Reaction { user, reaction, .. }
                if made.user != *user || made.reaction.as_ref().is_some_and(|made| made != reaction) =>
            {
                self.object(Kind::Altered, format!("{name}, stored is {made:?}"));
            }
            Told::Overtaken { .. } => {
                let message = self.messages.get(&event.id);
                let stands = message.is_none_or(|message| {
                    made.version.map_or(!message.body.is_null(), |version| version == message.version)
                });
                if stands {
                    self.object(Kind::NotOvertaken, name);
                }
            }
            _ => {}
        }
    }

    /// A client that has heard everything has what the database has.
    fn check_room(&mut self, room: &Room) {
        let name = format!("{} as {} has it after {}", room.conversation, room.user, room.base);
        let its = |message: &&Message| message.conversation == room.conversation && message.seq > room.base;
        let stored: Vec<&Message> = self.history.messages.iter().filter(its).collect();
        for message in &stored {
            let same = room.messages.get(&message.id).is_some_and(|seen| {
                (seen.place, seen.reply_to, seen.version, &seen.body, &seen.reactions)
                    == (message.seq, message.reply_to, message.version, &message.body, &message.reactions)
            });
            if !same {
                let what = format!("{name}: {:?}, stored is {message:?}", room.messages.get(&message.id));
                self.object(Kind::RoomDiffers, what);
            }
        }
        if room.messages.len() > stored.len() {
            self.object(
                Kind::RoomDiffers,
                format!("{name}: it has {} messages, stored are {}", room.messages.len(), stored.len()),
            );
        }
    }
}
