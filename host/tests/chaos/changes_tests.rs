//! A correct history of changes is left alone, and each way to break it is found.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::checker::{Kind, check};
use crate::history::{
    Ask, At, Attempt, Change, Event, History, Made, Message, Outcome, Reactions, Room, Send, Seq, Stream, Told, Verdict,
};

const ROOM: Uuid = Uuid::from_u128(7);
const ALICE: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);

fn text(text: &str) -> Value {
    json!({"text": text})
}

fn stored(id: i64, seq: Seq) -> Vec<Attempt> {
    vec![Attempt { asked: At::ZERO, ended: At::ZERO, outcome: Outcome::Stored { id, seq, duplicate: false } }]
}

fn edit(key: &str, body: &str) -> Ask {
    Ask::Edit { key: key.to_owned(), body: text(body), verdict: Verdict::Store(text(body)) }
}

fn message(seq: Seq, id: i64, kind: &str, (version, body): (i64, Value), place: Seq) -> Event {
    Event {
        at: At::ZERO,
        seq,
        id,
        body,
        told: Told::Message { kind: kind.to_owned(), version, place, reply_to: aim(id) },
    }
}

fn reaction(seq: Seq, kind: &str, user: Uuid) -> Event {
    let told = Told::Reaction { kind: kind.to_owned(), user, reaction: "+1".to_owned() };
    Event { at: At::ZERO, seq, id: 1, body: Value::Null, told }
}

/// The second message replies to the first one.
fn aim(id: i64) -> Option<i64> {
    (id == 2).then_some(1)
}

/// Two messages; the first is edited twice, gets two reactions and loses one, the second is edited and deleted.
fn history() -> History {
    let mut history = History::default();
    for (id, key) in [(1, "a"), (2, "b")] {
        let (key, reply_to, verdict) = (key.to_owned(), aim(id), Verdict::Store(text(key)));
        let attempts = stored(id, id);
        history.sends.push(Send { user: ALICE, conversation: ROOM, key, reply_to, verdict, attempts });
    }
    let react = |remove| Ask::React { reaction: "+1".to_owned(), remove };
    let changes = [
        (3, 1, ALICE, edit("e1", "a2"), Some(2)),
        (4, 1, ALICE, react(false), None),
        (5, 2, ALICE, edit("e2", "b2"), Some(2)),
        (6, 1, BOB, react(false), None),
        (7, 1, ALICE, edit("e3", "a3"), Some(3)),
        (8, 1, ALICE, react(true), None),
        (9, 2, ALICE, Ask::Delete, Some(3)),
    ];
    for (seq, message, user, ask, version) in changes {
        let key = if let Ask::Edit { key, .. } = &ask { Some(key.clone()) } else { None };
        let reaction = matches!(ask, Ask::React { .. }).then(|| "+1".to_owned());
        let kind = ask.kind().to_owned();
        history.made.push(Made { conversation: ROOM, seq, kind, message, user, key, version, reaction });
        let attempts = stored(message, seq);
        history.changes.push(Change { user, conversation: ROOM, message, ask, attempts });
    }
    for (id, key, body, reactions) in
        [(1, "a", text("a3"), Reactions::from([(BOB, "+1".to_owned())])), (2, "b", Value::Null, Reactions::new())]
    {
        let key = Some(key.to_owned());
        history.messages.push(Message {
            id,
            conversation: ROOM,
            seq: id,
            sender: ALICE,
            key,
            reply_to: aim(id),
            body,
            version: 3,
            reactions,
            created: At::ZERO,
        });
    }
    let changes = |seq| {
        reaction(seq, if seq == 8 { "reaction.removed" } else { "reaction.added" }, if seq == 6 { BOB } else { ALICE })
    };
    let live = vec![
        message(1, 1, "message.created", (1, text("a")), 1),
        message(2, 2, "message.created", (1, text("b")), 2),
        message(3, 1, "message.edited", (2, text("a2")), 1),
        changes(4),
        message(5, 2, "message.edited", (2, text("b2")), 2),
        changes(6),
        message(7, 1, "message.edited", (3, text("a3")), 1),
        changes(8),
        message(9, 2, "message.deleted", (3, Value::Null), 2),
    ];
    let overtaken = |seq, id| Event {
        at: At::ZERO,
        seq,
        id,
        body: Value::Null,
        told: Told::Overtaken { kind: "message.edited".to_owned() },
    };
    let mut late = live.clone();
    late[0] = message(1, 1, "message.created", (3, text("a3")), 1);
    late[1] = message(2, 2, "message.created", (3, Value::Null), 2);
    (late[2], late[4]) = (overtaken(3, 1), overtaken(5, 2));
    for (user, socket, events) in [(BOB, 1, live), (BOB, 2, late)] {
        let mut room = Room { user, conversation: ROOM, ..Room::default() };
        events.iter().for_each(|event| room.apply(event));
        history.rooms.push(room);
        let (asked, joined) = (At::ZERO, At::ZERO);
        history.streams.push(Stream { user, conversation: ROOM, socket, asked, joined, from: 0, events, open: true });
    }
    history
}

#[test]
fn a_correct_history_of_changes_is_left_alone() {
    let violations = check(&history());
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn each_way_to_break_a_history_of_changes_is_found() {
    type Break = fn(&mut History);
    let breaks: [(Kind, Break); 20] = [
        (Kind::Hole, |history| drop(history.streams[0].events.remove(3))),
        (Kind::Repeated, |history| {
            let event = history.streams[0].events[3].clone();
            history.streams[0].events.insert(3, event);
        }),
        (Kind::OutOfOrder, |history| history.streams[0].events.swap(3, 4)),
        (Kind::Behind, |history| drop(history.streams[0].events.pop())),
        (Kind::StoreHole, |history| drop(history.made.remove(3))),
        (Kind::Lost, |history| history.changes[0].attempts = stored(1, 99)),
        (Kind::WrongAck, |history| history.changes[0].attempts = stored(1, 4)),
        (Kind::Invented, |history| drop(history.changes.remove(6))),
        (Kind::StoredTwice, |history| history.made[4].key = Some("e1".to_owned())),
        (Kind::VersionHole, |history| history.made[4].version = Some(4)),
        (Kind::Altered, |history| history.streams[0].events[2].body = text("a1")),
        (Kind::Altered, |history| history.messages[0].body = text("a2")),
        (Kind::Altered, |history| history.messages[1].reply_to = None),
        (Kind::Altered, |history| {
            history.streams[0].events[1].told = Told::created(2);
        }),
        (Kind::RoomDiffers, |history| history.rooms[0].messages.get_mut(&2).unwrap().reply_to = None),
        (Kind::Phantom, |history| history.streams[0].events[3].id = 2),
        (Kind::TextAfterDeletion, |history| {
            let again = message(10, 2, "message.edited", (2, text("b2")), 2);
            history.streams[0].events.push(again);
        }),
        (Kind::NotOvertaken, |history| {
            history.streams[1].events[6].told = Told::Overtaken { kind: "message.edited".to_owned() };
        }),
        (Kind::RoomDiffers, |history| history.rooms[0].messages.get_mut(&1).unwrap().reactions.clear()),
        (Kind::Leak, |history| history.leaks.push("b".to_owned())),
    ];
    for (number, (kind, apply)) in breaks.into_iter().enumerate() {
        let mut broken = history();
        apply(&mut broken);
        let violations = check(&broken);
        assert!(violations.iter().any(|found| found.kind == kind), "{number}: expected {kind:?} in {violations:?}");
    }
}
