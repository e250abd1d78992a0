//! Gives an event to its room, from whichever side it comes.

use std::sync::Arc;

use arcyou_platform::contract::Envelope;
use arcyou_protocol::event::{event_frame, live_frame};

use super::hub::Hub;
use super::incoming::{Incoming, sort};
use super::repair::follow_up;
use super::resequence::Offered;
use super::room::Room;

/// Delivers an event to those in the room. Says whether the room had not had it.
pub(super) fn deliver(hub: &Arc<Hub>, room: &Arc<Room>, envelope: &Envelope<'_>) -> bool {
    let (conversation, payload) = (envelope.conversation_id, envelope.payload.get());
    match sort(envelope) {
        Incoming::Change { seq, created_ms } => {
            let frame = live_frame(conversation, &envelope.kind, payload).into();
            let (offered, follow_ups) = room.change(seq, frame);
            match offered {
                Offered::Delivered => created_ms.into_iter().for_each(|ms| hub.meter.delay(ms)),
                Offered::Duplicate => hub.meter.duplicates.increment(1),
                Offered::Held | Offered::Dropped => {}
            }
            follow_up(hub, room, follow_ups, hub.config.gap_wait);
            offered != Offered::Duplicate
        }
        Incoming::Other => {
            let id = envelope.id;
            room.event(id, false, || event_frame(id, &envelope.kind, conversation, payload).into())
        }
    }
}
