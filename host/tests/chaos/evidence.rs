//! What a run leaves behind, collected for the checker.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;

use crate::device::Log;
use crate::history::{At, Held, History, Message, OutboxRow};
use crate::run::{Absences, Run};

impl Run {
    pub async fn history(&self, logs: Vec<Log>, absences: Absences, lag: Duration) -> History {
        let participants = self.participants().await;
        let mut history = History {
            absences,
            messages: self.messages().await,
            held: self.held().await,
            outbox: self.outbox().await,
            disturbed: self.disturbed.lock().unwrap().clone(),
            unexpected: self.unexpected.lock().unwrap().clone(),
            // The promise is one second. What this machine adds to it is measured by how late a timer was at worst:
            // several processes wait for one another on the way.
            removal_within: Duration::from_millis(1500) + 10 * lag,
            ..History::default()
        };
        for log in logs {
            history.sends.extend(log.sends);
            history.streams.extend(log.streams);
            history.pages.extend(log.pages);
            history.unexpected.extend(log.unexpected);
        }
        for stream in &mut history.streams {
            stream.open &= participants.contains(&(stream.conversation, stream.user));
        }
        history
    }

    async fn messages(&self) -> Vec<Message> {
        let select = "SELECT id, conversation_id, seq, sender_id, idempotency_key, body::text,
            (extract(epoch FROM created_at) * 1000000)::bigint FROM messages";
        let rows = self.sql.query(select, &[]).await;
        let message = |row: &Row| Message {
            id: row.get(0),
            conversation: row.get(1),
            seq: row.get(2),
            sender: row.get(3),
            key: row.get(4),
            body: serde_json::from_str(row.get(5)).unwrap(),
            created: self.at(row.get(6)),
        };
        rows.iter().map(message).collect()
    }

    async fn held(&self) -> Vec<Held> {
        let select = "SELECT conversation_id, sender_id, idempotency_key, body::text,
            (extract(epoch FROM created_at) * 1000000)::bigint FROM held_messages";
        let rows = self.sql.query(select, &[]).await;
        let held = |row: &Row| Held {
            conversation: row.get(0),
            sender: row.get(1),
            key: row.get(2),
            body: serde_json::from_str(row.get(3)).unwrap(),
            created: self.at(row.get(4)),
        };
        rows.iter().map(held).collect()
    }

    fn at(&self, micros: i64) -> At {
        let start = self.clock.0.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Duration::from_micros(u64::try_from(micros).unwrap()).saturating_sub(start)
    }

    async fn outbox(&self) -> Vec<OutboxRow> {
        let select = "SELECT id, type, processed, parked_at IS NOT NULL FROM outbox";
        let rows = self.sql.query(select, &[]).await;
        let row = |row: &Row| OutboxRow { id: row.get(0), kind: row.get(1), processed: row.get(2), parked: row.get(3) };
        rows.iter().map(row).collect()
    }
}
