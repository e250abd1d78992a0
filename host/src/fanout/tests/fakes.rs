//! A bus that can break and a store that can be away, both in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arcyou_platform::bus::{Bus, BusUnavailable, Publication, PublishError, Signal, Subscriber};
use arcyou_platform::contract::{CONVERSATION_DELETED, EventKey, MESSAGE_CREATED, PubSubMode, envelope_text};
use arcyou_protocol::Seq;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{History, HistoryError, MEMBER};
use crate::store::{ChangeEvent, ChangePage, MemberRole, OutboxEvent, Page, PageLimits, RoleChange};

pub(super) struct FakeBus {
    mode: PubSubMode,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    state: Mutex<WireState>,
    wake: Notify,
}

#[derive(Default)]
struct WireState {
    broken: bool,
    channels: HashSet<String>,
    signals: VecDeque<Signal>,
}

impl Wire {
    fn change<T>(&self, change: impl FnOnce(&mut WireState) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.wake.notify_one();
        result
    }
}

impl FakeBus {
    pub(super) fn new(mode: PubSubMode) -> Self {
        Self { mode, wire: Arc::default() }
    }

    pub(super) fn publish_text(&self, conversation: Uuid, text: String) {
        self.publish_raw(&self.mode.channel(conversation), text);
    }

    pub(super) fn publish_raw(&self, channel: &str, text: String) {
        self.wire.change(|state| {
            if !state.broken && state.channels.contains(channel) {
                state.signals.push_back(Signal::Message { channel: channel.to_owned(), payload: text.into() });
            }
        });
    }

    /// From here on nothing comes through.
    pub(super) fn cut(&self) {
        self.wire.change(|state| {
            state.broken = true;
            state.signals.push_back(Signal::Lost);
        });
    }

    pub(super) fn mend(&self) {
        self.wire.change(|state| {
            state.broken = false;
            let again: Vec<_> =
                state.channels.iter().map(|channel| Signal::Subscribed { channel: channel.clone() }).collect();
            state.signals.extend(again);
        });
    }

    /// One channel is not carried any more.
    pub(super) fn cut_one(&self, conversation: Uuid) {
        self.wire.change(|state| {
            let channel = self.mode.channel(conversation);
            state.channels.remove(&channel);
            state.signals.push_back(Signal::Interrupted { channel });
        });
    }

    /// It is carried again.
    pub(super) fn mend_one(&self, conversation: Uuid) {
        self.wire.change(|state| {
            let channel = self.mode.channel(conversation);
            state.channels.insert(channel.clone());
            state.signals.push_back(Signal::Subscribed { channel });
        });
    }

    pub(super) fn channels(&self) -> Vec<String> {
        let mut channels: Vec<_> = self.wire.state.lock().unwrap().channels.iter().cloned().collect();
        channels.sort();
        channels
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(&self, _: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable> {
        unreachable!("the fan-out publishes nothing")
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        Box::new(FakeSubscriber(self.wire.clone()))
    }
}

struct FakeSubscriber(Arc<Wire>);

#[async_trait]
impl Subscriber for FakeSubscriber {
    fn subscribe(&mut self, channel: String) {
        self.0.change(|state| {
            state.channels.insert(channel.clone());
            if !state.broken {
                state.signals.push_back(Signal::Subscribed { channel });
            }
        });
    }

    fn unsubscribe(&mut self, channel: &str) {
        self.0.change(|state| state.channels.remove(channel));
    }

    async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.0.state.lock().unwrap().signals.pop_front() {
                return signal;
            }
            self.0.wake.notified().await;
        }
    }
}

/// Conversations, participants and an outbox.
#[derive(Default)]
pub(super) struct FakeStore {
    tables: Mutex<Tables>,
    pub(super) away: AtomicBool,
    /// How often the database was exchanged for another one.
    pub(super) exchanges: AtomicUsize,
    /// Answered questions for pages of messages.
    pub(super) pages: AtomicUsize,
    /// Answered questions for rights.
    pub(super) checks: AtomicUsize,
    /// Questions of any kind.
    pub(super) questions: AtomicUsize,
}

#[derive(Default)]
struct Tables {
    last_seq: HashMap<Uuid, Seq>,
    changes: HashMap<Uuid, Vec<ChangeEvent>>,
    purged: HashMap<Uuid, Seq>,
    participants: HashMap<(Uuid, Uuid), String>,
    events: Vec<OutboxEvent>,
    outbox_id: i64,
}

impl FakeStore {
    /// Commits a message; its envelope is for the test to publish, or not.
    pub(super) fn message(&self, conversation: Uuid) -> (Seq, String) {
        self.message_with(conversation, json!({"text": "hello"}))
    }

    pub(super) fn message_with(&self, conversation: Uuid, body: Value) -> (Seq, String) {
        let mut tables = self.tables();
        tables.outbox_id += 1;
        let id = tables.outbox_id;
        let last = tables.last_seq.entry(conversation).or_default();
        *last += 1;
        let seq = *last;
        let payload = json!({"seq": seq, "message": {"id": id, "seq": seq, "body": body}}).to_string();
        let stored = ChangeEvent { seq, kind: MESSAGE_CREATED.to_owned(), payload: payload.clone() };
        tables.changes.entry(conversation).or_default().push(stored);
        (seq, envelope_text(&self.key(), id, MESSAGE_CREATED, conversation, &payload))
    }

    pub(super) fn event(&self, conversation: Uuid, kind: &str, payload: &Value) -> (i64, String) {
        let mut tables = self.tables();
        tables.outbox_id += 1;
        let (id, payload) = (tables.outbox_id, payload.to_string());
        let text = envelope_text(&self.key(), id, kind, conversation, &payload);
        tables.events.push(OutboxEvent { id, kind: kind.to_owned(), conversation_id: conversation, payload });
        (id, text)
    }

    /// The key of events.
    pub(super) fn key(&self) -> EventKey {
        EventKey::new(&[self.exchanges.load(Ordering::Relaxed) as u8])
    }

    pub(super) fn admit(&self, conversation: Uuid, user: Uuid) {
        self.tables().participants.insert((conversation, user), MEMBER.to_owned());
    }

    /// Changes a participant's role, as the trigger tells it.
    pub(super) fn change_role(&self, conversation: Uuid, user: Uuid, role: &str) -> (i64, String) {
        self.tables().participants.insert((conversation, user), role.to_owned());
        self.event(conversation, "participant.role_changed", &json!({"user_id": user, "role": role}))
    }

    /// Removes a participant, as the trigger does.
    pub(super) fn remove(&self, conversation: Uuid, user: Uuid) -> (i64, String) {
        self.tables().participants.remove(&(conversation, user));
        self.event(conversation, "participant.removed", &json!({"user_id": user}))
    }

    pub(super) fn message_count(&self, conversation: Uuid) -> usize {
        self.tables().changes.get(&conversation).map_or(0, Vec::len)
    }

    /// Deletes a message, as an operator might.
    pub(super) fn delete(&self, conversation: Uuid, seq: Seq) {
        self.tables().changes.entry(conversation).or_default().retain(|message| message.seq != seq);
    }

    /// Purges messages up to this one, as a worker does.
    pub(super) fn purge(&self, conversation: Uuid, through: Seq) {
        let mut tables = self.tables();
        tables.changes.entry(conversation).or_default().retain(|message| message.seq > through);
        tables.purged.insert(conversation, through);
    }

    /// Deletes a conversation and makes it again.
    pub(super) fn forget(&self, conversation: Uuid) {
        let mut tables = self.tables();
        tables.changes.remove(&conversation);
        tables.last_seq.remove(&conversation);
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    fn answer<T>(&self, answer: impl FnOnce(&Tables) -> T) -> Result<T, HistoryError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) { Err(HistoryError::Late) } else { Ok(answer(&self.tables())) }
    }
}

#[async_trait]
impl History for FakeStore {
    async fn event_key(&self) -> Result<EventKey, HistoryError> {
        let key = self.key();
        self.answer(|_| key)
    }

    async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, HistoryError> {
        let page = self.answer(|tables| {
            let purged = tables.purged.get(&conversation).copied().filter(|purged| *purged > after);
            let after = purged.unwrap_or(after);
            let changes = tables.changes.get(&conversation).into_iter().flatten();
            let Page { items, more } =
                page(changes.filter(|change| change.seq > after), limits, |change| change.payload.len());
            ChangePage { items, more, purged }
        })?;
        // The answer takes time; meanwhile things happen.
        tokio::task::yield_now().await;
        self.pages.fetch_add(1, Ordering::Relaxed);
        Ok(page)
    }

    async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, HistoryError> {
        self.answer(|tables| {
            let last = |conversation| tables.last_seq.get(conversation).copied().unwrap_or(0);
            rooms
                .iter()
                .filter(|(conversation, seq)| last(conversation) > *seq)
                .map(|(conversation, _)| *conversation)
                .collect()
        })
    }

    async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, HistoryError> {
        self.answer(|tables| {
            let wanted = |event: &&OutboxEvent| event.id > after_id && conversations.contains(&event.conversation_id);
            page(tables.events.iter().filter(wanted), limits, |event| event.kind.len() + event.payload.len())
        })
    }

    async fn newest_outbox_id(&self) -> Result<i64, HistoryError> {
        self.answer(|tables| tables.outbox_id)
    }

    async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, HistoryError> {
        let changes = self.answer(|tables| {
            let now = |(conversation, user, role): &MemberRole| {
                let now = tables.participants.get(&(*conversation, *user)).cloned();
                let changed = now.as_deref() != Some(role);
                changed.then_some(RoleChange { conversation: *conversation, user: *user, role: now })
            };
            members.iter().filter_map(now).collect()
        })?;
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(changes)
    }

    async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, HistoryError> {
        let absent = self.answer(|tables| {
            let is_deleted = |id: &&Uuid| {
                tables.events.iter().any(|event| event.kind == CONVERSATION_DELETED && event.conversation_id == **id)
            };
            conversations.iter().filter(is_deleted).copied().collect()
        })?;
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(absent)
    }

    async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, HistoryError> {
        let gone = self.answer(|tables| {
            members.iter().filter(|pair| !tables.participants.contains_key(*pair)).copied().collect()
        })?;
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(gone)
    }
}

/// The page that the database would answer.
fn page<'a, T: Clone + 'a>(
    items: impl Iterator<Item = &'a T>,
    limits: PageLimits,
    weight: impl Fn(&T) -> usize,
) -> Page<T> {
    let (mut page, mut bytes) = (Page { items: Vec::new(), more: false }, 0);
    for item in items {
        bytes += weight(item);
        if !page.items.is_empty() && (page.items.len() == limits.rows as usize || bytes > limits.bytes) {
            page.more = true;
            break;
        }
        page.items.push(item.clone());
    }
    page
}
