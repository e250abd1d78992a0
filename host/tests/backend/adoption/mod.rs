//! A database of the system before this one becomes ours.

mod interrupted;
mod refused;
mod whole;

use std::process::{Output, Stdio};

use tokio::process::Command;
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use crate::support::{World, connect};

const SEED: &str = include_str!("seed.sql");

/// A database of that system, with an owner who may do nothing else.
pub struct Before {
    pub world: World,
    /// Its owner, on a connection of its own.
    pub sql: Sql,
    pub url: String,
}

/// What it has.
pub struct Sizes {
    pub conversations: i64,
    pub messages: i64,
    /// The newest of them, which no worker has relayed.
    pub waiting: i64,
}

impl Before {
    /// Three participants in each conversation, and messages in turn. Each was told as that system tells it.
    pub async fn with(sizes: Sizes) -> Self {
        let before = Self::empty("public").await;
        before.fill(&sizes).await;
        before
    }

    /// Its tables alone, in this schema.
    pub async fn empty(schema: &str) -> Self {
        // The group roles exist for all databases of this server.
        World::new().await.grant_rights().await;
        let world = World::bare("UTF8").await;
        let login = world.login(None).await;
        let prepare = format!(
            "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; ALTER SCHEMA \"{schema}\" OWNER TO {0};
             ALTER ROLE {0} SET search_path = \"{schema}\"; SET search_path = \"{schema}\"",
            login.name
        );
        world.sql.batch_execute(&prepare).await.unwrap();
        let sql = login.connect().await;
        sql.batch_execute(SEED).await.unwrap();
        Self { world, url: login.url().to_owned(), sql }
    }

    pub async fn fill(&self, sizes: &Sizes) {
        let Sizes { conversations, messages, waiting } = sizes;
        // The second pair of messages was stored the other way round, as happens to transactions at the same time.
        let fill = format!(
            "INSERT INTO conversations (id, created_at)
                SELECT md5('c' || n)::uuid, '2024-05-01' FROM generate_series(1, {conversations}) AS n;
             INSERT INTO participants (conversation_id, user_id, role, created_at)
                SELECT md5('c' || n)::uuid, md5('u' || n + u)::uuid, CASE u WHEN 0 THEN 'owner' ELSE 'member' END, '2024-05-02'
                FROM generate_series(1, {conversations}) AS n, generate_series(0, 2) AS u;
             INSERT INTO messages (conversation_id, sender_id, body, created_at)
                SELECT md5('c' || 1 + n % {conversations})::uuid, md5('u' || 1 + n % {conversations} + n % 3)::uuid,
                    jsonb_build_object('text', 'message ' || n),
                    timestamp '2024-05-03 12:00:00.123456' + (n # 1) * interval '1 second'
                FROM generate_series(1, {messages}) AS n;
             INSERT INTO outbox (type, conversation_id, payload, processed, processed_at, created_at)
                SELECT 'message.created', conversation_id, to_jsonb(m), id <= {messages} - {waiting},
                    CASE WHEN id <= {messages} - {waiting} THEN created_at END, created_at
                FROM messages m ORDER BY id"
        );
        self.sql.batch_execute(&fill).await.unwrap();
    }

    /// `arcyou-gateway migrate …` as the owner.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
        command.env_clear().env("DATABASE_URL", &self.url).arg("migrate").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The same until it ends: whether it succeeded, and all that it said.
    pub async fn migrate(&self, arguments: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().await.unwrap();
        let said = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (status.success(), said)
    }

    /// What the old tables say, whatever their names are: it must never change.
    pub async fn digest(&self, prefix: &str) -> String {
        let digest = format!(
            "SELECT concat_ws(' ',
                (SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM {prefix}messages m),
                (SELECT md5(string_agg(p::text, '' ORDER BY conversation_id, user_id)) FROM {prefix}participants p),
                (SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM {prefix}conversations c),
                (SELECT md5(string_agg(o::text, '' ORDER BY id)) FROM {prefix}outbox o))"
        );
        self.sql.query_one(&digest, &[]).await.unwrap().get(0)
    }

    pub async fn count(&self, query: &str) -> i64 {
        self.sql.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Fails unless all of `sizes` is there, once, in our form.
    pub async fn is_whole(&self, sizes: &Sizes) {
        let Sizes { conversations, messages, waiting } = sizes;
        for (query, expected) in [
            ("conversations", *conversations),
            ("conversations c WHERE created_at = '2024-05-01Z' AND (last_seq, message_count) = (SELECT count(*), max(seq)
                FROM messages WHERE conversation_id = c.id) AND last_message_id = (SELECT max(id) FROM messages WHERE conversation_id = c.id)", *conversations),
            ("participants", *conversations * 3),
            ("participants p JOIN conversations c ON c.id = conversation_id WHERE last_read_id = last_message_id
                AND p.created_at = '2024-05-02Z' AND role = CASE user_id WHEN md5('u1')::uuid THEN 'owner' ELSE role END", *conversations * 3),
            ("participants WHERE role = 'owner'", *conversations),
            ("messages", *messages),
            ("messages WHERE body ->> 'text' = 'message ' || id AND changed_seq = seq AND n = seq AND version = 1
                AND conversation_id = md5('c' || 1 + id % (SELECT count(*) FROM conversations))::uuid
                AND created_at = timestamptz '2024-05-03 12:00:00.123456Z' + (id::integer # 1) * interval '1 second'
                AND edited_at IS NULL AND deleted_at IS NULL AND idempotency_key IS NULL", *messages),
            ("(SELECT seq - row_number() OVER (PARTITION BY conversation_id ORDER BY id) AS off FROM messages) s WHERE off <> 0", 0),
            ("outbox", *waiting),
            ("outbox o JOIN messages m ON m.outbox_id = o.id WHERE o.payload = creation_json(m) AND o.seq = m.seq AND o.internal
                AND NOT o.processed AND o.parked_at IS NULL AND o.error IS NULL AND o.id = m.id", *waiting),
            ("pg_trigger WHERE tgname = 'arcyou_adoption' OR tgname = 'participants_added' AND tgenabled <> 'O'", 0),
            ("pg_class WHERE relname LIKE 'adopting%' OR relname LIKE 'before_arcyou%' OR relname = 'arcyou_adoption'", 0),
            ("pg_proc WHERE proname LIKE 'arcyou\\_adopt%' OR proname LIKE 'arcyou\\_compare%'", 0),
        ] {
            assert_eq!(self.count(&format!("SELECT count(*) FROM {query}")).await, expected, "{query}");
        }
    }
}

/// Another connection of the owner.
pub async fn another(before: &Before) -> Sql {
    connect(&before.url).await
}

/// The first conversation, and its owner.
pub async fn first_room(before: &Before) -> (Uuid, Uuid) {
    let row = before.sql.query_one("SELECT md5('c1')::uuid, md5('u1')::uuid", &[]).await.unwrap();
    (row.get(0), row.get(1))
}
