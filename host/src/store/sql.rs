//! All SQL of the gateway. Every statement runs unnamed through PgBouncer in transaction mode, and answers in plain
//! types.

/// Locks the conversations of a batch, judges its messages and stores them, in a transaction of its own: `$1`
/// conversation, `$2` sender, `$3` body, `$4` what it replies to, `$5` idempotency key, `$6` annotations, `$7` deciding
/// plugin, `$8` why it is held (null: it is not), `$9` whether to wait for conversations that somebody else holds,
/// `$10` the plugin's version, `$11` its file's digest (null: what it did leaves no audit row), `$12` for how many
/// seconds workers leave the rows of the outbox to this gateway. One row for each message, in order.
/// `migrations/README.md` says why the statements themselves stand in the schema.
pub(super) const STORE_MESSAGES: &str = "SELECT status, id, seq, created_at, outbox_id, payload
FROM store_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// The same for a batch that has other changes too: `$13` the events' types, `$14` the messages that are changed, `$15`
/// the versions that are to be replaced, `$16` reactions, `$17` the roles that delete the messages of others, `$18` for
/// how many seconds a message can be edited (null: for ever), `$19` how many different reactions a message can have.
pub(super) const STORE_CHANGES: &str = "
SELECT status, id, seq, created_at, version, count, outbox_id, payload
FROM store_changes($13, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $14, $15, $16, $17, $18, $19) ORDER BY place";

/// Stores a few messages as `STORE_MESSAGES` does, one after the other: `$1` for how many seconds workers leave them;
/// then of each conversation, sender, body, what it replies to, key, annotations and the plugin that decided. The
/// columns of each come as an array of texts. None: so many cost less together.
pub(super) fn store_few(messages: usize) -> Option<&'static str> {
    match messages {
        1 => Some("SELECT store_message($2, $3, $4, $5, $6, $7, $8, $1)"),
        2 => Some(
            "SELECT store_message($2, $3, $4, $5, $6, $7, $8, $1), \
             store_message($9, $10, $11, $12, $13, $14, $15, $1)",
        ),
        3 => Some(
            "SELECT store_message($2, $3, $4, $5, $6, $7, $8, $1), \
             store_message($9, $10, $11, $12, $13, $14, $15, $1), \
             store_message($16, $17, $18, $19, $20, $21, $22, $1)",
        ),
        _ => None,
    }
}

/// Marks rows of the outbox that this gateway has told of: `$1`. Their transaction does not wait for the disk: a server
/// that crashes may forget the marks, and workers tell of the rows once more.
pub(super) const MARK_TOLD: &str = "SELECT set_config('synchronous_commit', 'off', true), mark_told($1)::text";

/// Around what a stricter isolation level would fail, where that may be the default.
pub(super) const BEGIN_READ_COMMITTED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The same for a change that may meet locks of others. It gives up before its caller does: what was answered to have
/// failed must not happen later.
pub(super) const BEGIN_CHANGE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '3s'";

/// Whether the server takes no writes: a standby, or a primary that was fenced off.
pub(super) const READ_ONLY: &str = "SELECT current_setting('transaction_read_only')::bool";

/// The newest row, and the oldest that no worker has relayed with its age in seconds: `$1` not before this id. Rows
/// that are tried again for reasons of their own do not count. Walks the index of claims, like a worker.
pub(super) const OUTBOX_PROGRESS: &str = "
SELECT coalesce((SELECT max(id) FROM outbox), 0) AS newest, oldest.id, oldest.age FROM (SELECT) AS one LEFT JOIN LATERAL (
    SELECT id, greatest(extract(epoch FROM clock_timestamp() - created_at), 0)::float8 AS age FROM outbox
    WHERE NOT processed AND parked_at IS NULL AND next_attempt_at IS NULL AND id >= $1 ORDER BY id LIMIT 1
) AS oldest ON true";

/// What became of an earlier message with this key, with its body as it stands if that may be another one than was
/// sent: `$1` conversation, `$2` sender, `$3` key.
pub(super) const FIND_BY_KEY: &str = "
SELECT 'stored before' AS status, id, seq, message_time(created_at) AS created_at,
    CASE WHEN decided_by IS NOT NULL OR version > 1 THEN body::text END AS body
FROM messages WHERE conversation_id = $1 AND sender_id = $2 AND idempotency_key = $3
UNION ALL
SELECT 'held before', id, NULL, NULL, NULL
FROM held_messages WHERE conversation_id = $1 AND sender_id = $2 AND edits IS NULL AND idempotency_key = $3
LIMIT 1";

/// The same of an earlier edit: `$1` conversation, `$2` user, `$3` key.
pub(super) const FIND_EDIT_BY_KEY: &str = "
SELECT c.message_id, NULL AS held_id, c.seq, message_time(c.created_at) AS created_at, c.version,
    CASE WHEN m.decided_by IS NOT NULL OR m.version > c.version THEN m.body::text END AS body
FROM message_changes c JOIN messages m ON m.conversation_id = c.conversation_id AND m.id = c.message_id
WHERE c.conversation_id = $1 AND c.user_id = $2 AND c.type = 'message.edited' AND c.idempotency_key = $3
UNION ALL
SELECT edits, id, NULL, NULL, NULL, NULL
FROM held_messages WHERE conversation_id = $1 AND sender_id = $2 AND edits IS NOT NULL AND idempotency_key = $3
LIMIT 1";

/// A message as it stands: `$1` conversation, `$2` its id.
pub(super) const STANDING_MESSAGE: &str =
    "SELECT sender_id, version, body::text AS body FROM messages WHERE conversation_id = $1 AND id = $2";

/// A user's participation: `$1` conversation, `$2` user.
pub(super) const STANDING: &str = "
SELECT p.role, p.last_read_id, c.last_seq, c.purged_seq FROM participants p JOIN conversations c ON c.id = p.conversation_id
WHERE p.conversation_id = $1 AND p.user_id = $2";

/// The same for several: `$1` conversations, `$2` user.
pub(super) const STANDINGS: &str = "
SELECT p.role, p.last_read_id, c.last_seq, c.purged_seq, c.id FROM participants p JOIN conversations c ON c.id = p.conversation_id
WHERE p.conversation_id = ANY($1) AND p.user_id = $2";

/// The places of messages, as `seq`s: `$1` their conversations, `$2` their ids, `$3` so many messages are looked at for
/// one that was purged. Its place is that of the last one before it, or 0 if there is none so near to the end. No row
/// for one that is newer than its conversation's newest.
pub(super) const SEQS_OF: &str = "
SELECT r.conversation_id, coalesce(
    (SELECT m.seq FROM messages m WHERE m.id = r.id AND m.conversation_id = r.conversation_id),
    (SELECT seq FROM (SELECT m.id, m.seq FROM messages m WHERE m.conversation_id = r.conversation_id
        ORDER BY m.seq DESC LIMIT $3) AS newest WHERE newest.id < r.id ORDER BY seq DESC LIMIT 1),
    0)
FROM unnest($1::uuid[], $2::int8[]) AS r(conversation_id, id)
JOIN conversations c ON c.id = r.conversation_id AND c.last_message_id >= r.id";

/// Disconnects a user: `$1`. Answers since when.
pub(super) const DISCONNECT_USER: &str = "SELECT message_time(disconnect_user($1))";

/// The disconnections of these users: `$1`.
pub(super) const CUTOFFS_OF: &str = "
SELECT user_id, extract(epoch FROM not_before)::float8 AS not_before FROM user_cutoffs WHERE user_id = ANY($1)";

/// Disconnections by the transactions that wrote them: after `$1` transaction, `$2` user, `$3` rows at most. Every row
/// has the oldest transaction that still runs; without any disconnection one row has that alone.
pub(super) const CUTOFFS_AFTER: &str = "
SELECT now_running.oldest AS oldest_running, c.user_id, extract(epoch FROM c.not_before)::float8 AS not_before, c.changed_in
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 AS oldest) AS now_running LEFT JOIN LATERAL (
    SELECT user_id, not_before, changed_in FROM user_cutoffs WHERE (changed_in, user_id) > ($1, $2)
    ORDER BY changed_in, user_id LIMIT $3
) AS c ON true
ORDER BY c.changed_in, c.user_id";

/// A page of messages: `$1` conversation, `$2` after this `seq`, oldest first, or (if null) `$3` before this one,
/// newest first, `$4` rows and `$5` bytes at most, `$6` who reads, `$7` of this message and its replies (null: of all).
/// A last row without `json`: there are more.
pub(super) const READ_MESSAGES: &str = "SELECT seq, json FROM read_messages($1, $2, $3, $4, $5, $6, $7)";

/// A page of changes as they are told now, oldest first: `$1` conversation, `$2` after this `seq`, `$3` rows and `$4`
/// bytes at most. A last row without `payload`: there are more. A first row without `type`: what is up to its `seq` was
/// purged.
pub(super) const READ_CHANGES: &str = "SELECT seq, type, payload FROM read_changes($1, $2, $3, $4)";

/// Moves a reader's mark forward: `$1` conversation, `$2` user, `$3` message id, `$4` whether to tell the conversation.
/// A mark is a place: the message may have been deleted since.
pub(super) const MARK_READ: &str = "
WITH reader AS (
    SELECT p.last_read_id, $3 <= c.last_message_id AS known
    FROM participants p JOIN conversations c ON c.id = p.conversation_id
    WHERE p.conversation_id = $1 AND p.user_id = $2
), moved AS (
    UPDATE participants SET last_read_id = $3
    WHERE conversation_id = $1 AND user_id = $2 AND last_read_id < $3 AND (SELECT known FROM reader)
    RETURNING last_read_id
), told AS (
    INSERT INTO outbox (type, conversation_id, payload, internal)
    SELECT 'message.read', $1, jsonb_build_object('user_id', $2::uuid, 'last_read_id', last_read_id), true FROM moved
    WHERE $4
)
SELECT known, coalesce((SELECT last_read_id FROM moved), reader.last_read_id) AS last_read_id,
    EXISTS (SELECT FROM moved) AS moved
FROM reader";

/// Tells conversations of read marks that have moved: `$1` conversations, `$2` users.
pub(super) const TELL_READ_MARKS: &str = "
INSERT INTO outbox (type, conversation_id, payload, internal)
SELECT 'message.read', conversation_id, jsonb_build_object('user_id', user_id, 'last_read_id', last_read_id), true
FROM unnest($1::uuid[], $2::uuid[]) AS r(conversation_id, user_id) JOIN participants USING (conversation_id, user_id)";

/// Which conversations have gone beyond a `seq`: `$1` conversations, `$2` their last delivered `seq`.
pub(super) const BEHIND: &str = "
SELECT c.id FROM unnest($1::uuid[], $2::int8[]) AS r(id, delivered)
JOIN conversations c ON c.id = r.id AND c.last_seq > r.delivered";

/// Opens a transaction for [`READ_EVENTS`].
pub(super) const BEGIN_READ_EVENTS: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = '5s'";

/// Events other than changes: `$1` conversations, `$2` after this outbox id, `$3` rows and `$4` bytes at most. A last
/// row without `payload`: there are more.
pub(super) const READ_EVENTS: &str = "SELECT id, type, conversation_id, payload FROM read_events($1, $2, $3, $4)";

/// The newest outbox id there is, or 0.
pub(super) const NEWEST_OUTBOX_ID: &str = "SELECT coalesce(max(id), 0) FROM outbox";

/// Members whose role is another by now: `$1` conversations, `$2` users, `$3` the roles that they are known by.
pub(super) const CHANGED_ROLES: &str = "
SELECT r.conversation_id, r.user_id, p.role
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS r(conversation_id, user_id, role)
LEFT JOIN participants p ON p.conversation_id = r.conversation_id AND p.user_id = r.user_id
WHERE p.role IS DISTINCT FROM r.role";

/// Conversations that do not exist: `$1` conversations.
pub(super) const ABSENT: &str = "
SELECT r.id FROM unnest($1::uuid[]) AS r(id) WHERE NOT EXISTS (SELECT FROM conversations c WHERE c.id = r.id)";

/// Pairs that are participants no longer: `$1` conversations, `$2` users.
pub(super) const NOT_PARTICIPANTS: &str = "
SELECT r.conversation_id, r.user_id FROM unnest($1::uuid[], $2::uuid[]) AS r(conversation_id, user_id)
WHERE NOT EXISTS (SELECT FROM participants p WHERE p.conversation_id = r.conversation_id AND p.user_id = r.user_id)";

/// Held messages that wait for a decision, oldest first: `$1` of this conversation (null: all), `$2` after this id,
/// `$3` limit.
pub(super) const HELD: &str = "
SELECT h.id, h.conversation_id, h.sender_id, h.body::text AS body, h.edits, h.held_by, h.reason,
    message_time(h.created_at) AS created_at,
    EXISTS (SELECT FROM participants p WHERE p.conversation_id = h.conversation_id AND p.user_id = h.sender_id)
        AS sender_participates
FROM held_messages h
WHERE h.refused_at IS NULL AND h.id > $2 AND ($1 IS NULL OR h.conversation_id = $1) ORDER BY h.id LIMIT $3";

/// Decisions on held messages, newest first: `$1` of this conversation (null: all), `$2` before this id (null: from the
/// newest), `$3` of this held message (null: all), `$4` limit.
pub(super) const DECISIONS: &str = "
SELECT id, message_time(created_at) AS decided_at, held_id, verdict, reviewer, conversation_id, sender_id, plugin AS held_by, message_id
FROM plugin_audit
WHERE reviewer IS NOT NULL AND ($1 IS NULL OR conversation_id = $1) AND ($2 IS NULL OR id < $2) AND ($3 IS NULL OR held_id = $3)
ORDER BY id DESC LIMIT $4";

/// Opens a transaction for [`RELEASE`]: a person waits for it, and conversations that are busy are worth waiting for.
pub(super) const BEGIN_RELEASE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// How many messages wait for a reviewer, and for how many seconds the oldest has. Their ids follow their times.
pub(super) const WAITING_FOR_REVIEW: &str = "
SELECT (SELECT count(*) FROM held_messages WHERE refused_at IS NULL) AS count,
    coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - created_at), 0) FROM held_messages
        WHERE refused_at IS NULL ORDER BY id LIMIT 1), 0)::float8 AS oldest";

/// Locks the conversation of a held message: `$1` its id.
pub(super) const LOCK_HELD: &str = "
SELECT FROM conversations WHERE id = (SELECT conversation_id FROM held_messages WHERE id = $1) FOR NO KEY UPDATE";

/// Moves a held message, if it is no held edit, to the end of its conversation, under the lock taken before it, and
/// notes who decided: `$1` the held message, `$2` the reviewer.
pub(super) const RELEASE: &str = "
WITH released AS (
    DELETE FROM held_messages h USING conversations c
    WHERE h.id = $1 AND h.edits IS NULL AND h.refused_at IS NULL AND c.id = h.conversation_id
    RETURNING h.*, c.last_seq + 1 AS seq, c.message_count + 1 AS n,
        greatest((SELECT clock_timestamp()), c.last_message_at) AS released_at
), inserted AS (
    INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body, reply_to, idempotency_key, annotations,
        decided_by, created_at, outbox_id)
    SELECT conversation_id, seq, n, seq, sender_id, body, reply_to, idempotency_key, annotations, held_by, released_at,
        nextval('outbox_id_seq')
    FROM released
    RETURNING *, creation_json(messages) AS payload
), counted AS (
    UPDATE conversations c SET last_seq = m.seq, message_count = m.n, last_message_id = m.id, last_message_at = m.created_at
    FROM inserted m WHERE c.id = m.conversation_id
), relayed AS (
    INSERT INTO outbox (id, type, conversation_id, seq, payload, internal)
    SELECT outbox_id, 'message.created', conversation_id, seq, payload, true FROM inserted
), noted AS (
    INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, reviewer, reason, message_id, held_id)
    SELECT conversation_id, r.sender_id, 'released', held_by, $2, reason, m.id, r.id
    FROM released r JOIN inserted m USING (conversation_id)
)
SELECT id, seq, message_time(created_at) AS created_at FROM inserted";

/// The same for a held edit, which its message gets.
pub(super) const RELEASE_EDIT: &str = "
WITH decided AS MATERIALIZED (
    SELECT * FROM release_edit($1)
), noted AS (
    INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, reviewer, reason, message_id, held_id)
    SELECT conversation_id, sender_id, 'released', held_by, $2, reason, id, $1 FROM decided
)
SELECT id, seq, created_at FROM decided";

/// Decides that a held message is never shown, and notes who decided: `$1` its id, `$2` the reviewer.
pub(super) const REFUSE: &str = "
WITH refused AS (
    UPDATE held_messages SET refused_at = now() WHERE id = $1 AND refused_at IS NULL
    RETURNING id, conversation_id, sender_id, held_by, reason
), noted AS (
    INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, reviewer, reason, held_id)
    SELECT conversation_id, sender_id, 'refused', held_by, $2, reason, id FROM refused
)
SELECT FROM refused";

/// The held messages that were refused first, where that is long enough ago: `$1` seconds, `$2` rows at most.
pub(super) const REFUSED_PRUNE: &str = "
DELETE FROM held_messages WHERE id = ANY (ARRAY(
    SELECT id FROM held_messages WHERE refused_at < now() - make_interval(secs => $1)
    ORDER BY refused_at LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id";

/// Messages that plugins kept from being stored: `$1` conversations, `$2` senders, `$3` verdicts, `$4` plugins, `$5`
/// their versions, `$6` their digests, `$7` codes, `$8` reasons, `$9` how many seconds ago they came.
pub(super) const AUDIT_KEPT: &str = "SELECT note_kept($1, $2, $3, $4, $5, $6, $7, $8, $9)::text";

/// The places in the list of those whose sender had a message deleted since then, or whose conversation is gone, or has
/// purged all that was said by then: `$1` conversations, `$2` senders, `$3` times, in seconds since 1970.
pub(super) const DELETED_SINCE: &str = "
SELECT quoted.ord FROM unnest($1::uuid[], $2::uuid[], $3::float8[]) WITH ORDINALITY
    AS quoted (conversation_id, sender_id, time, ord)
WHERE NOT EXISTS (SELECT FROM conversations WHERE id = quoted.conversation_id AND (purged_n = 0
        OR to_timestamp(quoted.time) >= (SELECT m.created_at FROM messages m WHERE m.conversation_id = conversations.id
            ORDER BY m.seq LIMIT 1)))
    OR EXISTS (
        SELECT FROM message_changes c JOIN messages m ON m.conversation_id = c.conversation_id AND m.id = c.message_id
        WHERE c.conversation_id = quoted.conversation_id AND c.type = 'message.deleted'
            AND c.created_at >= to_timestamp(quoted.time) AND m.sender_id = quoted.sender_id)";

/// The oldest audit rows, where they are old enough: `$1` seconds, `$2` rows at most.
pub(super) const AUDIT_PRUNE: &str = "
DELETE FROM plugin_audit WHERE id = ANY (ARRAY(
    SELECT id FROM (SELECT id, created_at FROM plugin_audit ORDER BY id LIMIT $2) AS oldest
    WHERE created_at < now() - make_interval(secs => $1)))
RETURNING id";

/// A key of a service that is not revoked: `$1` its id.
pub(super) const API_KEY: &str = "
SELECT name, secret_sha256, scopes, sender_id, rate FROM api_keys WHERE id = $1 AND revoked_at IS NULL";

/// A new key: `$1` its id, `$2` name, `$3` its secret's digest, `$4` scopes, `$5` the user that it acts for, `$6` its
/// rate.
pub(super) const API_KEY_INSERT: &str = "
INSERT INTO api_keys (id, name, secret_sha256, scopes, sender_id, rate) VALUES ($1, $2, $3, $4, $5, $6)";

/// All keys.
pub(super) const API_KEYS: &str = "
SELECT id, name, scopes, sender_id, rate, message_time(created_at), message_time(revoked_at) FROM api_keys
ORDER BY created_at DESC, id";

/// Ends a key: `$1` its id.
pub(super) const API_KEY_REVOKE: &str = "
UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id";

/// Conversations by id: `$1` after this one, `$2` rows.
pub(super) const CONVERSATIONS: &str = "
SELECT id, last_seq, message_count, last_message_id, message_time(last_message_at), message_time(created_at), read_only,
    keep_days, keep_messages, purged_n
FROM conversations WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2";

/// One conversation: `$1` its id.
pub(super) const CONVERSATION: &str = "
SELECT id, last_seq, message_count, last_message_id, message_time(last_message_at), message_time(created_at), read_only,
    keep_days, keep_messages, purged_n
FROM conversations WHERE id = $1";

/// A new conversation, unless its id is taken: `$1` its id, `$2` participants, `$3` their roles, `$4` for how many days
/// messages are kept, `$5` how many of them.
pub(super) const CONVERSATION_INSERT: &str = "
WITH made AS (
    INSERT INTO conversations (id, keep_days, keep_messages) VALUES ($1, $4, $5) ON CONFLICT (id) DO NOTHING
    RETURNING id, last_seq, message_count, last_message_id, last_message_at, created_at, read_only, keep_days,
        keep_messages, purged_n
), added AS (
    INSERT INTO participants (conversation_id, user_id, role)
    SELECT made.id, new.user_id, new.role FROM made, unnest($2::uuid[], $3::text[]) AS new (user_id, role)
)
SELECT id, last_seq, message_count, last_message_id, message_time(last_message_at), message_time(created_at), read_only,
    keep_days, keep_messages, purged_n
FROM made";

/// Changes a conversation: `$1` its id, `$2` whether it is read-only (null: as it is), `$4` for how many days messages
/// are kept, if `$3`, and `$6` how many of them, if `$5`.
pub(super) const CONVERSATION_CHANGE: &str = "
UPDATE conversations SET read_only = coalesce($2, read_only), keep_days = CASE WHEN $3 THEN $4 ELSE keep_days END,
    keep_messages = CASE WHEN $5 THEN $6 ELSE keep_messages END
WHERE id = $1
RETURNING id, last_seq, message_count, last_message_id, message_time(last_message_at), message_time(created_at), read_only,
    keep_days, keep_messages, purged_n";

/// The end of a conversation: `$1` its id.
pub(super) const CONVERSATION_DELETE: &str = "DELETE FROM conversations WHERE id = $1 RETURNING id";

/// Participants by user: `$1` conversation, `$2` after this user, `$3` rows.
pub(super) const PARTICIPANTS: &str = "
SELECT user_id, role, last_read_id, message_time(created_at) FROM participants
WHERE conversation_id = $1 AND ($2::uuid IS NULL OR user_id > $2)
ORDER BY user_id LIMIT $3";

/// Adds participants or changes their roles: `$1` conversation, `$2` users, `$3` roles. Whether there is such a
/// conversation, how many were added and how many changed. (A row that is inserted has no `xmax`.)
pub(super) const PARTICIPANTS_PUT: &str = "
WITH room AS (
    SELECT id FROM conversations WHERE id = $1 FOR KEY SHARE
), put AS (
    INSERT INTO participants AS p (conversation_id, user_id, role)
    SELECT room.id, new.user_id, new.role FROM room, unnest($2::uuid[], $3::text[]) AS new (user_id, role)
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET role = excluded.role WHERE p.role <> excluded.role
    RETURNING p.xmax = 0 AS is_new
)
SELECT EXISTS (SELECT FROM room), count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM put";

/// Who of these has which role: `$1` conversations, `$2` their users. The limit keeps it a look into an index for each.
pub(super) const ROLES: &str = "
SELECT asked.conversation_id, asked.user_id, p.role
FROM unnest($1::uuid[], $2::uuid[]) AS asked (conversation_id, user_id)
CROSS JOIN LATERAL (SELECT role FROM participants
    WHERE conversation_id = asked.conversation_id AND user_id = asked.user_id LIMIT 1) p";

/// The end of a participation: `$1` conversation, `$2` user. It waits for what is being stored, so that nothing of the
/// user is stored after the answer.
pub(super) const PARTICIPANT_REMOVE: &str = "
WITH room AS MATERIALIZED (
    SELECT id FROM conversations WHERE id = $1 FOR NO KEY UPDATE
)
DELETE FROM participants p USING room WHERE p.conversation_id = room.id AND p.user_id = $2 RETURNING p.user_id";

/// What a user participates in, by conversation: `$1` user, `$2` after this one, `$3` rows.
pub(super) const MEMBERSHIPS: &str = "
SELECT p.conversation_id, p.role, p.last_read_id, c.last_seq, c.message_count, c.last_message_id,
    message_time(c.last_message_at)
FROM participants p JOIN conversations c ON c.id = p.conversation_id
WHERE p.user_id = $1 AND ($2::uuid IS NULL OR p.conversation_id > $2)
ORDER BY p.conversation_id LIMIT $3";

/// A message as it stands: `$1` conversation, `$2` its id, `$3` who looks.
pub(super) const MESSAGE: &str = "
SELECT m.version, page.json FROM messages m
CROSS JOIN LATERAL read_messages(m.conversation_id, NULL, m.seq + 1, 1, 0, $3, NULL) AS page
WHERE m.conversation_id = $1 AND m.id = $2 AND page.json IS NOT NULL";

/// Whom a user has blocked: `$1` user, `$2` after this one, `$3` rows.
pub(super) const BLOCKS: &str = "
SELECT blocked_id, message_time(created_at) FROM user_blocks
WHERE user_id = $1 AND ($2::uuid IS NULL OR blocked_id > $2) ORDER BY blocked_id LIMIT $3";

/// Blocks a user: `$1` who does, `$2` whom.
pub(super) const BLOCK: &str = "INSERT INTO user_blocks (user_id, blocked_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Takes that back.
pub(super) const UNBLOCK: &str = "DELETE FROM user_blocks WHERE user_id = $1 AND blocked_id = $2";
