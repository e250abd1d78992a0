//! What the gateway's statements need of the schema. `migrations/roles.sql` grants the same, and a test takes each right
//! away to see that its lack is noticed.

use arcyou_platform::database::{Needs, TableNeed};

/// Tables, columns, sequences and functions, with the right that each is used with.
pub const NEEDS: Needs = Needs {
    group_role: "arcyou_gateway",
    tables: &[
        TableNeed::columns("conversations", "SELECT", &["id", "last_seq", "last_message_id", "last_message_at"]),
        TableNeed::columns("conversations", "UPDATE", &["last_seq", "last_message_id", "last_message_at"]),
        TableNeed::columns("participants", "SELECT", &["conversation_id", "user_id", "role", "last_read_id"]),
        TableNeed::columns("participants", "UPDATE", &["last_read_id"]),
        TableNeed::table("messages", "SELECT", &["id", "created_at"]),
        TableNeed::columns("messages", "INSERT", MESSAGE),
        TableNeed::table("held_messages", "SELECT", &["id", "created_at", "refused_at"]),
        TableNeed::columns("held_messages", "INSERT", HELD_MESSAGE),
        TableNeed::columns("held_messages", "UPDATE", &["refused_at"]),
        TableNeed::table("held_messages", "DELETE", &[]),
        TableNeed::columns("plugin_audit", "SELECT", DECISION),
        TableNeed::columns("plugin_audit", "INSERT", AUDIT),
        TableNeed::table("plugin_audit", "DELETE", &[]),
        TableNeed::columns("installation", "SELECT", &["event_key"]),
        TableNeed::columns("outbox", "SELECT", OUTBOX),
        TableNeed::columns("outbox", "INSERT", &["type", "conversation_id", "payload", "internal"]),
    ],
    sequences: &["messages_id_seq", "held_messages_id_seq", "plugin_audit_id_seq", "outbox_id_seq"],
    functions: &["store_messages", "read_messages", "read_events", "message_json", "message_time"],
};

const MESSAGE: &[&str] = &[
    "id",
    "conversation_id",
    "seq",
    "sender_id",
    "body",
    "idempotency_key",
    "annotations",
    "decided_by",
    "created_at",
];

const OUTBOX: &[&str] =
    &["id", "type", "conversation_id", "payload", "processed", "next_attempt_at", "parked_at", "created_at"];

const HELD_MESSAGE: &[&str] =
    &["id", "conversation_id", "sender_id", "body", "idempotency_key", "annotations", "held_by", "reason"];

/// Why a message was refused is not among them: only people ask.
const DECISION: &[&str] =
    &["id", "created_at", "conversation_id", "sender_id", "verdict", "plugin", "reviewer", "message_id", "held_id"];

const AUDIT: &[&str] = &[
    "conversation_id",
    "sender_id",
    "verdict",
    "plugin",
    "version",
    "sha256",
    "reviewer",
    "code",
    "reason",
    "message_id",
    "held_id",
];
