//! What a run leaves behind, collected for the checker.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use tokio_postgres::Row;

use crate::device::Log;
use crate::history::{Ask, At, Held, History, Made, Message, OutboxRow, Reactions};
use crate::run::{Absences, Run};

impl Run {
    pub async fn history(&self, logs: Vec<Log>, absences: Absences, lag: Duration) -> History {
        let participants = self.participants().await;
        let mut history = History {
            absences,
            messages: self.messages().await,
            made: self.made().await,
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
            history.changes.extend(log.changes);
            history.rooms.extend(log.rooms);
            history.streams.extend(log.streams);
            history.pages.extend(log.pages);
            history.unexpected.extend(log.unexpected);
        }
        for stream in &mut history.streams {
            stream.open &= participants.contains(&(stream.conversation, stream.user));
        }
        history.rooms.retain(|room| participants.contains(&(room.conversation, room.user)));
        history.leaks = self.leaks(&history).await;
        history
    }

    /// Texts of deleted messages that are anywhere in the database.
    async fn leaks(&self, history: &History) -> Vec<String> {
        // What a worker held when it was overtaken is corrected by whoever marks rows next.
        self.sql.query("SELECT mark_outbox('{}')", &[]).await;
        let tables = self.sql.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", &[]).await;
        let mut dump = String::new();
        for table in tables {
            let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {} AS t", table.get::<_, String>(0));
            dump.push_str(self.sql.query(&rows, &[]).await[0].get(0));
        }
        let deleted: HashMap<i64, &Message> = history
            .messages
            .iter()
            .filter(|message| message.body.is_null())
            .map(|message| (message.id, message))
            .collect();
        let sent = deleted.values().filter_map(|message| message.key.as_deref());
        let edited = history.changes.iter().filter(|change| deleted.contains_key(&change.message));
        let edited = edited.filter_map(|change| match &change.ask {
            Ask::Edit { key, .. } => Some(key.as_str()),
            _ => None,
        });
        // A longer key begins with a shorter one.
        let is_text = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
        let leaks = sent.chain(edited).filter(|key| {
            let text = format!("message {key}");
            dump.match_indices(&text).any(|(at, _)| is_text(&dump[at + text.len()..]))
        });
        leaks.map(str::to_owned).collect()
    }

    async fn messages(&self) -> Vec<Message> {
        let mut reactions: BTreeMap<i64, Reactions> = BTreeMap::new();
        let given = "SELECT message_id, user_id, reaction FROM message_reactions";
        for row in self.sql.query(given, &[]).await {
            reactions.entry(row.get(0)).or_default().insert((row.get(1), row.get(2)));
        }
        let select = "SELECT id, conversation_id, seq, sender_id, idempotency_key, coalesce(body, 'null')::text,
            (extract(epoch FROM created_at) * 1000000)::bigint, version::bigint, reply_to
            FROM messages";
        let rows = self.sql.query(select, &[]).await;
        let message = |row: &Row| Message {
            id: row.get(0),
            conversation: row.get(1),
            seq: row.get(2),
            sender: row.get(3),
            key: row.get(4),
            reply_to: row.get(8),
            body: serde_json::from_str(row.get(5)).unwrap(),
            version: row.get(7),
            reactions: reactions.get(&row.get(0)).cloned().unwrap_or_default(),
            created: self.at(row.get(6)),
        };
        rows.iter().map(message).collect()
    }

    async fn made(&self) -> Vec<Made> {
        let select =
            "SELECT conversation_id, seq, type, message_id, user_id, idempotency_key, version::bigint, reaction
            FROM message_changes";
        let rows = self.sql.query(select, &[]).await;
        let made = |row: &Row| Made {
            conversation: row.get(0),
            seq: row.get(1),
            kind: row.get(2),
            message: row.get(3),
            user: row.get(4),
            key: row.get(5),
            version: row.get(6),
            reaction: row.get(7),
        };
        rows.iter().map(made).collect()
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
