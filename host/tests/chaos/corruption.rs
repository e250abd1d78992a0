//! Ways in which a correct history can be broken.

use std::time::Duration;

use proptest::sample::Index;
use serde_json::Value;

use crate::checker::Kind;
use crate::checker_tests::time;
use crate::history::{
    Absence, Attempt, History, Message, OutboxRow, Outcome, Page, Send, Seq, Stream, Verdict, Window,
};

#[derive(Debug, Clone, Copy)]
pub enum Corruption {
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
    AlterBody,
    StoreRejected,
    StoreUnreplaced,
    AnswerWrongly,
    LoseHeld,
    HoldTwice,
    HoleInPage,
    StalePage,
    EmptyPage,
    PageWithoutRight,
}

impl Corruption {
    pub const ALL: [Self; 25] = [
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
        Self::AlterBody,
        Self::StoreRejected,
        Self::StoreUnreplaced,
        Self::AnswerWrongly,
        Self::LoseHeld,
        Self::HoldTwice,
        Self::HoleInPage,
        Self::StalePage,
        Self::EmptyPage,
        Self::PageWithoutRight,
    ];

    /// Breaks a correct history in one place, and says what the checker must object to.
    pub fn apply(self, history: &mut History, at: Index) -> Kind {
        match self {
            Self::DropInTheMiddle | Self::Truncate | Self::Repeat | Self::Swap | Self::AlterId | Self::AlterBody => {
                self.break_a_stream(history, at)
            }
            Self::PhantomAck | Self::WrongAck | Self::FalseRefusal | Self::SendWithoutRight => {
                self.break_a_send(history, at)
            }
            Self::DoubleKey | Self::ForgetMessage | Self::Invent | Self::LeaveBehind => {
                self.break_the_store(history, at)
            }
            Self::LateEvent | Self::JoinWithoutRight => self.break_a_right(history, at),
            Self::StoreRejected | Self::StoreUnreplaced | Self::AnswerWrongly | Self::LoseHeld | Self::HoldTwice => {
                self.break_a_verdict(history, at)
            }
            Self::HoleInPage | Self::StalePage | Self::EmptyPage | Self::PageWithoutRight => {
                self.break_a_page(history, at)
            }
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
                stream.events.insert(place, stream.events[place].clone());
                Kind::Repeated
            }
            Self::Swap => {
                stream.events.swap(place, place + 1);
                Kind::OutOfOrder
            }
            Self::AlterBody => {
                stream.events[place].body = Value::Null;
                Kind::Altered
            }
            _ => {
                stream.events[place].id += 1_000_000;
                Kind::Phantom
            }
        }
    }

    fn break_a_send(self, history: &mut History, at: Index) -> Kind {
        let stored = |send: &Send| matches!(send.verdict, Verdict::Store(_));
        let places: Vec<usize> = (0..history.sends.len()).filter(|place| stored(&history.sends[*place])).collect();
        let place = places[at.index(places.len())];
        let key = history.sends[place].key.clone();
        let message = history.messages.iter().find(|message| message.key.as_ref() == Some(&key)).unwrap().clone();
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

    fn break_a_verdict(self, history: &mut History, at: Index) -> Kind {
        let judged = |verdict: fn(&Verdict) -> bool| {
            let places: Vec<usize> =
                (0..history.sends.len()).filter(|place| verdict(&history.sends[*place].verdict)).collect();
            places[at.index(places.len())]
        };
        match self {
            Self::StoreRejected => {
                let place = judged(|verdict| matches!(verdict, Verdict::Store(_)));
                history.sends[place].verdict = if at.index(2) == 0 { Verdict::Reject } else { Verdict::Discard };
                Kind::WrongVerdict
            }
            Self::StoreUnreplaced => {
                let place = judged(|verdict| matches!(verdict, Verdict::Store(_)));
                history.sends[place].verdict = Verdict::Store(Value::Null);
                Kind::WrongVerdict
            }
            Self::AnswerWrongly => {
                let place = judged(|verdict| *verdict == Verdict::Reject);
                history.sends[place].attempts[1].outcome = Outcome::Discarded;
                Kind::WrongVerdict
            }
            Self::LoseHeld => {
                history.held.remove(at.index(history.held.len()));
                Kind::Lost
            }
            _ => {
                history.held.push(history.held[at.index(history.held.len())].clone());
                Kind::StoredTwice
            }
        }
    }

    fn break_a_page(self, history: &mut History, at: Index) -> Kind {
        // One that acknowledgements had to be in: of a history that has one.
        let last = history.messages.iter().map(|message| message.seq).max().unwrap();
        let full = |page: &Page| page.messages.len() as Seq == last && matches!(page.window, Window::After(_));
        let place = history.pages.iter().position(full).unwrap();
        let page = &mut history.pages[place];
        match self {
            Self::HoleInPage => {
                page.messages.remove(1 + at.index(page.messages.len() - 2));
                Kind::Hole
            }
            Self::StalePage | Self::EmptyPage => {
                let kept = if matches!(self, Self::EmptyPage) { 0 } else { page.messages.len() - 1 };
                page.messages.truncate(kept);
                let message = history
                    .messages
                    .iter()
                    .find(|message| (message.conversation, message.seq) == (page.conversation, last));
                let (key, id) = (message.unwrap().key.clone(), message.unwrap().id);
                let send = history.sends.iter_mut().find(|send| Some(&send.key) == key.as_ref()).unwrap();
                let (asked, outcome) = (time(last), Outcome::Stored { id, seq: last, duplicate: true });
                send.attempts.push(Attempt { asked, ended: asked, outcome });
                Kind::Behind
            }
            _ => {
                let (user, conversation) = (page.user, page.conversation);
                let from = page.asked - Duration::from_millis(1);
                history.absences.push(Absence { user, conversation, from, until: None });
                Kind::WithoutRight
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
