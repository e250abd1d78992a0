//! The checker is silent about correct histories, and objects to every kind of broken one.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use crate::checker::{Kind, check};
use crate::history::{Absence, At, Attempt, Event, History, Message, OutboxRow, Outcome, Send, Seq, Stream};

const USERS: usize = 3;

/// A correct conversation: who sends each message and how the answer goes, and where each user's sockets break.
#[derive(Debug, Clone)]
struct Plan {
    sends: Vec<(usize, u8)>,
    breaks: Vec<Vec<Index>>,
    removal: (Index, Index),
}

fn plan() -> impl Strategy<Value = Plan> {
    let sends = vec((0..USERS, 0..5_u8), 6..40);
    let breaks = vec(vec(any::<Index>(), 0..4), USERS);
    (sends, breaks, any::<(Index, Index)>()).prop_map(|(sends, breaks, removal)| Plan { sends, breaks, removal })
}

fn history() -> impl Strategy<Value = History> {
    vec(plan(), 1..3).prop_map(|plans| {
        let mut history = History { removal_within: Duration::from_secs(1), ..History::default() };
        for (number, plan) in plans.iter().enumerate() {
            add_conversation(&mut history, Uuid::from_u128(100 + number as u128), plan);
        }
        history
    })
}

fn user(number: usize) -> Uuid {
    Uuid::from_u128(1 + number as u128)
}

/// One message a tenth of a second.
fn time(seq: Seq) -> At {
    Duration::from_millis(100 * u64::try_from(seq).unwrap())
}

fn add_conversation(history: &mut History, conversation: Uuid, plan: &Plan) {
    let last = plan.sends.len() as Seq;
    let first_id = history.messages.len() as i64;
    for (seq, (sender, manner)) in (1..).zip(&plan.sends) {
        let (id, key) = (first_id + seq, format!("{conversation}-{seq}"));
        let sender = user(*sender);
        history.messages.push(Message { id, conversation, seq, sender, key: Some(key.clone()), created: time(seq) });
        let (processed, parked) = (seq % 7 != 0, seq % 7 == 0);
        history.outbox.push(OutboxRow { id, kind: "message.created".to_owned(), processed, parked });
        history.sends.push(Send { user: sender, conversation, key, attempts: attempts(id, seq, *manner) });
    }
    for (number, breaks) in plan.breaks.iter().enumerate() {
        let mut ends: Vec<Seq> = breaks.iter().map(|index| index.index(plan.sends.len()) as Seq).collect();
        ends.sort_unstable();
        let mut from = 0;
        for end in ends.into_iter().map(Some).chain([None]) {
            let until = end.unwrap_or(last);
            let socket = history.streams.len() as u64;
            history.streams.push(stream(history, (user(number), conversation, socket), from, until, end.is_none()));
            from = until;
        }
    }
    add_removal(history, conversation, plan, last);
}

/// A user whose stream ends with a removal, and goes on after the return.
fn add_removal(history: &mut History, conversation: Uuid, plan: &Plan, last: Seq) {
    let mut places = [plan.removal.0, plan.removal.1].map(|index| index.index(plan.sends.len()) as Seq);
    places.sort_unstable();
    let ([gone, back], user) = (places, user(USERS));
    let socket = history.streams.len() as u64;
    history.streams.push(stream(history, (user, conversation, socket), 0, gone, false));
    let mut second = stream(history, (user, conversation, socket + 1), gone, last, true);
    let until = time(back) + Duration::from_millis(60);
    second.asked = second.asked.max(until);
    second.joined = second.joined.max(until);
    second.events.iter_mut().for_each(|event| event.at = event.at.max(second.joined));
    history.streams.push(second);
    history.absences.push(Absence {
        user,
        conversation,
        from: time(gone) + Duration::from_millis(50),
        until: Some(until),
    });
}

fn attempts(id: i64, seq: Seq, manner: u8) -> Vec<Attempt> {
    let stored = |duplicate| Outcome::Stored { id, seq, duplicate };
    let outcomes = match manner {
        0 => vec![stored(false)],
        1 => vec![Outcome::Unknown, stored(true)],
        2 => vec![Outcome::Refused, Outcome::Refused, stored(false)],
        3 => vec![Outcome::Unknown, Outcome::Refused, stored(false)],
        _ => vec![Outcome::Refused, Outcome::Unknown],
    };
    let asked = time(seq);
    outcomes.into_iter().map(|outcome| Attempt { asked, ended: asked, outcome }).collect()
}

fn stream(history: &History, whose: (Uuid, Uuid, u64), from: Seq, to: Seq, open: bool) -> Stream {
    let (user, conversation, socket) = whose;
    let event = |message: &Message| Event { at: time(message.seq), seq: message.seq, id: message.id };
    let its = history.messages.iter().filter(|message| message.conversation == conversation);
    let events = its.filter(|message| message.seq > from && message.seq <= to).map(event).collect();
    Stream { user, conversation, socket, asked: time(from), joined: time(from), from, events, open }
}

#[derive(Debug, Clone, Copy)]
enum Corruption {
    DropInTheMiddle,
    Truncate,
    Repeat,
    Swap,
    AlterId,
    PhantomAck,
    WrongAck,
    FalseRefusal,
    DoubleKey,
    ForgetMessage,
    Invent,
    LateEvent,
    JoinWithoutRight,
    SendWithoutRight,
    LeaveBehind,
}

impl Corruption {
    const ALL: [Self; 15] = [
        Self::DropInTheMiddle,
        Self::Truncate,
        Self::Repeat,
        Self::Swap,
        Self::AlterId,
        Self::PhantomAck,
        Self::WrongAck,
        Self::FalseRefusal,
        Self::DoubleKey,
        Self::ForgetMessage,
        Self::Invent,
        Self::LateEvent,
        Self::JoinWithoutRight,
        Self::SendWithoutRight,
        Self::LeaveBehind,
    ];

    /// Breaks a correct history in one place, and says what the checker must object to.
    fn apply(self, history: &mut History, at: Index) -> Kind {
        match self {
            Self::DropInTheMiddle | Self::Truncate | Self::Repeat | Self::Swap | Self::AlterId => {
                self.break_a_stream(history, at)
            }
            Self::PhantomAck | Self::WrongAck | Self::FalseRefusal | Self::SendWithoutRight => {
                self.break_a_send(history, at)
            }
            Self::DoubleKey | Self::ForgetMessage | Self::Invent | Self::LeaveBehind => {
                self.break_the_store(history, at)
            }
            Self::LateEvent | Self::JoinWithoutRight => self.break_a_right(history, at),
        }
    }

    fn break_a_stream(self, history: &mut History, at: Index) -> Kind {
        // The first user's last stream is open, the one of a removed user has everything: one of them is long enough.
        let mut long: Vec<&mut Stream> = history.streams.iter_mut().filter(|stream| stream.events.len() >= 3).collect();
        let count = long.len();
        let stream = &mut long[at.index(count)];
        let place = 1 + at.index(stream.events.len() - 2);
        match self {
            Self::DropInTheMiddle => {
                stream.events.remove(place);
                Kind::Hole
            }
            Self::Truncate => {
                stream.open = true;
                stream.events.pop();
                Kind::Behind
            }
            Self::Repeat => {
                stream.events.insert(place, stream.events[place]);
                Kind::Repeated
            }
            Self::Swap => {
                stream.events.swap(place, place + 1);
                Kind::OutOfOrder
            }
            _ => {
                stream.events[place].id += 1_000_000;
                Kind::Phantom
            }
        }
    }

    fn break_a_send(self, history: &mut History, at: Index) -> Kind {
        let place = at.index(history.sends.len());
        let message = history.messages[place].clone();
        let send = &mut history.sends[place];
        let (asked, ended) = (send.attempts[0].asked, send.attempts[0].ended);
        let attempt =
            |id, duplicate| Attempt { asked, ended, outcome: Outcome::Stored { id, seq: message.seq, duplicate } };
        match self {
            Self::PhantomAck => {
                send.attempts.push(attempt(message.id, false));
                send.key.push_str(" of nothing");
                Kind::Lost
            }
            Self::WrongAck => {
                send.attempts.push(attempt(message.id + 1, false));
                Kind::WrongAck
            }
            Self::FalseRefusal => {
                let refused = Attempt { asked, ended, outcome: Outcome::Refused };
                let mut second = attempt(message.id, true);
                second.asked += Duration::from_millis(1);
                send.attempts = vec![refused, second];
                Kind::FalseRefusal
            }
            _ => {
                send.attempts = vec![attempt(message.id, false)];
                let (user, conversation) = (send.user, send.conversation);
                let from = asked - Duration::from_millis(1);
                history.absences.push(Absence { user, conversation, from, until: None });
                Kind::WithoutRight
            }
        }
    }

    fn break_the_store(self, history: &mut History, at: Index) -> Kind {
        let place = at.index(history.messages.len());
        let message = history.messages[place].clone();
        let last = history.messages.iter().filter(|other| other.conversation == message.conversation).count() as Seq;
        match self {
            Self::DoubleKey => {
                history.messages.push(Message { id: 1_000_000, seq: last + 1, ..message });
                Kind::StoredTwice
            }
            Self::ForgetMessage => {
                history.messages.remove(place);
                Kind::Phantom
            }
            Self::Invent => {
                let key = Some("nobody's".to_owned());
                history.messages.push(Message { id: 1_000_000, seq: last + 1, key, ..message });
                Kind::Invented
            }
            _ => {
                history.outbox[place] = OutboxRow { processed: false, parked: false, ..history.outbox[place].clone() };
                Kind::Unrelayed
            }
        }
    }

    fn break_a_right(self, history: &mut History, at: Index) -> Kind {
        let heard: Vec<usize> =
            (0..history.streams.len()).filter(|place| !history.streams[*place].events.is_empty()).collect();
        let stream = &mut history.streams[heard[at.index(heard.len())]];
        let (user, conversation) = (stream.user, stream.conversation);
        let (from, kind) = if matches!(self, Self::LateEvent) {
            let removed = stream.events[0].at;
            stream.events.iter_mut().for_each(|event| event.at += Duration::from_millis(1001));
            (removed, Kind::AfterRemoval)
        } else {
            stream.asked += Duration::from_millis(1);
            stream.joined += Duration::from_millis(1);
            (stream.asked - Duration::from_millis(1), Kind::WithoutRight)
        };
        history.absences.push(Absence { user, conversation, from, until: None });
        kind
    }
}

proptest! {
    #[test]
    fn a_correct_history_is_left_alone(history in history()) {
        let violations = check(&history);
        prop_assert!(violations.is_empty(), "{violations:?}");
    }

    #[test]
    fn every_corruption_is_found(history in history(), at in any::<Index>()) {
        for corruption in Corruption::ALL {
            let mut history = history.clone();
            let expected = corruption.apply(&mut history, at);
            let violations = check(&history);
            let found = violations.iter().any(|violation| violation.kind == expected);
            prop_assert!(found, "{corruption:?}: expected {expected:?} in {violations:?}");
        }
    }

    #[test]
    fn time_in_which_something_was_broken_does_not_count(history in history(), at in any::<Index>()) {
        let mut history = history;
        Corruption::LateEvent.apply(&mut history, at);
        // Twice the same: overlapping disturbances must not count twice either.
        history.disturbed = vec![At::ZERO..time(1_000_000); 2];
        let violations = check(&history);
        prop_assert!(violations.iter().all(|violation| violation.kind != Kind::AfterRemoval), "{violations:?}");
    }
}

#[test]
fn two_sockets_must_agree() {
    let conversation = Uuid::from_u128(9);
    let stream = |socket, id| Stream {
        user: user(0),
        conversation,
        socket,
        asked: At::ZERO,
        joined: At::ZERO,
        from: 0,
        events: vec![Event { at: At::ZERO, seq: 1, id }],
        open: false,
    };
    let history = History { streams: vec![stream(1, 5), stream(2, 6)], ..History::default() };
    assert!(check(&history).iter().any(|violation| violation.kind == Kind::Disagreement));
}
