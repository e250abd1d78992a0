//! The gateway's SQL for users who are exported and erased, under the rules of [`super::sql`].

/// Opens a transaction for [`ERASE_USER`]: conversations that are busy are worth waiting for.
pub(super) const BEGIN_ERASE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '8s'; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// A part of an erasure: `$1` user, `$2` after this conversation and `$3` this `seq` in it (null: from the beginning),
/// `$4` messages to walk. No conversation: all is done.
pub(super) const ERASE_USER: &str =
    "SELECT after_conversation, after_seq, deleted FROM arcyou_erase_user($1, $2, $3, $4)";

/// A user, as an export tells: `$1`.
pub(super) const EXPORT_USER: &str = "
SELECT json_build_object('type', 'user', 'user_id', $1::uuid, 'exported_at', message_time(now()),
    'disconnected_at', (SELECT message_time(not_before) FROM user_cutoffs WHERE user_id = $1))::text";

/// What a user participates in, as an export tells: `$1` user, `$2` after this conversation, `$3` rows.
pub(super) const EXPORT_PARTICIPATIONS: &str = "
SELECT conversation_id, json_build_object('type', 'participation', 'conversation_id', conversation_id, 'role', role,
    'last_read_id', last_read_id, 'created_at', message_time(created_at))::text
FROM participants WHERE user_id = $1 AND ($2::uuid IS NULL OR conversation_id > $2)
ORDER BY conversation_id LIMIT $3";

/// Whom a user has blocked, as an export tells: `$1` user, `$2` after this one, `$3` rows.
pub(super) const EXPORT_BLOCKS: &str = "
SELECT blocked_id, json_build_object('type', 'block', 'blocked_id', blocked_id, 'created_at', message_time(created_at))::text
FROM user_blocks WHERE user_id = $1 AND ($2::uuid IS NULL OR blocked_id > $2)
ORDER BY blocked_id LIMIT $3";

/// What a user wrote and gave: `$1` user, `$2` after this conversation and `$3` this `seq` in it, `$4` messages to
/// walk, `$5` bytes at most. A last row without `json`: where the walk stopped.
pub(super) const READ_OF_USER: &str =
    "SELECT conversation_id, seq, is_reaction, json FROM read_of_user($1, $2, $3, $4, $5)";

/// A user's held messages, as an export tells: `$1` user, `$2` after this id, `$3` rows.
pub(super) const EXPORT_HELD: &str = "
SELECT id, json_build_object('type', 'held_message', 'id', id, 'conversation_id', conversation_id, 'body', body,
    'reply_to', reply_to, 'edits', edits, 'held_by', held_by, 'reason', reason, 'created_at', message_time(created_at),
    'refused_at', message_time(refused_at))::text
FROM held_messages WHERE sender_id = $1 AND id > $2 ORDER BY id LIMIT $3";

/// What plugins and reviewers did to a user's messages, as an export tells: `$1` user, `$2` after this id, `$3` rows.
pub(super) const EXPORT_AUDIT: &str = "
SELECT id, json_build_object('type', 'audit', 'id', id, 'conversation_id', conversation_id, 'verdict', verdict,
    'plugin', plugin, 'reviewer', reviewer, 'message_id', message_id, 'held_id', held_id,
    'created_at', message_time(created_at))::text
FROM plugin_audit WHERE sender_id = $1 AND id > $2 ORDER BY id LIMIT $3";
