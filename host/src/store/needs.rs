//! What the gateway's statements need of the schema. `migrations/roles.sql` grants the same, and a test takes each
//! right away to see that its lack is noticed.

use arcyou_platform::database::{Needs, TableNeed};

/// Tables, columns, sequences and functions, with the right that each is used with.
pub const NEEDS: Needs = Needs {
    group_role: "arcyou_gateway",
    tables: &[
        TableNeed::columns("conversations", "SELECT", &["id", "read_only"]),
        TableNeed::columns("conversations", "SELECT", COUNTED),
        TableNeed::columns("conversations", "SELECT", &["created_at"]),
        TableNeed::columns("conversations", "UPDATE", COUNTED),
        TableNeed::columns("conversations", "SELECT", RETENTION),
        TableNeed::columns("conversations", "SELECT", &["purged_n", "purged_seq"]),
        TableNeed::columns("conversations", "UPDATE", &["read_only"]),
        TableNeed::columns("conversations", "UPDATE", RETENTION),
        TableNeed::columns("conversations", "INSERT", &["id"]),
        TableNeed::columns("conversations", "INSERT", RETENTION),
        TableNeed::table("conversations", "DELETE", &[]),
        TableNeed::table("participants", "SELECT", &["created_at"]),
        TableNeed::columns("participants", "UPDATE", &["role", "last_read_id"]),
        TableNeed::columns("participants", "INSERT", &["conversation_id", "user_id", "role"]),
        TableNeed::table("participants", "DELETE", &[]),
        TableNeed::columns(
            "api_keys",
            "SELECT",
            &["id", "name", "secret_sha256", "scopes", "sender_id", "rate", "revoked_at"],
        ),
        TableNeed::table("messages", "SELECT", &["id", "created_at"]),
        TableNeed::columns("messages", "INSERT", MESSAGE),
        TableNeed::columns("messages", "UPDATE", CHANGED),
        TableNeed::table("message_changes", "SELECT", &[]),
        TableNeed::table("message_changes", "INSERT", &[]),
        TableNeed::columns("message_changes", "UPDATE", &["reaction"]),
        TableNeed::table("message_reactions", "SELECT", &[]),
        TableNeed::table("message_reactions", "INSERT", &[]),
        TableNeed::table("message_reactions", "DELETE", &[]),
        TableNeed::table("held_messages", "SELECT", &["id", "created_at", "refused_at"]),
        TableNeed::columns("held_messages", "INSERT", HELD_MESSAGE),
        TableNeed::columns("held_messages", "UPDATE", &["refused_at"]),
        TableNeed::table("held_messages", "DELETE", &[]),
        TableNeed::columns("plugin_audit", "SELECT", DECISION),
        TableNeed::columns("plugin_audit", "INSERT", AUDIT),
        TableNeed::columns("plugin_audit", "UPDATE", &["reason"]),
        TableNeed::table("plugin_audit", "DELETE", &[]),
        TableNeed::columns("installation", "SELECT", &["event_key"]),
        TableNeed::columns("user_cutoffs", "SELECT", &["user_id", "not_before", "changed_in", "times"]),
        TableNeed::columns("user_cutoffs", "INSERT", &["user_id"]),
        TableNeed::columns("user_cutoffs", "UPDATE", &["times"]),
        TableNeed::table("user_blocks", "SELECT", &["user_id", "blocked_id", "created_at"]),
        TableNeed::columns("user_blocks", "INSERT", &["user_id", "blocked_id"]),
        TableNeed::table("user_blocks", "DELETE", &[]),
        TableNeed::columns("outbox", "SELECT", OUTBOX),
        TableNeed::columns(
            "outbox",
            "INSERT",
            &["id", "type", "conversation_id", "seq", "payload", "internal", "relay_after"],
        ),
        TableNeed::columns("outbox", "UPDATE", &["payload", "processed", "processed_at"]),
        TableNeed::table("outbox_corrections", "SELECT", &[]),
        TableNeed::table("outbox_corrections", "DELETE", &[]),
        TableNeed::table("outbox_corrections", "INSERT", &[]),
        TableNeed::columns("outbox_corrections", "UPDATE", &["payload"]),
    ],
    sequences: &["messages_id_seq", "held_messages_id_seq", "plugin_audit_id_seq", "outbox_id_seq"],
    // `arcyou_erase_user` is not among them: everybody may call these, so that rights on rows are enough for a gateway
    // to work. Without that one it erases nobody.
    functions: &[
        "store_message",
        "store_messages",
        "store_changes",
        "lock_conversations",
        "change_messages",
        "is_blocked",
        "erase_overtaken",
        "note_decisions",
        "note_kept",
        "reasons_lock",
        "release_edit",
        "mark_told",
        "mark_outbox",
        "read_messages",
        "read_changes",
        "read_events",
        "message_json",
        "creation_json",
        "change_json",
        "message_time",
        "disconnect_user",
        "read_of_user",
    ],
};

const COUNTED: &[&str] = &["last_seq", "message_count", "last_message_id", "last_message_at"];

const RETENTION: &[&str] = &["keep_days", "keep_messages"];

const MESSAGE: &[&str] = &[
    "id",
    "conversation_id",
    "seq",
    "n",
    "changed_seq",
    "sender_id",
    "body",
    "reply_to",
    "idempotency_key",
    "annotations",
    "decided_by",
    "created_at",
    "outbox_id",
];

const CHANGED: &[&str] =
    &["body", "annotations", "decided_by", "version", "changed_seq", "edited_at", "deleted_at", "reactions"];

const OUTBOX: &[&str] =
    &["id", "type", "conversation_id", "seq", "payload", "processed", "next_attempt_at", "parked_at", "created_at"];

const HELD_MESSAGE: &[&str] = &[
    "id",
    "conversation_id",
    "sender_id",
    "body",
    "reply_to",
    "edits",
    "edits_version",
    "idempotency_key",
    "annotations",
    "held_by",
    "reason",
];

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
