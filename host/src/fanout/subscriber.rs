//! The task that listens to the bus. It never waits for anything but the bus: what takes longer is left to other tasks.

use std::collections::HashMap;
use std::sync::Arc;

use arcyou_platform::bus::{Signal, Subscriber};
use arcyou_platform::contract::{
    CONVERSATION_DELETED, Envelope, GLOBAL_CHANNEL, PARTICIPANT_REMOVED, PARTICIPANT_ROLE_CHANGED, PubSubMode,
};
use arcyou_platform::health::Part;
use uuid::Uuid;

use super::deliver::deliver;
use super::hub::{Doubt, Due, Hub};
use super::incoming::concerned_user;
use super::room::Room;

struct Listener {
    hub: Arc<Hub>,
    bus: Box<dyn Subscriber>,
    health: Part,
    channels: HashMap<String, Channel>,
    /// How many of them the bus has not confirmed.
    awaited: usize,
}

/// A channel that was asked for.
struct Channel {
    /// Whose it is, unless it is everybody's.
    conversation: Option<Uuid>,
    confirmed: bool,
}

/// Listens for as long as the fan-out lives.
pub(super) async fn run(hub: Arc<Hub>, bus: Box<dyn Subscriber>, health: Part) {
    let mut listener = Listener { hub: hub.clone(), bus, health, channels: HashMap::new(), awaited: 0 };
    if hub.registry.mode() == PubSubMode::Global {
        listener.ask_for(GLOBAL_CHANNEL.to_owned(), None);
    }
    listener.report();
    loop {
        tokio::select! {
            () = hub.registry.changes().added() => listener.adjust(),
            signal = listener.bus.next() => match signal {
                Signal::Message { payload, .. } => listener.hear(&payload),
                Signal::Subscribed { channel } => listener.confirmed(&channel),
                Signal::Interrupted { channel } => listener.interrupted(&channel),
                Signal::Lost => listener.lost(),
            },
        }
    }
}

impl Listener {
    /// Makes the channels follow the rooms.
    fn adjust(&mut self) {
        for conversation in self.hub.registry.changes().take() {
            let channel = self.hub.registry.mode().channel(conversation);
            let room = self.hub.registry.get(conversation).filter(|room| room.is_wanted());
            let confirmed = self.channels.get(&channel).map(|asked| asked.confirmed);
            match (room, confirmed) {
                (Some(_), None) => self.ask_for(channel, Some(conversation)),
                // A new room on a channel that never ended: what came so far went to the old room, or to none.
                (Some(room), Some(true)) => self.carried(&room),
                (None, Some(confirmed)) => {
                    self.bus.unsubscribe(&channel);
                    self.channels.remove(&channel);
                    self.awaited -= usize::from(!confirmed);
                    self.report();
                }
                (Some(_), Some(false)) | (None, None) => {}
            }
        }
    }

    fn ask_for(&mut self, channel: String, conversation: Option<Uuid>) {
        self.channels.insert(channel.clone(), Channel { conversation, confirmed: false });
        self.awaited += 1;
        self.bus.subscribe(channel);
    }

    fn confirmed(&mut self, channel: &str) {
        let Some(asked) = self.channels.get_mut(channel) else { return };
        self.awaited -= usize::from(!asked.confirmed);
        asked.confirmed = true;
        match asked.conversation {
            None => {
                self.hub.registry.global_epoch().up();
                self.hub.due.add(Due::All);
            }
            Some(conversation) => {
                if let Some(room) = self.hub.registry.get(conversation) {
                    self.carried(&room);
                }
            }
        }
        self.report();
    }

    /// The bus carries this room's events from now on.
    fn carried(&self, room: &Room) {
        room.epoch.up();
        self.hub.due.add(Due::Room(room.conversation));
    }

    /// One channel may miss events until it is confirmed again.
    fn interrupted(&mut self, channel: &str) {
        let Some(asked) = self.channels.get_mut(channel) else { return };
        self.awaited += usize::from(asked.confirmed);
        asked.confirmed = false;
        match asked.conversation {
            None => self.hub.registry.all_down(),
            Some(conversation) => {
                if let Some(room) = self.hub.registry.get(conversation) {
                    room.epoch.down();
                }
            }
        }
        self.health.down(
            "a part of the bus is away; its conversations' events are delivered from the database, once a second",
        );
    }

    fn lost(&mut self) {
        self.channels.values_mut().for_each(|asked| asked.confirmed = false);
        self.awaited = self.channels.len();
        self.hub.registry.all_down();
        if self.awaited > 0 {
            self.health.down("the bus is away; events are delivered from the database, once a second");
        }
    }

    /// All is well again once every channel is confirmed; one that was just asked for does not make it worse.
    fn report(&self) {
        if self.awaited == 0 {
            self.health.up();
        }
    }

    fn hear(&self, payload: &[u8]) {
        self.hub.meter.received.increment(1);
        if !self.hub.event_key.accepts(payload) {
            self.hub.meter.forged.increment(1);
            tracing::debug!(bytes = payload.len(), "an event without this installation's mark is dropped");
            return;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(payload) else {
            self.hub.meter.garbage.increment(1);
            tracing::warn!(bytes = payload.len(), "a publication is not an event");
            return;
        };
        self.hub.note_heard();
        self.hub.note_newest(envelope.id);
        let Some(room) = self.hub.registry.get(envelope.conversation_id) else { return };
        if deliver(&self.hub, &room, &envelope) {
            self.doubt(&room, &envelope);
        }
    }

    /// What an event says of rights to listen is looked up.
    fn doubt(&self, room: &Room, envelope: &Envelope<'_>) {
        let (conversation, payload) = (envelope.conversation_id, envelope.payload.get());
        match envelope.kind.as_ref() {
            PARTICIPANT_REMOVED | PARTICIPANT_ROLE_CHANGED => {
                if let Some(user) = concerned_user(payload).filter(|user| room.note_right_change(*user)) {
                    self.hub.doubts.add(Doubt::Member { conversation, user });
                }
            }
            CONVERSATION_DELETED => self.hub.doubts.add(Doubt::Deleted { conversation }),
            _ => {}
        }
    }
}
