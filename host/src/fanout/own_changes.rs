//! What a socket's own requests do to its queue: a change never comes before the reply to its request, and it brings
//! that one's `temp_id`. Pure.
//!
//! A change by the socket's own user that arrives while requests of this socket to its conversation are not answered
//! may be that of one of them: of one that had begun by then. So it waits until all of those are answered, or until the
//! answer of one names it, and with it what follows it in its conversation. Everything else goes on, and so do all
//! other sockets.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use arcyou_protocol::Seq;
use arcyou_protocol::event::{author_of, with_temp_id};
use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

/// Answered changes of one socket whose events are to come. When the relay is further behind than this, the newest
/// come without their `temp_id`.
const MAX_AWAITED: usize = 1024;

/// A change's frame, the same bytes for every socket.
#[derive(Debug)]
pub struct ChangeFrame<'a> {
    conversation: Uuid,
    seq: Seq,
    frame: &'a Utf8Bytes,
    /// Looked up once for all sockets, and only if one of them has to know.
    sender: OnceCell<Option<Uuid>>,
}

impl<'a> ChangeFrame<'a> {
    /// The frame of the change with this place.
    pub fn new(conversation: Uuid, seq: Seq, frame: &'a Utf8Bytes) -> Self {
        Self { conversation, seq, frame, sender: OnceCell::new() }
    }

    pub(super) fn frame(&self) -> &Utf8Bytes {
        self.frame
    }

    fn is_by(&self, user: Uuid) -> bool {
        *self.sender.get_or_init(|| author_of(self.frame)) == Some(user)
    }
}

/// A change that the socket itself has made, as the answer tells it.
#[derive(Debug)]
pub struct OwnChange {
    pub seq: Seq,
    /// Whether the socket has joined the conversation, and the change has not come yet.
    pub is_to_come: bool,
    /// Of its request, as raw JSON.
    pub temp_id: Option<Box<str>>,
}

/// The requests of one socket, as far as their changes may be on their way.
#[derive(Debug, Default)]
pub(super) struct OwnChanges {
    conversations: BTreeMap<Uuid, OwnIn>,
    /// Of all conversations.
    awaited: usize,
}

/// The same in one conversation.
#[derive(Debug, Default)]
struct OwnIn {
    /// Requests of this socket, numbered in their order; they are answered in that order.
    begun: u64,
    answered: u64,
    /// What waits, in its order.
    held: BTreeMap<Seq, Held>,
    /// Answered changes that have not come, and their `temp_id`s.
    awaited: BTreeMap<Seq, Option<Box<str>>>,
}

#[derive(Debug)]
struct Held {
    frame: Utf8Bytes,
    /// It waits until so many requests are answered.
    until: u64,
}

/// A change that has waited.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) frame: Utf8Bytes,
    /// Its bytes while it waited.
    pub(super) waited: usize,
}

impl OwnChanges {
    /// A request begins: from now on its change may come.
    pub(super) fn begin(&mut self, conversation: Uuid) {
        self.conversations.entry(conversation).or_default().begun += 1;
    }

    /// A change comes. Answers what to queue now; none: it waits.
    pub(super) fn pass(&mut self, message: &ChangeFrame<'_>, user: Uuid) -> Option<Utf8Bytes> {
        let Some(own) = self.conversations.get_mut(&message.conversation) else { return Some(message.frame.clone()) };
        let is_answered = own.awaited.contains_key(&message.seq);
        let may_be_unanswered = !is_answered && own.answered < own.begun && message.is_by(user);
        if may_be_unanswered || !own.held.is_empty() {
            let until = if may_be_unanswered { own.begun } else { 0 };
            own.held.insert(message.seq, Held { frame: message.frame.clone(), until });
            return None;
        }
        let frame = own.mark(message.seq, message.frame, &mut self.awaited);
        self.forget_idle(message.conversation);
        Some(frame)
    }

    /// The oldest request of the conversation is answered. Answers what waited for that, in its order.
    pub(super) fn answer(&mut self, conversation: Uuid, message: Option<OwnChange>) -> Vec<Released> {
        let Some(own) = self.conversations.get_mut(&conversation) else { return Vec::new() };
        own.answered += 1;
        if let Some(OwnChange { seq, is_to_come, temp_id }) = message
            && (is_to_come || own.held.contains_key(&seq))
            && self.awaited < MAX_AWAITED
            && own.awaited.insert(seq, temp_id).is_none()
        {
            self.awaited += 1;
        }
        let mut released = Vec::new();
        while let Some(entry) = own.held.first_entry() {
            let seq = *entry.key();
            if entry.get().until > own.answered && !own.awaited.contains_key(&seq) {
                break;
            }
            let Held { frame, .. } = entry.remove();
            released.push(Released { waited: frame.len(), frame: own.mark(seq, &frame, &mut self.awaited) });
        }
        self.forget_idle(conversation);
        released
    }

    /// The socket gets no more of this conversation: neither what waits, whose first `seq` and bytes this answers, nor
    /// what was to come.
    pub(super) fn forget(&mut self, conversation: Uuid) -> Option<(Seq, usize)> {
        let own = self.conversations.get_mut(&conversation)?;
        self.awaited -= own.awaited.len();
        own.awaited.clear();
        let held = std::mem::take(&mut own.held);
        self.forget_idle(conversation);
        let first = held.keys().next().copied()?;
        Some((first, held.values().map(|held| held.frame.len()).sum()))
    }

    /// Whether there is nothing left to know.
    pub(super) fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    /// Whether a change waits.
    pub(super) fn is_holding(&self) -> bool {
        self.conversations.values().any(|own| !own.held.is_empty())
    }

    fn forget_idle(&mut self, conversation: Uuid) {
        let is_idle = |own: &OwnIn| own.answered == own.begun && own.held.is_empty() && own.awaited.is_empty();
        if self.conversations.get(&conversation).is_some_and(is_idle) {
            self.conversations.remove(&conversation);
        }
    }
}

impl OwnIn {
    /// The frame as this socket gets it. What the conversation has gone past is not awaited any more.
    fn mark(&mut self, seq: Seq, frame: &Utf8Bytes, awaited: &mut usize) -> Utf8Bytes {
        let mut temp_id = None;
        while let Some(entry) = self.awaited.first_entry().filter(|entry| *entry.key() <= seq) {
            *awaited -= 1;
            let is_this = *entry.key() == seq;
            temp_id = entry.remove().filter(|_| is_this);
        }
        temp_id.map_or_else(|| frame.clone(), |temp_id| with_temp_id(frame, &temp_id).into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arcyou_protocol::event::live_frame;
    use serde_json::Value;

    use super::*;

    const ROOM: Uuid = Uuid::from_u128(1);
    const OTHER_ROOM: Uuid = Uuid::from_u128(2);
    const ME: Uuid = Uuid::from_u128(3);
    const SOMEBODY: Uuid = Uuid::from_u128(4);

    /// A change comes; answers the `seq` and `temp_id` of what is queued.
    fn come(sends: &mut OwnChanges, conversation: Uuid, seq: Seq, sender: Uuid) -> Option<(Seq, String)> {
        let payload = format!(r#"{{"seq": {seq}, "message": {{"sender_id": "{sender}"}}}}"#);
        let frame = live_frame(conversation, "message.created", &payload).into();
        sends.pass(&ChangeFrame::new(conversation, seq, &frame), ME).map(|frame| shown(&frame))
    }

    fn answer(sends: &mut OwnChanges, seq: Seq, temp_id: &str) -> Vec<(Seq, String)> {
        let temp_id = Some(format!("\"{temp_id}\"").into());
        let released = sends.answer(ROOM, Some(OwnChange { seq, is_to_come: true, temp_id }));
        released.iter().map(|released| shown(&released.frame)).collect()
    }

    fn shown(frame: &Utf8Bytes) -> (Seq, String) {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let temp_id = frame["temp_id"].as_str().unwrap_or("none").to_owned();
        (frame["seq"].as_i64().unwrap(), temp_id)
    }

    fn plain(seq: Seq) -> Option<(Seq, String)> {
        Some((seq, "none".to_owned()))
    }

    fn marked(seq: Seq, temp_id: &str) -> (Seq, String) {
        (seq, temp_id.to_owned())
    }

    #[test]
    fn a_message_waits_for_the_reply_to_its_send_and_nothing_else_waits() {
        let mut sends = OwnChanges::default();
        sends.begin(ROOM);
        assert_eq!(come(&mut sends, ROOM, 1, SOMEBODY), plain(1));
        assert_eq!(come(&mut sends, ROOM, 2, ME), None);
        assert_eq!(come(&mut sends, ROOM, 3, SOMEBODY), None, "it would overtake 2");
        assert_eq!(come(&mut sends, OTHER_ROOM, 9, ME), plain(9));
        assert_eq!(answer(&mut sends, 2, "a"), [marked(2, "a"), marked(3, "none")]);
        assert!(sends.is_empty());
    }

    #[test]
    fn the_usual_order_needs_no_waiting() {
        let mut sends = OwnChanges::default();
        sends.begin(ROOM);
        assert!(answer(&mut sends, 5, "a").is_empty());
        sends.begin(ROOM);
        assert_eq!(come(&mut sends, ROOM, 4, SOMEBODY), plain(4));
        assert_eq!(come(&mut sends, ROOM, 5, ME), Some(marked(5, "a")), "it is answered; the other one is not");
        assert_eq!(come(&mut sends, ROOM, 6, ME), None);
        assert_eq!(answer(&mut sends, 6, "b"), [marked(6, "b")]);
        assert!(sends.is_empty());
    }

    #[test]
    fn several_sends_are_told_apart_by_their_answers() {
        let mut sends = OwnChanges::default();
        (0..3).for_each(|_| sends.begin(ROOM));
        assert_eq!(come(&mut sends, ROOM, 1, ME), None, "of another device, but who knows");
        for seq in [2, 3, 4] {
            assert_eq!(come(&mut sends, ROOM, seq, ME), None);
        }
        assert!(answer(&mut sends, 2, "a").is_empty(), "1 may still be of one of the other two");
        assert!(sends.answer(ROOM, None).is_empty(), "refused");
        sends.begin(ROOM);
        let released = answer(&mut sends, 4, "c");
        assert_eq!(released, [marked(1, "none"), marked(2, "a"), marked(3, "none"), marked(4, "c")]);
        assert_eq!(come(&mut sends, ROOM, 5, ME), None, "it may be of the one that began last");
        assert_eq!(answer(&mut sends, 5, "d"), [marked(5, "d")]);
        assert!(sends.is_empty());
    }

    #[test]
    fn what_never_comes_is_not_awaited_for_ever() {
        let mut sends = OwnChanges::default();
        for seq in 1..=2 * MAX_AWAITED as Seq {
            sends.begin(ROOM);
            answer(&mut sends, seq, "x");
        }
        assert_eq!((sends.awaited, sends.conversations[&ROOM].awaited.len()), (MAX_AWAITED, MAX_AWAITED));
        assert_eq!(come(&mut sends, ROOM, 3000, SOMEBODY), plain(3000));
        assert!(sends.is_empty() && sends.awaited == 0);
        // One that came before, under the same key.
        sends.begin(ROOM);
        assert!(sends.answer(ROOM, Some(OwnChange { seq: 7, is_to_come: false, temp_id: None })).is_empty());
        assert!(sends.is_empty());
    }

    #[test]
    fn a_conversation_that_is_left_is_forgotten_but_not_its_sends() {
        let mut sends = OwnChanges::default();
        sends.begin(ROOM);
        sends.begin(ROOM);
        answer(&mut sends, 9, "a");
        assert_eq!(come(&mut sends, ROOM, 6, ME), None);
        assert_eq!(come(&mut sends, ROOM, 7, SOMEBODY), None);
        let (first, bytes) = sends.forget(ROOM).unwrap();
        assert!(first == 6 && bytes > 200);
        assert_eq!(sends.forget(ROOM), None);
        assert_eq!(come(&mut sends, ROOM, 6, ME), None, "it is joined again, and the send is still not answered");
        assert_eq!(answer(&mut sends, 6, "b"), [marked(6, "b")]);
        assert!(sends.is_empty());
    }
}
