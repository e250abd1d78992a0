//! A steady rate of messages, each with an intended time from which its acknowledgement and its deliveries are counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use crate::load::{Heard, Socket, heard, member, send_frame};
use crate::pace::{self, Latencies};
use crate::stack::Conversation;

/// Seconds that are not counted: connections are made, plans and caches warm up.
pub const WARM_UP: u64 = 2;

type Shared = Rc<(RefCell<Latencies>, Notify)>;

/// `total` messages at `rate` a second, to one conversation after the other. Acknowledgements of the senders, who are the
/// first members and on the first port, and deliveries to all other members, on the last.
pub async fn steady(
    [first, last]: [u16; 2],
    conversations: &[Conversation],
    rate: u32,
    total: u64,
) -> (Latencies, Latencies) {
    let not_counted = WARM_UP * u64::from(rate);
    let [acks, events]: [Shared; 2] = std::array::from_fn(|_| Rc::default());
    let intended: Rc<RefCell<Vec<Instant>>> = Rc::default();
    let mut writers = Vec::new();
    let mut deliveries = 0;
    for (place, conversation) in conversations.iter().enumerate() {
        let (writer, reader) = member(first, conversation.users[0], conversation.id).await.split();
        tokio::task::spawn_local(listen(reader, Heard::Stored, not_counted, intended.clone(), acks.clone()));
        writers.push((conversation.id, writer));
        for user in &conversation.users[1..] {
            let (silent, reader) = member(last, *user, conversation.id).await.split();
            let (intended, events) = (intended.clone(), events.clone());
            tokio::task::spawn_local(async move {
                listen(reader, Heard::Event, not_counted, intended, events).await;
                drop(silent);
            });
        }
        let counted = (not_counted..total).filter(|number| *number as usize % conversations.len() == place).count();
        deliveries += counted * (conversation.users.len() - 1);
    }
    let mut ticks = pace::ticks(rate, total);
    while let Some((number, at)) = ticks.recv().await {
        intended.borrow_mut().push(at);
        let place = number as usize % writers.len();
        let (conversation, writer) = &mut writers[place];
        writer.send(send_frame(*conversation, number)).await.unwrap();
    }
    for (shared, expected) in [(&acks, (total - not_counted) as usize), (&events, deliveries)] {
        while shared.0.borrow().len() < expected {
            shared.1.notified().await;
        }
    }
    (acks.0.take(), events.0.take())
}

async fn listen(
    mut reader: SplitStream<Socket>,
    what: Heard,
    not_counted: u64,
    intended: Rc<RefCell<Vec<Instant>>>,
    shared: Shared,
) {
    while let Some(Ok(message)) = reader.next().await {
        let number = match (heard(&message), &what) {
            (Some(Heard::Stored), Heard::Stored) => number(&message, "\"temp_id\":"),
            (Some(Heard::Event), Heard::Event) => number(&message, "\"text\":"),
            _ => continue,
        };
        if number >= not_counted {
            shared.0.borrow_mut().note(intended.borrow()[number as usize]);
            shared.1.notify_one();
        }
    }
}

/// The number that follows a mark.
fn number(message: &Message, mark: &str) -> u64 {
    let text = message.to_text().unwrap();
    let rest = text.split_once(mark).unwrap_or_else(|| panic!("{text}")).1.trim_start_matches([' ', '"']);
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
