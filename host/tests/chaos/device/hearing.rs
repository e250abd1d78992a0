//! What a device makes of the frames that it hears.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Asked, Device, Retry, Tried};
use crate::history::{At, Attempt, Event, Outcome, Page, Room as RoomSeen, Seq, Stream, Told, Window};
use crate::socket::Socket;

impl Device {
    pub(super) fn hear(&mut self, socket: &mut Socket, frame: &Value) {
        if frame["op"] == "event" {
            return self.event(frame);
        }
        match frame["ref"].as_u64().and_then(|reference| socket.answered(reference)) {
            Some((asked, Asked::Send(send))) => self.sent(send, asked, frame),
            Some((asked, Asked::Change(change))) => self.changed(change, asked, frame),
            Some((asked, Asked::Join { conversation, after })) => self.joined(conversation, after, asked, frame),
            Some((_, Asked::Leave { conversation })) => {
                if frame["success"] != true && frame["code"] != "not_joined" {
                    self.unexpected("answer to a leave", frame);
                }
                let (fresh, join_at) = (self.random.u8(..10) == 0, self.later(100, 1500));
                self.rooms.entry(conversation).or_default().forget(fresh, join_at);
            }
            Some((asked, Asked::History { conversation, window })) => self.paged(conversation, window, asked, frame),
            // The socket has lost the conversation; to join again shows for how long.
            None if frame["op"] == "join" && frame["code"] == "not_participant" => {
                let join_at = self.later(50, 500);
                self.rooms
                    .entry(frame["conversation_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default())
                    .or_default()
                    .join_at = Some(join_at);
            }
            None => self.unexpected("frame", frame),
        }
    }

    fn event(&mut self, frame: &Value) {
        let (at, join_at) = (self.clock.now(), self.later(50, 500));
        let conversation = frame["conversation_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        let room = self.rooms.entry(conversation).or_default();
        match (frame["type"].as_str(), room.stream) {
            (
                Some("message.created" | "message.edited" | "message.deleted" | "reaction.added" | "reaction.removed"),
                Some(stream),
            ) => {
                let event = change(at, frame);
                room.have = room.have.max(Some(event.seq));
                room.seen.apply(&event);
                if event.told.kind() == "message.created" {
                    let own = frame["message"]["sender_id"] == json!(self.user);
                    self.known.push((conversation, event.id, own));
                }
                self.log.streams[stream].events.push(event);
            }
            // The socket has lost the conversation, unless this is an old story: to join again shows which.
            (Some("participant.removed"), Some(_)) if frame["user_id"] == json!(self.user) => {
                room.join_at = Some(join_at);
            }
            (Some("participant.added" | "participant.removed"), Some(_)) => {}
            _ => self.unexpected("event", frame),
        }
    }

    fn sent(&mut self, send: usize, asked: At, frame: &Value) {
        let outcome = match (frame["status"].as_str(), frame["code"].as_str()) {
            (Some("stored"), _) => Outcome::Stored {
                id: frame["message_id"].as_i64().unwrap_or_default(),
                seq: frame["seq"].as_i64().unwrap_or_default(),
                duplicate: frame["duplicate"] == true,
            },
            (Some("held"), _) => Outcome::Held,
            (Some("discarded"), _) => Outcome::Discarded,
            (_, Some("rejected")) => Outcome::Rejected,
            (_, Some("outcome_unknown")) => Outcome::Unknown,
            (_, Some("unavailable" | "overloaded")) => Outcome::Refused,
            // Final: nobody waits for a right to come back, and nothing deleted does.
            (_, Some("not_participant" | "message_deleted")) => {
                let attempt = Attempt { asked, ended: self.clock.now(), outcome: Outcome::Refused };
                return self.log.sends[send].attempts.push(attempt);
            }
            _ => {
                self.unexpected("answer to a send", frame);
                Outcome::Unknown
            }
        };
        self.tried(Tried::Send(send), asked, outcome);
    }

    fn changed(&mut self, change: usize, asked: At, frame: &Value) {
        let made = frame["success"] == true && frame["status"] != "discarded";
        let outcome = match (frame["status"].as_str(), frame["code"].as_str()) {
            (Some("discarded"), _) => Outcome::Discarded,
            // There was nothing to take away.
            _ if made && frame["seq"].is_null() => return,
            _ if made => Outcome::Stored {
                id: frame["message_id"].as_i64().unwrap_or_default(),
                seq: frame["seq"].as_i64().unwrap_or_default(),
                duplicate: frame["duplicate"] == true,
            },
            (_, Some("rejected")) => Outcome::Rejected,
            (_, Some("outcome_unknown")) => Outcome::Unknown,
            (_, Some("unavailable" | "overloaded")) => Outcome::Refused,
            // Final.
            (_, Some("not_participant" | "message_deleted")) => {
                let attempt = Attempt { asked, ended: self.clock.now(), outcome: Outcome::Refused };
                return self.log.changes[change].attempts.push(attempt);
            }
            _ => {
                self.unexpected("answer to a change", frame);
                Outcome::Unknown
            }
        };
        self.tried(Tried::Change(change), asked, outcome);
    }

    pub(super) fn tried(&mut self, tried: Tried, asked: At, outcome: Outcome) {
        if matches!(outcome, Outcome::Refused | Outcome::Unknown) {
            let at = self.later(50, 400);
            self.retries.push(Retry { tried, at });
        }
        let attempt = Attempt { asked, ended: self.clock.now(), outcome };
        match tried {
            Tried::Send(send) => self.log.sends[send].attempts.push(attempt),
            Tried::Change(change) => self.log.changes[change].attempts.push(attempt),
        }
    }

    fn paged(&mut self, conversation: Uuid, window: Window, asked: At, frame: &Value) {
        let answered = self.clock.now();
        let Some(messages) = frame["messages"].as_array().filter(|_| frame["success"] == true) else {
            if !["unavailable", "not_participant"].contains(&frame["code"].as_str().unwrap_or_default()) {
                self.unexpected("answer to a history", frame);
            }
            return;
        };
        let messages = messages.iter().map(|message| shown(answered, message)).collect();
        let (user, has_more) = (self.user, frame["has_more"] == true);
        self.log.pages.push(Page { user, conversation, asked, answered, window, messages, has_more });
    }

    fn joined(&mut self, conversation: Uuid, after: Option<Seq>, asked: At, frame: &Value) {
        let (joined, again) = (self.clock.now(), self.later(100, 500));
        let room = self.rooms.entry(conversation).or_default();
        room.asking = false;
        if frame["success"] != true {
            room.join_at = Some(again);
            if !["unavailable", "not_participant"].contains(&frame["code"].as_str().unwrap_or_default()) {
                self.unexpected("answer to a join", frame);
            }
            return;
        }
        let last = frame["last_seq"].as_i64().unwrap_or_default();
        let from = after.filter(|_| frame["resumed"] == true).unwrap_or(last);
        room.have = room.have.max(Some(from));
        room.stream = Some(self.log.streams.len());
        if after != Some(from) {
            room.seen = RoomSeen { user: self.user, conversation, base: from, ..RoomSeen::default() };
        }
        let (user, socket, events) = (self.user, self.number * 10_000 + self.sockets, Vec::new());
        self.log.streams.push(Stream { user, conversation, socket, asked, joined, from, events, open: false });
        if after.is_some() && frame["resumed"] != true {
            self.unexpected("refusal to resume", frame);
        }
    }
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_default()
}

/// A message on a page.
fn shown(at: At, message: &Value) -> Event {
    let place = number(message, "seq");
    Event {
        at,
        seq: place,
        id: number(message, "id"),
        body: message["body"].clone(),
        told: told("message.created", message),
    }
}

fn told(kind: &str, message: &Value) -> Told {
    Told::Message {
        kind: kind.to_owned(),
        version: number(message, "version"),
        place: number(message, "seq"),
        reply_to: message["reply_to"].as_i64(),
    }
}

fn change(at: At, frame: &Value) -> Event {
    let (seq, kind) = (number(frame, "seq"), frame["type"].as_str().unwrap_or_default().to_owned());
    let message = &frame["message"];
    if message.is_object() {
        let told = told(&kind, message);
        return Event { at, seq, id: number(message, "id"), body: message["body"].clone(), told };
    }
    let told = match (frame["reaction"].as_str(), frame["user_id"].as_str().and_then(|id| id.parse().ok())) {
        (Some(reaction), Some(user)) => Told::Reaction { kind, user, reaction: reaction.to_owned() },
        _ => Told::Overtaken { kind },
    };
    Event { at, seq, id: number(frame, "message_id"), body: Value::Null, told }
}
