//! The checker is silent about correct histories, and objects to every kind of broken one.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::checker::{Kind, check};
use crate::corruption::Corruption;
use crate::history::{
    Absence, At, Attempt, Event, Held, History, Message, OutboxRow, Outcome, Page, Reactions, Send, Seq, Stream, Told,
    Verdict, Window,
};

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

fn body(id: i64) -> Value {
    json!({"n": id})
}

/// A message as it was sent.
fn said(at: At, seq: Seq, id: i64) -> Event {
    Event { at, seq, id, body: body(id), told: Told::created(seq) }
}

fn user(number: usize) -> Uuid {
    Uuid::from_u128(1 + number as u128)
}

/// One message a tenth of a second.
pub fn time(seq: Seq) -> At {
    Duration::from_millis(100 * u64::try_from(seq).unwrap())
}

fn add_conversation(history: &mut History, conversation: Uuid, plan: &Plan) {
    let last = plan.sends.len() as Seq;
    let first_id = history.messages.len() as i64;
    for (seq, (sender, manner)) in (1..).zip(&plan.sends) {
        let (id, key) = (first_id + seq, format!("{conversation}-{seq}"));
        let sender = user(*sender);
        history.messages.push(Message {
            id,
            conversation,
            seq,
            sender,
            key: Some(key.clone()),
            reply_to: None,
            body: body(id),
            version: 1,
            reactions: Reactions::new(),
            created: time(seq),
        });
        let (processed, parked) = (seq % 7 != 0, seq % 7 == 0);
        history.outbox.push(OutboxRow { id, kind: "message.created".to_owned(), processed, parked });
        let verdict = Verdict::Store(body(id));
        let attempts = attempts(id, seq, *manner);
        history.sends.push(Send { user: sender, conversation, key, reply_to: None, verdict, attempts });
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
    add_unstored(history, conversation);
    add_pages(history, conversation, last);
}

/// Messages that plugins held, discarded and rejected.
fn add_unstored(history: &mut History, conversation: Uuid) {
    let (sender, asked) = (user(0), time(1));
    let outcomes = [
        (Verdict::Hold(body(0)), Outcome::Held),
        (Verdict::Discard, Outcome::Discarded),
        (Verdict::Reject, Outcome::Rejected),
    ];
    for (verdict, outcome) in outcomes {
        let key = format!("{conversation}-{outcome:?}");
        let attempt = |outcome| Attempt { asked, ended: asked, outcome };
        let attempts = vec![attempt(Outcome::Unknown), attempt(outcome)];
        if let Verdict::Hold(body) = &verdict {
            let (key, body) = (Some(key.clone()), body.clone());
            history.held.push(Held { conversation, sender, key, body, created: asked });
        }
        history.sends.push(Send { user: sender, conversation, key, reply_to: None, verdict, attempts });
    }
}

/// All of it from either side, and a part of the middle.
fn add_pages(history: &mut History, conversation: Uuid, last: Seq) {
    let mut events = stream(history, (user(0), conversation, 0), 0, last, true).events;
    let (user, asked) = (user(0), time(last + 1));
    let mut page = |window, messages, has_more| {
        history.pages.push(Page { user, conversation, asked, answered: asked, window, messages, has_more });
    };
    page(Window::After(0), events.clone(), false);
    page(Window::After(1), events[1..3].to_vec(), true);
    page(Window::After(last), Vec::new(), false);
    events.reverse();
    page(Window::Newest, events.clone(), false);
    page(Window::Before(last + 3), events[..2].to_vec(), true);
    page(Window::Before(1), Vec::new(), false);
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
    let event = |message: &Message| said(time(message.seq), message.seq, message.id);
    let its = history.messages.iter().filter(|message| message.conversation == conversation);
    let events = its.filter(|message| message.seq > from && message.seq <= to).map(event).collect();
    Stream { user, conversation, socket, asked: time(from), joined: time(from), from, events, open }
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
        events: vec![said(At::ZERO, 1, id)],
        open: false,
    };
    let history = History { streams: vec![stream(1, 5), stream(2, 6)], ..History::default() };
    assert!(check(&history).iter().any(|violation| violation.kind == Kind::Disagreement));
}
