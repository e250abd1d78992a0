//! Plain `ws` with an `INSERT` and Redis (`tests/js/plain-ws.mjs`): what a team writes before it looks for a gateway.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::stack::Database;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS plain_messages (
    id bigserial PRIMARY KEY, conversation_id uuid NOT NULL, sender_id uuid NOT NULL, body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now())";

/// A process of it.
pub struct PlainWs {
    child: Child,
    pub port: u16,
}

impl PlainWs {
    /// Starts one on this database, behind PgBouncer as a gateway is.
    pub async fn start(database: &Database<'_>) -> Self {
        database.sql.batch_execute(TABLE).await.unwrap();
        let mut command = Command::new("node");
        command
            .arg("plain-ws.mjs")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js"))
            .env("DATABASE_URL", database.url())
            .env("REDIS_URL", database.servers.redis.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("plain-ws.mjs did not start: npm ci in host/tests/js") }
    }
}

impl Drop for PlainWs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
