-- The chat schema, in the order in which a message passes through it. Other services write `conversations` and
-- `participants` with plain SQL, may insert into `outbox`, and call `arcyou_send`; all other tables belong to the
-- gateway. README.md beside this file says how to change the schema, and what runs inside the database and why.

-- One row: what distinguishes this installation from others. Workers mark events with the key and gateways believe no
-- others, so only they may read it. 244 random bits, since each of the two UUIDs has 122.
CREATE TABLE installation (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    event_key bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
INSERT INTO installation DEFAULT VALUES;

-- Limits of what a conversation keeps. A domain is checked when a column is given a value, a table's CHECK by each
-- send.
CREATE DOMAIN kept_days AS integer CHECK (VALUE BETWEEN 1 AND 36500);
CREATE DOMAIN kept_messages AS bigint CHECK (VALUE > 0);

CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- The `seq` of the newest change: a message that was created, edited or deleted, a reaction that was added or
    -- removed. Every transaction that makes one locks this row, so that `seq` has no holes and follows the order of
    -- commits.
    last_seq bigint NOT NULL DEFAULT 0,
    -- The `n` of the newest message.
    message_count bigint NOT NULL DEFAULT 0,
    -- The `id` and the time of the newest message, also after it was deleted: read marks and cursors are places, not
    -- references, and no message is older than the one before it.
    last_message_id bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    -- Whether nobody sends, edits or gives reactions here. What was said and given can still be taken back.
    read_only boolean NOT NULL DEFAULT false,
    -- For how many days messages are kept, and how many of them; null: for ever, all. Workers purge what is beyond
    -- either, oldest first (`purge_messages`).
    keep_days kept_days,
    keep_messages kept_messages,
    -- The `n` of the newest message that was purged: so many are gone, and unread are `message_count` less the greater
    -- one of this and the `n` that was read. And the newest `seq` of any change that went with them: what is below can
    -- only be read as it stands, not caught up.
    purged_n bigint NOT NULL DEFAULT 0,
    purged_seq bigint NOT NULL DEFAULT 0,
    -- Nobody has to look for messages to purge before. Other conversations are not in its index, and what a send
    -- changes is in no index: that keeps its update inside the page.
    purge_at timestamptz NOT NULL DEFAULT 'epoch',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversations_purge ON conversations (purge_at) WHERE keep_days IS NOT NULL OR keep_messages IS NOT NULL;
-- Each message updates its conversation's row: leave room for updates inside the page.
ALTER TABLE conversations SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Where the `seq` of deleted conversations ended. One that is made again with the same id goes on from there: no event
-- of the old one, however late, can then be taken for one of the new.
CREATE TABLE deleted_conversations (
    id uuid PRIMARY KEY,
    last_seq bigint NOT NULL
);

CREATE TABLE participants (
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id uuid NOT NULL,
    role text NOT NULL DEFAULT 'member',
    -- The id of the newest message that the user has read. It only moves forward.
    last_read_id bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX participants_by_user ON participants (user_id, conversation_id);
ALTER TABLE participants SET (fillfactor = 85);

-- Who wants to hear nothing more from whom. It counts in conversations of exactly two participants: in larger ones
-- there are others to hear it.
CREATE TABLE user_blocks (
    user_id uuid NOT NULL,
    blocked_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, blocked_id),
    CONSTRAINT user_blocks_are_of_others CHECK (user_id <> blocked_id)
);
-- What every send asks: whether anybody has blocked its sender.
CREATE INDEX user_blocks_of_blocked ON user_blocks (blocked_id);

-- Users who were disconnected: tokens that were issued before `not_before` are refused, and the sockets that they
-- opened are closed. A row stays, for a token lives as long as its issuer likes; a user has one at most.
CREATE TABLE user_cutoffs (
    user_id uuid PRIMARY KEY,
    not_before timestamptz NOT NULL,
    -- The transaction that wrote the row. Gateways ask for what was written by those that had not ended when they
    -- looked last, and so miss none, in whatever order they commit.
    changed_in bigint NOT NULL,
    times bigint NOT NULL DEFAULT 1
);
CREATE INDEX user_cutoffs_changed ON user_cutoffs (changed_in, user_id);

-- Whoever may write a row cannot choose its time.
CREATE FUNCTION user_cut_off() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.not_before = clock_timestamp();
    NEW.changed_in = pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
CREATE TRIGGER user_cut_off BEFORE INSERT OR UPDATE ON user_cutoffs FOR EACH ROW EXECUTE FUNCTION user_cut_off();

-- Ends a user's sockets on every gateway within about a second of the commit, and all tokens that were issued before.
-- Answers since when. For other services too, from whatever search_path they have.
CREATE FUNCTION disconnect_user(disconnected uuid) RETURNS timestamptz
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO user_cutoffs (user_id) VALUES (disconnected)
    ON CONFLICT (user_id) DO UPDATE SET times = user_cutoffs.times + 1
    RETURNING not_before;
END;

-- What the running transaction has changed in `participants`: the role before its first change, null if there was no
-- such participant. A row of the second table is a promise to tell the difference at commit. Both are empty again then,
-- so no transaction ever sees another one's rows.
CREATE TABLE participant_changes (
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role_before text,
    PRIMARY KEY (conversation_id, user_id)
);
CREATE TABLE participant_changes_due ();

-- There is no foreign key to `conversations`: each insert already holds that row's lock, and the trigger
-- `conversation_deleted` removes the messages of a deleted conversation.
CREATE TABLE messages (
    id bigserial PRIMARY KEY,
    conversation_id uuid NOT NULL,
    -- The message's place: the `seq` of its creation.
    seq bigint NOT NULL,
    -- Numbers the messages of the conversation, deleted ones included: 1, 2, 3 …
    n bigint NOT NULL,
    sender_id uuid NOT NULL,
    -- The text that stands; null once the message is deleted.
    body jsonb,
    -- The message that it replies to, in the same conversation.
    reply_to bigint,
    idempotency_key text,
    -- The plugins' annotations on this body, as an object; null if there are none.
    annotations jsonb,
    -- The plugin that replaced or held this body; null if every plugin accepted it.
    decided_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- 1, and one more with each edit and with the deletion.
    version integer NOT NULL DEFAULT 1,
    -- The `seq` of its newest change.
    changed_seq bigint NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    -- How often each reaction was given, as an object; null if there is none.
    reactions jsonb,
    -- The outbox row that tells of its creation, for as long as that exists.
    outbox_id bigint,
    UNIQUE (conversation_id, seq),
    CONSTRAINT messages_deleted_have_no_body CHECK ((body IS NULL) = (deleted_at IS NOT NULL))
);
CREATE UNIQUE INDEX messages_idempotency ON messages (conversation_id, sender_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX messages_replies ON messages (conversation_id, reply_to, seq) WHERE reply_to IS NOT NULL;

-- Every change but creations, which `messages` has itself: one row each, by the event that tells of it. No row holds a
-- message's text: what stands is in `messages`, and nothing else is to be found anywhere.
CREATE TABLE message_changes (
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    -- The event's: 'message.edited', 'message.deleted', 'reaction.added' or 'reaction.removed'.
    type text NOT NULL,
    message_id bigint NOT NULL,
    -- Who made it.
    user_id uuid NOT NULL,
    idempotency_key text,
    -- The message's version after it; null if it changes no text.
    version integer,
    -- The reaction, null once the message is deleted, and how often it was given after this change.
    reaction text,
    count integer,
    created_at timestamptz NOT NULL,
    -- The outbox row that tells of it, for as long as that exists.
    outbox_id bigint,
    PRIMARY KEY (conversation_id, seq)
);
CREATE UNIQUE INDEX message_changes_idempotency ON message_changes (conversation_id, user_id, type, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX message_changes_of_message ON message_changes (conversation_id, message_id, version DESC NULLS LAST);

-- Who has given which reaction; `messages.reactions` counts them.
CREATE TABLE message_reactions (
    conversation_id uuid NOT NULL,
    message_id bigint NOT NULL,
    user_id uuid NOT NULL,
    reaction text NOT NULL,
    -- Of the change that added it.
    seq bigint NOT NULL,
    PRIMARY KEY (conversation_id, message_id, user_id, reaction)
);

-- What other systems call the messages that `arcyou_import` brought from there. Without a row a message can be imported
-- once more, and no further one can reply to it; when all is imported, an operator may empty the table.
CREATE TABLE imported_messages (
    conversation_id uuid NOT NULL,
    source_id text NOT NULL,
    message_id bigint NOT NULL,
    PRIMARY KEY (conversation_id, source_id)
);
CREATE INDEX imported_messages_of_message ON imported_messages (conversation_id, message_id);

-- Messages that a plugin held for review. Their ids are separate from those of `messages`: a message gets its
-- `messages.id` and its `seq` when it is released. An idempotency key is unique across both tables because both are
-- written under the conversation's lock. An edit is held in the same way, and the old text stands meanwhile.
CREATE TABLE held_messages (
    id bigserial PRIMARY KEY,
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    body jsonb NOT NULL,
    idempotency_key text,
    annotations jsonb,
    held_by text NOT NULL,
    reason text NOT NULL,
    reply_to bigint,
    -- The message whose text it is to replace, and that one's version; null for a message of its own. A newer edit
    -- refuses it, and a deletion removes it.
    edits bigint,
    edits_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Set when a reviewer refuses the message. Released messages move to `messages`; refused ones stay, so that their
    -- idempotency keys remain known and a repeated send is not held again, until they are as old as audit rows get.
    refused_at timestamptz
);
CREATE UNIQUE INDEX held_messages_idempotency
    ON held_messages (conversation_id, sender_id, (edits IS NULL), idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX held_messages_edits ON held_messages (conversation_id, edits) WHERE edits IS NOT NULL;
CREATE INDEX held_messages_by_conversation ON held_messages (conversation_id, id);
CREATE INDEX held_messages_waiting ON held_messages (id) WHERE refused_at IS NULL;
CREATE INDEX held_messages_refused ON held_messages (refused_at) WHERE refused_at IS NOT NULL;

-- Why a message differs from what its sender wrote, or is missing: one row for each message that a plugin rejected,
-- held, replaced or discarded, or that was refused because a plugin failed, and one for each decision on a held
-- message. It does not contain the message's text, unless a plugin quotes it in a reason or as it fails.
CREATE TABLE plugin_audit (
    id bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    -- 'rejected', 'held', 'replaced', 'discarded' or 'failed' by a plugin; 'released' or 'refused' by a reviewer.
    verdict text NOT NULL,
    -- The plugin that decided, or had held the message. For its own verdicts: the version that its file states, if any,
    -- and the digest of that file.
    plugin text NOT NULL,
    version text,
    sha256 text,
    -- Who released or refused the message, as they named themselves; null for a plugin's verdict.
    reviewer text,
    -- The code of a rejection, and the reason of a rejection, a hold or a failure.
    code text,
    reason text,
    -- The message if it was stored (replaced, released), or whose edit was held; and what was held. A held message gets
    -- a new id when it is released.
    message_id bigint,
    held_id bigint,
    CHECK (reviewer IS NOT NULL OR sha256 IS NOT NULL)
);
CREATE INDEX plugin_audit_by_sender ON plugin_audit (sender_id, id);
CREATE INDEX plugin_audit_by_message ON plugin_audit (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX plugin_audit_by_held ON plugin_audit (held_id) WHERE held_id IS NOT NULL;

CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    type text NOT NULL,
    conversation_id uuid NOT NULL,
    -- Of the change that it tells of; null for any other event.
    seq bigint,
    payload jsonb NOT NULL,
    processed boolean NOT NULL DEFAULT false,
    -- Whether a gateway or a trigger of this schema wrote the row. Other services have no right on this column, so what
    -- they write can be taken for nothing that a gateway would tell.
    internal boolean NOT NULL DEFAULT false,
    processed_at timestamptz,
    -- Failures that this row itself caused; an outage of Redis or PostgreSQL does not count.
    retry_count integer NOT NULL DEFAULT 0,
    error text,
    -- The row is not tried before this time; null means now.
    next_attempt_at timestamptz,
    -- Until then workers leave the row to the gateway that has stored it, which tells of it at once and marks it; null:
    -- no gateway does. What it did not mark in time, because it ended or had no Redis, is relayed like any other row.
    relay_after timestamptz,
    -- Set when the row has used up its tries; it then waits for an operator.
    parked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_type_is_reserved CHECK (internal OR type NOT IN ('message.created', 'message.edited',
        'message.deleted', 'message.read', 'reaction.added', 'reaction.removed',
        'participant.added', 'participant.removed', 'participant.role_changed', 'conversation.deleted'))
);
-- The index that a claim walks: rows leave it when they are published or parked.
CREATE INDEX outbox_pending ON outbox (id) WHERE NOT processed AND parked_at IS NULL;
CREATE INDEX outbox_parked ON outbox (id) WHERE parked_at IS NOT NULL;
-- What gateways read after Redis was away. Changes are caught up by `seq`, from where they are stored.
CREATE INDEX outbox_other_events ON outbox (conversation_id, id) WHERE seq IS NULL;
-- Every row is inserted once, updated once and deleted once: keep dead rows few and the claim's index short.
ALTER TABLE outbox SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);

-- Outbox rows that tell what does not stand any more, and what they are to tell instead: those that a worker held when
-- that was decided. Whoever marks rows next changes them.
CREATE TABLE outbox_corrections (
    outbox_id bigint PRIMARY KEY,
    payload jsonb NOT NULL
);

-- Keys of services that use the HTTP API. A key's secret has 256 random bits and is kept nowhere, so its plain digest
-- tells nobody what it is.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    -- What whoever made it calls it; audit rows name a reviewer by it.
    name text NOT NULL,
    secret_sha256 bytea NOT NULL,
    scopes text[] NOT NULL,
    -- The user that it acts for; null: whomever a request names.
    sender_id uuid,
    -- Requests a second, on each gateway.
    rate integer NOT NULL CHECK (rate > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- How clients see times: UTC, RFC 3339, milliseconds.
CREATE FUNCTION message_time(t timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- How clients see a message. There is no other place that builds this object.
CREATE FUNCTION message_json(m messages) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object(
    'id', (m).id,
    'n', (m).n,
    'seq', (m).seq,
    'changed_seq', (m).changed_seq,
    'version', (m).version,
    'conversation_id', (m).conversation_id,
    'sender_id', (m).sender_id,
    'body', (m).body,
    'created_at', message_time((m).created_at)
) || CASE WHEN (m).reply_to IS NULL AND (m).version = 1 THEN '{}' ELSE jsonb_strip_nulls(jsonb_build_object(
    'reply_to', (m).reply_to,
    'edited_at', message_time((m).edited_at),
    'deleted_at', message_time((m).deleted_at)
)) END;

-- What an event tells of a message's creation: the message as it stands.
CREATE FUNCTION creation_json(m messages) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object('seq', (m).seq, 'message', message_json(m));

-- What an event tells of any other change. Of one that a later one has overtaken it tells no more than its place.
CREATE FUNCTION change_json(c message_changes, m messages) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN (c).reaction IS NOT NULL AND (m).deleted_at IS NULL THEN jsonb_build_object('seq', (c).seq, 'message_id', (c).message_id,
        'user_id', (c).user_id, 'reaction', (c).reaction, 'count', (c).count)
    WHEN (c).version = (m).version THEN jsonb_build_object('seq', (c).seq, 'user_id', (c).user_id,
        'message', message_json(m))
    ELSE jsonb_build_object('seq', (c).seq, 'message_id', (c).message_id, 'user_id', (c).user_id, 'overtaken', true)
END;

-- Locks the conversations of a batch, always in the order of ids, so that two gateways cannot deadlock. Answers those
-- that it has: without `wait` not those that somebody else holds. `NO KEY` lets other services insert participants
-- meanwhile.
--
-- Fails under any isolation level but READ COMMITTED, where a snapshot would be older than the locks. Gateways then
-- open a transaction with that level around it.
CREATE FUNCTION lock_conversations(conversation_ids uuid[], wait boolean) RETURNS uuid[]
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'messages are stored under READ COMMITTED, and this is %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'inappropriate_isolation_level_for_branch_transaction';
    END IF;
    IF wait THEN
        RETURN ARRAY(SELECT id FROM conversations WHERE id = ANY(conversation_ids) ORDER BY id FOR NO KEY UPDATE);
    END IF;
    RETURN ARRAY(SELECT id FROM conversations WHERE id = ANY(conversation_ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
END $$;

-- Whether somebody whom others have blocked is alone with one of them in this conversation.
CREATE FUNCTION is_blocked(conversation uuid, blocked uuid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    participating uuid[] := ARRAY(SELECT p.user_id FROM participants p WHERE p.conversation_id = conversation
        ORDER BY p.user_id LIMIT 3);
BEGIN
    RETURN cardinality(participating) = 2
        AND EXISTS (SELECT FROM user_blocks b WHERE b.user_id = ANY(participating) AND b.blocked_id = blocked);
END $$;

-- Makes changes of messages in conversations that are locked, at most one in each, at this time or just after the
-- newest message. `types` are the events' that tell of them. Answers one row for each, in order: 'stored', 'held',
-- 'stored before', 'held before', 'forbidden', 'unknown message', 'deleted message', 'not author', 'too late', 'version
-- conflict', 'too many reactions', 'other message' (the key is of a change of another one), 'read only', 'blocked' or
-- 'busy'. `id` is the held edit's, or the message's; `version` is the message's, and that which stands of a conflict;
-- `count` is the reaction's.
--
-- Whoever has a role in `deleting_roles` deletes the messages of others; an edit is too late `edit_seconds` after the
-- message (null: never). A reviewer's release is `decided`: nobody's right to it is looked at.
CREATE FUNCTION change_messages(
    locked uuid[], time_now timestamptz, types text[], conversation_ids uuid[], user_ids uuid[], message_ids bigint[],
    bodies text[], known_versions integer[], reactions text[], keys text[], all_annotations text[], deciders text[],
    hold_reasons text[], deleting_roles text[], edit_seconds float8, most_reactions integer, decided boolean,
    told_within float8
) RETURNS TABLE (
    status text, id bigint, seq bigint, created_at text, version integer, count integer, outbox_id bigint, payload text
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH input AS (
        SELECT * FROM unnest(types, conversation_ids, user_ids, message_ids, bodies, known_versions, reactions, keys,
            all_annotations, deciders, hold_reasons) WITH ORDINALITY
            AS t(type, conversation_id, user_id, message_id, body, known_version, reaction, key, annotations, decided_by,
                hold_reason, ord)
    ), judged AS MATERIALIZED (
        SELECT i.*, c.last_seq + 1 AS seq, greatest(time_now, c.last_message_at) AS created_at, m.version AS old_version,
            m.reactions AS counts, m.place AS message_at, m.part AS message_in,
            CASE WHEN c.id IS NULL THEN 'forbidden'
                 WHEN coalesce(e.message_id, h.edits) <> i.message_id THEN 'other message'
                 WHEN e.seq IS NOT NULL THEN 'stored before'
                 WHEN h.id IS NOT NULL THEN 'held before'
                 WHEN i.conversation_id NOT IN (SELECT unnest(locked)) THEN 'busy'
                 WHEN p.user_id IS NULL AND NOT decided THEN 'forbidden'
                 WHEN i.type = 'reaction.added' AND r.seq IS NOT NULL THEN 'stored before'
                 WHEN c.read_only AND NOT decided AND i.type IN ('message.edited', 'reaction.added') THEN 'read only'
                 WHEN NOT decided AND i.type IN ('message.edited', 'reaction.added')
                     AND EXISTS (SELECT FROM user_blocks WHERE blocked_id BETWEEN i.user_id AND i.user_id ORDER BY blocked_id OFFSET 0)
                     AND is_blocked(i.conversation_id, i.user_id) THEN 'blocked'
                 WHEN m.id IS NULL THEN 'unknown message'
                 WHEN d.seq IS NOT NULL THEN 'stored before'
                 WHEN m.deleted_at IS NOT NULL THEN 'deleted message'
                 WHEN i.type = 'message.edited' AND m.sender_id <> i.user_id THEN 'not author'
                 WHEN i.type = 'message.deleted' AND m.sender_id <> i.user_id AND p.role <> ALL(deleting_roles)
                     THEN 'not author'
                 WHEN i.type = 'message.edited' AND NOT decided
                     AND m.created_at < time_now - make_interval(secs => edit_seconds) THEN 'too late'
                 WHEN i.known_version <> m.version THEN 'version conflict'
                 WHEN i.type = 'reaction.removed' AND r.seq IS NULL THEN 'stored before'
                 WHEN i.type = 'reaction.added' AND NOT coalesce(m.reactions ? i.reaction, false)
                     AND (SELECT count(*) FROM jsonb_object_keys(m.reactions)) >= most_reactions THEN 'too many reactions'
                 ELSE 'new' END AS status,
            h.id AS held_id, coalesce(e.seq, d.seq, r.seq) AS earlier_seq, coalesce(e.version, d.version) AS earlier_version,
            coalesce(e.created_at, d.created_at) AS earlier_created_at
        FROM input i
        LEFT JOIN conversations c ON c.id = i.conversation_id
        LEFT JOIN participants p ON p.conversation_id = i.conversation_id AND p.user_id = i.user_id
        LEFT JOIN LATERAL (SELECT *, ctid AS place, tableoid AS part FROM messages
            WHERE conversation_id = i.conversation_id AND id BETWEEN i.message_id AND i.message_id ORDER BY id LIMIT 1)
            m ON true
        LEFT JOIN LATERAL (SELECT seq, version, created_at, message_id FROM message_changes WHERE i.key IS NOT NULL
            AND conversation_id = i.conversation_id AND user_id = i.user_id AND type = i.type
            AND idempotency_key BETWEEN i.key AND i.key ORDER BY idempotency_key LIMIT 1) e ON true
        LEFT JOIN LATERAL (SELECT id, edits FROM held_messages WHERE i.key IS NOT NULL AND (edits IS NULL) = false
            AND conversation_id = i.conversation_id AND sender_id = i.user_id AND idempotency_key = i.key LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT seq, version, created_at FROM message_changes
            WHERE i.type = 'message.deleted' AND m.deleted_at IS NOT NULL
            AND conversation_id = i.conversation_id AND message_id = i.message_id AND type = 'message.deleted'
            ORDER BY version DESC NULLS LAST LIMIT 1) d ON true
        LEFT JOIN LATERAL (SELECT seq FROM message_reactions WHERE i.reaction IS NOT NULL
            AND conversation_id = i.conversation_id AND message_id = i.message_id AND user_id = i.user_id
            AND reaction = i.reaction LIMIT 1) r ON true
    ), counted AS (
        SELECT *, CASE type
            WHEN 'reaction.added' THEN coalesce((counts ->> reaction)::integer, 0) + (status = 'new')::integer
            WHEN 'reaction.removed' THEN coalesce((counts ->> reaction)::integer, 0) - (status = 'new')::integer
            END AS count
        FROM judged
    ), numbered AS MATERIALIZED (
        SELECT *, CASE WHEN status = 'new' AND hold_reason IS NOT NULL THEN nextval('held_messages_id_seq') END AS new_held_id,
            CASE WHEN status = 'new' AND hold_reason IS NULL THEN nextval('outbox_id_seq') END AS outbox_id
        FROM counted ORDER BY ord
    ), changed AS (
        UPDATE messages m SET
            changed_seq = n.seq,
            version = m.version + (n.reaction IS NULL)::integer,
            body = CASE n.type WHEN 'message.edited' THEN n.body::jsonb WHEN 'message.deleted' THEN NULL ELSE m.body END,
            annotations = CASE WHEN n.reaction IS NULL THEN n.annotations::jsonb ELSE m.annotations END,
            decided_by = CASE WHEN n.reaction IS NULL THEN n.decided_by ELSE m.decided_by END,
            edited_at = CASE n.type WHEN 'message.edited' THEN n.created_at ELSE m.edited_at END,
            deleted_at = CASE n.type WHEN 'message.deleted' THEN n.created_at ELSE m.deleted_at END,
            reactions = CASE
                WHEN n.type = 'message.deleted' THEN NULL
                WHEN n.count = 0 THEN nullif(m.reactions - n.reaction, '{}')
                WHEN n.reaction IS NOT NULL
                    THEN coalesce(m.reactions, '{}') || jsonb_build_object(n.reaction, n.count)
                ELSE m.reactions END
        FROM numbered n
        WHERE n.outbox_id IS NOT NULL AND m.ctid = n.message_at AND m.tableoid = n.message_in
        RETURNING m.conversation_id, m.id, m AS message
    ), noted AS (
        INSERT INTO message_changes (conversation_id, seq, type, message_id, user_id, idempotency_key, version, reaction,
            count, created_at, outbox_id)
        SELECT conversation_id, seq, type, message_id, user_id, key, CASE WHEN reaction IS NULL THEN old_version + 1 END,
            reaction, count, created_at, outbox_id
        FROM numbered WHERE outbox_id IS NOT NULL
        RETURNING outbox_id, conversation_id, message_id, seq, type, message_changes AS change
    ), given AS (
        INSERT INTO message_reactions (conversation_id, message_id, user_id, reaction, seq)
        SELECT conversation_id, message_id, user_id, reaction, seq
        FROM numbered WHERE outbox_id IS NOT NULL AND type = 'reaction.added'
    ), taken AS (
        DELETE FROM message_reactions g USING numbered n
        WHERE n.outbox_id IS NOT NULL AND n.type = 'reaction.removed' AND g.conversation_id = n.conversation_id
            AND g.message_id = n.message_id AND g.user_id = n.user_id AND g.reaction = n.reaction
    ), held AS (
        INSERT INTO held_messages (id, conversation_id, sender_id, body, edits, edits_version, idempotency_key, annotations,
            held_by, reason)
        SELECT new_held_id, conversation_id, user_id, body::jsonb, message_id, old_version, key, annotations::jsonb,
            coalesce(decided_by, ''), hold_reason
        FROM numbered WHERE new_held_id IS NOT NULL
    ), advanced AS (
        UPDATE conversations c SET last_seq = n.seq FROM numbered n
        WHERE n.outbox_id IS NOT NULL AND c.id = n.conversation_id
    ), relayed AS (
        INSERT INTO outbox (id, type, conversation_id, seq, payload, internal, relay_after)
        SELECT n.outbox_id, n.type, n.conversation_id, n.seq, change_json(n.change, c.message), true,
            clock_timestamp() + make_interval(secs => told_within)
        FROM noted n JOIN changed c ON c.conversation_id = n.conversation_id AND c.id = n.message_id
        RETURNING id, payload
    )
    SELECT CASE WHEN n.status <> 'new' THEN n.status WHEN n.new_held_id IS NOT NULL THEN 'held' ELSE 'stored' END,
        coalesce(n.new_held_id, n.held_id, n.message_id),
        CASE WHEN n.outbox_id IS NULL THEN n.earlier_seq ELSE n.seq END,
        message_time(coalesce(n.earlier_created_at, n.created_at)),
        coalesce(n.earlier_version, n.old_version + (n.outbox_id IS NOT NULL AND n.reaction IS NULL)::integer),
        n.count,
        n.outbox_id,
        CASE WHEN told_within IS NOT NULL AND n.outbox_id IS NOT NULL THEN
            (SELECT array_agg(r.payload::text ORDER BY r.id) FROM relayed r)
                [count(n.outbox_id) OVER (ORDER BY n.ord ROWS UNBOUNDED PRECEDING)] END
    FROM numbered n ORDER BY n.ord;

    -- A reaction takes nothing away. What an edit or a deletion did is found by its `seq`, the newest there is.
    IF types && '{message.edited,message.deleted}' THEN
        PERFORM erase_overtaken(array_agg(t.conversation_id), array_agg(t.message_id))
        FROM unnest(types, conversation_ids, message_ids) AS t(type, conversation_id, message_id)
        JOIN conversations c ON c.id = t.conversation_id
        CROSS JOIN LATERAL (SELECT changed_seq, version FROM messages WHERE conversation_id = t.conversation_id
            AND id BETWEEN t.message_id AND t.message_id ORDER BY id LIMIT 1) m
        WHERE t.type IN ('message.edited', 'message.deleted') AND m.changed_seq = c.last_seq AND m.version > 1;
    END IF;
    -- Of the edits of one message only the newest is held: a reviewer who releases all that waits must not bring back
    -- what its author has replaced.
    IF num_nonnulls(VARIADIC hold_reasons) > 0 THEN
        UPDATE held_messages h SET refused_at = now()
        FROM unnest(conversation_ids, message_ids, hold_reasons) AS t(conversation_id, message_id, hold_reason)
        WHERE t.hold_reason IS NOT NULL AND h.conversation_id = t.conversation_id AND h.edits = t.message_id
            AND h.refused_at IS NULL AND EXISTS (SELECT FROM held_messages newer
                WHERE newer.conversation_id = h.conversation_id AND newer.edits = h.edits AND newer.id > h.id
                AND newer.refused_at IS NULL);
    END IF;
END $$;

-- Takes what these messages said before from wherever it still is: a text that was edited from what no worker has
-- relayed, and what was deleted from everywhere. An outbox row that a worker holds is corrected by whoever marks rows
-- next.
CREATE FUNCTION erase_overtaken(conversation_ids uuid[], message_ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE held_messages h SET refused_at = now()
    FROM unnest(conversation_ids, message_ids) AS t(conversation_id, message_id)
    CROSS JOIN LATERAL (SELECT version FROM messages WHERE conversation_id = t.conversation_id
        AND id BETWEEN t.message_id AND t.message_id ORDER BY id LIMIT 1) m
    WHERE h.conversation_id = t.conversation_id AND h.edits = t.message_id AND h.edits_version < m.version
        AND h.refused_at IS NULL;
    WITH standing AS MATERIALIZED (
        SELECT m.* FROM unnest(conversation_ids, message_ids) AS t(conversation_id, message_id)
        CROSS JOIN LATERAL (SELECT messages AS message, deleted_at IS NOT NULL AS deleted, version, conversation_id, id, outbox_id
            FROM messages WHERE conversation_id = t.conversation_id
            AND id BETWEEN t.message_id AND t.message_id ORDER BY id LIMIT 1) m
    ), told AS MATERIALIZED (
        SELECT outbox_id, creation_json(message) AS payload, deleted FROM standing
        UNION ALL
        -- Older edits were corrected when the one before was made.
        SELECT c.outbox_id, change_json(c.change, s.message), false
        FROM standing s CROSS JOIN LATERAL (SELECT message_changes AS change, outbox_id FROM message_changes
            WHERE conversation_id = s.conversation_id AND message_id = s.id AND version BETWEEN s.version - 1 AND s.version - 1
            ORDER BY version DESC NULLS LAST LIMIT 1) c
        WHERE NOT s.deleted
        UNION ALL
        SELECT c.outbox_id, change_json(c.change, s.message), true
        FROM standing s CROSS JOIN LATERAL (SELECT message_changes AS change, outbox_id FROM message_changes
            WHERE conversation_id = s.conversation_id AND message_id = s.id ORDER BY version DESC NULLS LAST) c
        WHERE s.deleted
    ), wrong AS MATERIALIZED (
        SELECT o.id, t.payload, t.deleted FROM told t JOIN outbox o ON o.id = t.outbox_id
        WHERE (t.deleted OR NOT o.processed) AND o.payload <> t.payload
    ), free AS MATERIALIZED (
        SELECT id FROM outbox WHERE id = ANY(ARRAY(SELECT id FROM wrong)) FOR UPDATE SKIP LOCKED
    ), corrected AS (
        UPDATE outbox o SET payload = w.payload FROM wrong w WHERE o.id = w.id AND w.id = ANY(ARRAY(SELECT id FROM free))
    )
    INSERT INTO outbox_corrections (outbox_id, payload)
    SELECT id, payload FROM wrong WHERE deleted AND id <> ALL(ARRAY(SELECT id FROM free))
    ON CONFLICT (outbox_id) DO UPDATE SET payload = excluded.payload;
    WITH gone AS MATERIALIZED (
        SELECT m.* FROM unnest(conversation_ids, message_ids) AS t(conversation_id, message_id)
        CROSS JOIN LATERAL (SELECT conversation_id, id, deleted_at FROM messages WHERE conversation_id = t.conversation_id
            AND id BETWEEN t.message_id AND t.message_id ORDER BY id LIMIT 1) m
        WHERE m.deleted_at IS NOT NULL
    ), unheld AS (
        DELETE FROM held_messages h USING gone WHERE h.conversation_id = gone.conversation_id AND h.edits = gone.id
    ), unquoted AS (
        UPDATE plugin_audit a SET reason = NULL FROM gone WHERE a.message_id = gone.id RETURNING a.held_id
    ), unquoted_when_held AS (
        UPDATE plugin_audit SET reason = NULL
        WHERE message_id IS NULL AND held_id = ANY(ARRAY(SELECT held_id FROM unquoted WHERE held_id IS NOT NULL))
    ), given AS (
        DELETE FROM message_reactions r USING gone WHERE r.conversation_id = gone.conversation_id AND r.message_id = gone.id
    ), reactions AS (
        SELECT c.seq, gone.conversation_id FROM gone CROSS JOIN LATERAL (SELECT seq FROM message_changes
            WHERE conversation_id = gone.conversation_id AND message_id = gone.id AND reaction IS NOT NULL
            ORDER BY version DESC NULLS LAST) c
    )
    UPDATE message_changes c SET reaction = NULL FROM reactions r
    WHERE c.conversation_id = r.conversation_id AND c.seq = r.seq;
END $$;

-- One audit row for each message or edit of this batch that a plugin replaced or held: `xmin` tells which rows this
-- transaction wrote. If two versions of a plugin decided on one sender's texts in the same batch, the row names the
-- later one.
CREATE FUNCTION note_decisions(
    conversation_ids uuid[], sender_ids uuid[], deciders text[], versions text[], digests text[]
) RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    WITH decided AS (
        SELECT DISTINCT ON (conversation_id, sender_id, plugin) conversation_id, sender_id, plugin, version, sha256
        FROM unnest(conversation_ids, sender_ids, deciders, versions, digests)
            WITH ORDINALITY AS t(conversation_id, sender_id, plugin, version, sha256, ord)
        WHERE sha256 IS NOT NULL
        ORDER BY conversation_id, sender_id, plugin, ord DESC
    ), rooms AS (
        SELECT DISTINCT conversation_id AS id FROM decided
    ), fresh AS (
        SELECT m.conversation_id, m.sender_id, m.decided_by, NULL AS reason, m.id AS message_id, NULL::bigint AS held_id, m.tx
        FROM rooms CROSS JOIN LATERAL (
            SELECT *, xmin AS tx FROM messages WHERE conversation_id = rooms.id ORDER BY seq DESC LIMIT cardinality(digests)) m
        WHERE m.changed_seq = m.seq
        UNION ALL
        SELECT c.conversation_id, c.user_id, m.decided_by, NULL, m.id, NULL, c.tx
        FROM rooms CROSS JOIN LATERAL (
            SELECT *, xmin AS tx FROM message_changes WHERE conversation_id = rooms.id
            ORDER BY seq DESC LIMIT cardinality(digests)) c
        JOIN messages m ON m.conversation_id = c.conversation_id AND m.id = c.message_id AND m.version = c.version
        WHERE c.type = 'message.edited'
        UNION ALL
        SELECT h.conversation_id, h.sender_id, h.held_by, h.reason, h.edits, h.id, h.tx
        FROM rooms CROSS JOIN LATERAL (
            SELECT *, xmin AS tx FROM held_messages WHERE conversation_id = rooms.id ORDER BY id DESC LIMIT cardinality(digests)) h
    )
    INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, version, sha256, reason, message_id, held_id)
    SELECT f.conversation_id, f.sender_id, CASE WHEN f.held_id IS NULL THEN 'replaced' ELSE 'held' END,
        d.plugin, d.version, d.sha256, f.reason, f.message_id, f.held_id
    FROM fresh f JOIN decided d
        ON d.conversation_id = f.conversation_id AND d.sender_id = f.sender_id AND d.plugin = f.decided_by
    WHERE f.tx = pg_current_xact_id()::xid
    ORDER BY coalesce(f.message_id, f.held_id);
END $$;

-- What an erasure and whoever notes reasons lock, so that none is noted of a user after the erasure has taken them
-- away.
CREATE FUNCTION reasons_lock() RETURNS bigint
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 4820231146907254306;
END;

-- Notes messages that plugins kept from being stored, each so many seconds after it came. A plugin's reason may quote
-- what it refused, so it is left out where the sender was disconnected after that, or less than a minute before: until
-- then sockets of before the disconnection may still be open. An erasure begins with a disconnection.
CREATE FUNCTION note_kept(
    conversation_ids uuid[], sender_ids uuid[], verdicts text[], plugins text[], versions text[], digests text[], codes text[],
    reasons text[], ages double precision[]
) RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(reasons_lock());
    INSERT INTO plugin_audit (conversation_id, sender_id, verdict, plugin, version, sha256, code, reason)
    SELECT k.conversation_id, k.sender_id, k.verdict, k.plugin, k.version, k.sha256, k.code, CASE WHEN NOT EXISTS (
        SELECT FROM user_cutoffs u WHERE u.user_id = k.sender_id
            AND u.not_before > clock_timestamp() - make_interval(mins => 1, secs => k.age)) THEN k.reason END
    FROM unnest(conversation_ids, sender_ids, verdicts, plugins, versions, digests, codes, reasons, ages)
        AS k(conversation_id, sender_id, verdict, plugin, version, sha256, code, reason, age);
END $$;

-- Stores a gateway's batch of messages, in one statement that is its own transaction; its plans are kept (README.md).
-- Answers one row for each, in order: 'stored', 'held', 'stored before', 'held before', 'forbidden', 'read only',
-- 'blocked', 'unknown message' or 'deleted message' (what it replies to), or 'busy' when somebody else has locked its
-- conversation. The id of a held message is that in `held_messages`. Without `digests` it writes no audit rows. Locks
-- that were taken before are `locked`. A caller who tells of what is stored, and is answered each event's outbox row
-- and payload, does so within `told_within` seconds.
--
-- Judging and storing is a statement of its own after the locks, because a statement's snapshot is older than a lock
-- that it waits for. Its time grows with the batch and with nothing else: no two steps are joined row by row, places
-- come from windows over the batch, ids are drawn before the insert, and each `LIMIT` keeps the planner from turning a
-- look-up into a join. A plan is made while tables may be empty, where one index looks like another: where two begin
-- with the same column, the order that is asked for is that of the right one, and with `enable_sort` off it is taken.
CREATE FUNCTION store_messages(
    conversation_ids uuid[], sender_ids uuid[], bodies text[], reply_tos bigint[], keys text[], all_annotations text[],
    deciders text[], hold_reasons text[], wait_for_locks boolean, versions text[], digests text[], told_within float8,
    locked uuid[] DEFAULT NULL
) RETURNS TABLE (status text, id bigint, seq bigint, created_at text, outbox_id bigint, payload text)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    time_now timestamptz;
BEGIN
    IF locked IS NULL THEN
        locked := lock_conversations(conversation_ids, wait_for_locks);
    END IF;
    -- Not the time at which the transaction began: another one may have had the locks meanwhile.
    time_now := clock_timestamp();
    RETURN QUERY
    WITH input AS (
        SELECT * FROM unnest(conversation_ids, sender_ids, bodies, reply_tos, keys, all_annotations, deciders, hold_reasons)
            WITH ORDINALITY
            AS t(conversation_id, sender_id, body, reply_to, key, annotations, decided_by, hold_reason, ord)
    ), judged AS MATERIALIZED (
        SELECT i.*, c.last_seq, c.message_count, greatest(time_now, c.last_message_at) AS created_at,
            CASE WHEN c.id IS NULL THEN 'forbidden'
                 -- Before anything else: a stored message stays stored, whoever locks its conversation now, and even if
                 -- its sender has been removed since.
                 WHEN m.id IS NOT NULL THEN 'stored before'
                 WHEN h.id IS NOT NULL THEN 'held before'
                 WHEN i.conversation_id NOT IN (SELECT unnest(locked)) THEN 'busy'
                 WHEN p.user_id IS NULL THEN 'forbidden'
                 WHEN c.read_only THEN 'read only'
                 -- One look into an index, and more only for somebody whom others have blocked.
                 -- (`OFFSET 0` keeps the planner from reading all blocks into a hash instead.)
                 WHEN EXISTS (SELECT FROM user_blocks WHERE blocked_id BETWEEN i.sender_id AND i.sender_id ORDER BY blocked_id OFFSET 0)
                     AND is_blocked(i.conversation_id, i.sender_id) THEN 'blocked'
                 WHEN i.reply_to IS NOT NULL AND r.id IS NULL THEN 'unknown message'
                 WHEN r.deleted_at IS NOT NULL THEN 'deleted message'
                 ELSE 'new' END AS status,
            coalesce(m.id, h.id) AS earlier_id, m.seq AS earlier_seq, m.created_at AS earlier_created_at
        FROM input i
        LEFT JOIN conversations c ON c.id = i.conversation_id
        LEFT JOIN participants p ON p.conversation_id = i.conversation_id AND p.user_id = i.sender_id
        LEFT JOIN LATERAL (SELECT id, seq, created_at FROM messages WHERE i.key IS NOT NULL
            AND conversation_id = i.conversation_id AND sender_id = i.sender_id AND idempotency_key = i.key LIMIT 1) m ON true
        LEFT JOIN LATERAL (SELECT id FROM held_messages WHERE i.key IS NOT NULL AND (edits IS NULL)
            AND conversation_id = i.conversation_id AND sender_id = i.sender_id AND idempotency_key = i.key LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT id, deleted_at FROM messages WHERE i.reply_to IS NOT NULL
            AND conversation_id = i.conversation_id AND id BETWEEN i.reply_to AND i.reply_to ORDER BY id LIMIT 1) r ON true
    ), first_of_key AS (
        SELECT *, status = 'new' AND row_number() OVER (
            PARTITION BY conversation_id, sender_id, key, CASE WHEN key IS NULL THEN ord END ORDER BY ord) = 1 AS is_first
        FROM judged
    ), placed AS (
        SELECT *, is_first AND hold_reason IS NULL AS is_fresh,
            count(*) FILTER (WHERE is_first AND hold_reason IS NULL)
                OVER (PARTITION BY conversation_id ORDER BY ord ROWS UNBOUNDED PRECEDING) AS place
        FROM first_of_key
    ), numbered AS MATERIALIZED (
        SELECT *, last_seq + place AS seq, CASE WHEN is_fresh THEN nextval('messages_id_seq')
                       WHEN is_first THEN nextval('held_messages_id_seq') END AS id,
            CASE WHEN is_fresh THEN nextval('outbox_id_seq') END AS outbox_id
        FROM placed ORDER BY ord
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, n, changed_seq, sender_id, body, reply_to, idempotency_key,
            annotations, decided_by, created_at, outbox_id)
        SELECT id, conversation_id, seq, message_count + place, seq, sender_id, body::jsonb, reply_to, key,
            annotations::jsonb, decided_by, created_at, outbox_id
        FROM numbered WHERE is_fresh
        RETURNING outbox_id, conversation_id, seq, creation_json(messages) AS payload
    ), held AS (
        INSERT INTO held_messages (id, conversation_id, sender_id, body, reply_to, idempotency_key, annotations, held_by, reason)
        SELECT id, conversation_id, sender_id, body::jsonb, reply_to, key, annotations::jsonb, coalesce(decided_by, ''),
            hold_reason
        FROM numbered WHERE is_first AND NOT is_fresh
    ), counted AS (
        UPDATE conversations c SET last_seq = n.seq, message_count = c.message_count + n.count, last_message_id = n.id,
            last_message_at = n.created_at
        FROM (SELECT conversation_id, max(seq) AS seq, count(*) AS count, max(id) AS id, max(created_at) AS created_at
            FROM numbered WHERE is_fresh GROUP BY conversation_id) n
        WHERE c.id = n.conversation_id
    ), relayed AS (
        INSERT INTO outbox (id, type, conversation_id, seq, payload, internal, relay_after)
        SELECT outbox_id, 'message.created', conversation_id, seq, payload, true, time_now + make_interval(secs => told_within)
        FROM inserted
    )
    SELECT CASE WHEN n.status <> 'new' THEN n.status
                WHEN n.is_fresh THEN 'stored'
                WHEN n.is_first THEN 'held'
                WHEN f.is_fresh THEN 'stored before'
                ELSE 'held before' END AS status,
        coalesce(n.earlier_id, n.id, f.id) AS id,
        CASE WHEN n.is_fresh THEN n.seq ELSE coalesce(n.earlier_seq, f.seq) END AS seq,
        message_time(coalesce(n.earlier_created_at, n.created_at)) AS created_at,
        n.outbox_id,
        CASE WHEN told_within IS NOT NULL AND n.is_fresh THEN
            (SELECT array_agg(i.payload::text ORDER BY i.outbox_id) FROM inserted i)
                [count(n.outbox_id) OVER (ORDER BY n.ord ROWS UNBOUNDED PRECEDING)] END AS payload
    FROM numbered n
    LEFT JOIN LATERAL (SELECT id, CASE WHEN is_fresh THEN seq END AS seq, is_fresh
        FROM numbered WHERE n.status = 'new' AND NOT n.is_first AND is_first
        AND conversation_id = n.conversation_id AND sender_id = n.sender_id AND key = n.key LIMIT 1) f ON true
    ORDER BY n.ord;
    IF digests IS NOT NULL THEN
        PERFORM note_decisions(conversation_ids, sender_ids, deciders, versions, digests);
    END IF;
END $$;

-- The same for one message without a reason to hold it, by small statements, which cost a third: at a quiet time most
-- batches are of one. A few are called in one statement, and none of the calls waits for a lock. A message that
-- something stands against is left to `store_messages`. Its columns are answered as texts: a call that is no source of
-- rows costs less to plan.
CREATE FUNCTION store_message(
    conversation uuid, sender uuid, body text, reply_to bigint, key text, annotations text, decider text, told_within float8
) RETURNS text[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    time_now timestamptz;
    room record;
    stored record;
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT c.last_seq + 1 AS seq, c.message_count + 1 AS n, c.last_message_at, c.read_only INTO room
        FROM conversations c WHERE c.id = conversation FOR NO KEY UPDATE SKIP LOCKED;
        time_now := clock_timestamp();
        -- A statement of its own, whose snapshot is younger than the lock.
        IF NOT room.read_only
            AND EXISTS (SELECT FROM participants p WHERE p.conversation_id = conversation AND p.user_id = sender)
            AND NOT EXISTS (SELECT FROM user_blocks b WHERE b.blocked_id = sender ORDER BY b.blocked_id)
            AND (key IS NULL
                OR NOT EXISTS (SELECT FROM messages m WHERE m.conversation_id = conversation AND m.sender_id = sender
                    AND m.idempotency_key = key)
                AND NOT EXISTS (SELECT FROM held_messages h WHERE (h.edits IS NULL) AND h.conversation_id = conversation
                    AND h.sender_id = sender AND h.idempotency_key = key))
            AND (reply_to IS NULL OR EXISTS (SELECT FROM (SELECT m.deleted_at FROM messages m
                WHERE m.conversation_id = conversation AND m.id BETWEEN reply_to AND reply_to ORDER BY m.id LIMIT 1) r
                WHERE r.deleted_at IS NULL))
        THEN
            INSERT INTO messages AS m (conversation_id, seq, n, changed_seq, sender_id, body, reply_to, idempotency_key,
                annotations, decided_by, created_at, outbox_id)
            VALUES (conversation, room.seq, room.n, room.seq, sender, body::jsonb, reply_to, key, annotations::jsonb,
                decider, greatest(time_now, room.last_message_at), nextval('outbox_id_seq'))
            RETURNING m.id, m.created_at, m.outbox_id, creation_json(m) AS payload INTO stored;
            UPDATE conversations c SET last_seq = room.seq, message_count = room.n, last_message_id = stored.id,
                last_message_at = stored.created_at WHERE c.id = conversation;
            INSERT INTO outbox (id, type, conversation_id, seq, payload, internal, relay_after)
            VALUES (stored.outbox_id, 'message.created', conversation, room.seq, stored.payload, true,
                time_now + make_interval(secs => told_within));
            RETURN ARRAY['stored', stored.id::text, room.seq::text, message_time(stored.created_at),
                stored.outbox_id::text, CASE WHEN told_within IS NOT NULL THEN stored.payload::text END];
        END IF;
    END IF;
    RETURN (SELECT ARRAY[s.status, s.id::text, s.seq::text, s.created_at, s.outbox_id::text, s.payload]
        FROM store_messages(ARRAY[conversation], ARRAY[sender], ARRAY[body], ARRAY[reply_to], ARRAY[key],
            ARRAY[annotations], ARRAY[decider], '{NULL}', false, NULL, NULL, told_within) s);
END $$;

-- The same as `store_messages` for a batch of messages and other changes, by the types of the events that tell of them.
-- The changes of a conversation are made in their order, those of others beside them: a round takes from each
-- conversation its next messages and the one change that follows. `place` is a row's place in the batch; answers come
-- in any order.
CREATE FUNCTION store_changes(
    types text[], conversation_ids uuid[], user_ids uuid[], bodies text[], reply_tos bigint[], keys text[],
    all_annotations text[], deciders text[], hold_reasons text[], wait_for_locks boolean, versions text[], digests text[],
    told_within float8, message_ids bigint[], known_versions integer[], reactions text[], deleting_roles text[],
    edit_seconds float8, most_reactions integer
) RETURNS TABLE (
    place bigint, status text, id bigint, seq bigint, created_at text, version integer, count integer, outbox_id bigint,
    payload text
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    locked uuid[] := lock_conversations(conversation_ids, wait_for_locks);
    time_now timestamptz := clock_timestamp();
    rounds bigint[] := ARRAY(
        SELECT count(*) FILTER (WHERE type <> 'message.created') OVER (
            PARTITION BY conversation_id ORDER BY ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        FROM unnest(types, conversation_ids) WITH ORDINALITY AS t(type, conversation_id, ord) ORDER BY ord);
BEGIN
    FOR this_round IN 0 .. (SELECT max(r) FROM unnest(rounds) AS r) LOOP
        RETURN QUERY
        WITH these AS MATERIALIZED (
            SELECT array_agg(ord ORDER BY ord) AS places, array_agg(conversation_id ORDER BY ord) AS conversation_ids,
                array_agg(user_id ORDER BY ord) AS user_ids, array_agg(body ORDER BY ord) AS bodies,
                array_agg(reply_to ORDER BY ord) AS reply_tos, array_agg(key ORDER BY ord) AS keys,
                array_agg(annotations ORDER BY ord) AS annotations, array_agg(decider ORDER BY ord) AS deciders,
                array_agg(hold_reason ORDER BY ord) AS hold_reasons
            FROM unnest(types, rounds, conversation_ids, user_ids, bodies, reply_tos, keys, all_annotations, deciders,
                hold_reasons) WITH ORDINALITY
                AS t(type, round, conversation_id, user_id, body, reply_to, key, annotations, decider, hold_reason, ord)
            WHERE round = this_round AND type = 'message.created'
        )
        SELECT these.places[stored.ord], stored.status, stored.id, stored.seq, stored.created_at, 1, NULL::integer,
            stored.outbox_id, stored.payload
        FROM these CROSS JOIN LATERAL store_messages(these.conversation_ids, these.user_ids, these.bodies, these.reply_tos,
            these.keys, these.annotations, these.deciders, these.hold_reasons, false, NULL, NULL, told_within, locked)
            WITH ORDINALITY AS stored (status, id, seq, created_at, outbox_id, payload, ord)
        WHERE these.places IS NOT NULL;
        RETURN QUERY
        WITH these AS MATERIALIZED (
            SELECT array_agg(ord ORDER BY ord) AS places, array_agg(type ORDER BY ord) AS types,
                array_agg(conversation_id ORDER BY ord) AS conversation_ids, array_agg(user_id ORDER BY ord) AS user_ids,
                array_agg(message_id ORDER BY ord) AS message_ids, array_agg(body ORDER BY ord) AS bodies,
                array_agg(known_version ORDER BY ord) AS known_versions, array_agg(reaction ORDER BY ord) AS reactions,
                array_agg(key ORDER BY ord) AS keys, array_agg(annotations ORDER BY ord) AS annotations,
                array_agg(decider ORDER BY ord) AS deciders, array_agg(hold_reason ORDER BY ord) AS hold_reasons
            FROM unnest(types, rounds, conversation_ids, user_ids, message_ids, bodies, known_versions, reactions, keys,
                all_annotations, deciders, hold_reasons) WITH ORDINALITY
                AS t(type, round, conversation_id, user_id, message_id, body, known_version, reaction, key, annotations,
                    decider, hold_reason, ord)
            WHERE round = this_round AND type <> 'message.created'
        )
        SELECT these.places[changed.ord], changed.status, changed.id, changed.seq, changed.created_at, changed.version,
            changed.count, changed.outbox_id, changed.payload
        FROM these CROSS JOIN LATERAL change_messages(locked, time_now, these.types, these.conversation_ids, these.user_ids,
            these.message_ids, these.bodies, these.known_versions, these.reactions, these.keys, these.annotations,
            these.deciders, these.hold_reasons, deleting_roles, edit_seconds, most_reactions, false, told_within)
            WITH ORDINALITY AS changed (status, id, seq, created_at, version, count, outbox_id, payload, ord)
        WHERE these.places IS NOT NULL;
    END LOOP;
    IF digests IS NOT NULL THEN
        PERFORM note_decisions(conversation_ids, user_ids, deciders, versions, digests);
    END IF;
END $$;

-- Gives a held edit to its message, as its author would now; under the lock taken before.
CREATE FUNCTION release_edit(held_id bigint) RETURNS TABLE (
    id bigint, seq bigint, created_at text, conversation_id uuid, sender_id uuid, held_by text, reason text
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    edit held_messages;
BEGIN
    DELETE FROM held_messages WHERE id = held_id AND edits IS NOT NULL AND refused_at IS NULL RETURNING * INTO edit;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT c.id, c.seq, c.created_at, edit.conversation_id, edit.sender_id, edit.held_by, edit.reason
    FROM change_messages(ARRAY[edit.conversation_id], clock_timestamp(), '{message.edited}', ARRAY[edit.conversation_id],
        ARRAY[edit.sender_id], ARRAY[edit.edits], ARRAY[edit.body::text], ARRAY[edit.edits_version], '{NULL}',
        ARRAY[edit.idempotency_key], ARRAY[edit.annotations::text], ARRAY[edit.held_by], '{NULL}', '{}',
        NULL, NULL, true, NULL) c
    WHERE c.status = 'stored';
END $$;

-- A page of a conversation's messages as `viewer` sees them: above `after_seq`, oldest first, or without it below
-- `before_seq`, newest first; of all messages, or of `thread` and the replies to it. It ends after `most_rows` rows, or
-- before the row with which their text would be longer than `most_bytes`, but never before its first row. A last row
-- without `json` says that there are more.
--
-- Rows are fetched one by one, so at most one body is read that is not answered, whatever the sizes.
CREATE FUNCTION read_messages(
    conversation uuid, after_seq bigint, before_seq bigint, most_rows bigint, most_bytes bigint, viewer uuid, thread bigint
) RETURNS TABLE (seq bigint, json text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    page refcursor;
    message messages;
    bytes bigint := 0;
BEGIN
    IF thread IS NOT NULL THEN
        IF after_seq IS NOT NULL THEN
            OPEN page FOR SELECT * FROM (
                SELECT * FROM (SELECT * FROM messages m WHERE m.conversation_id = conversation
                    AND m.id BETWEEN thread AND thread ORDER BY m.id LIMIT 1) AS root WHERE root.seq > after_seq
                UNION ALL
                SELECT * FROM messages m WHERE m.conversation_id = conversation AND m.reply_to = thread AND m.seq > after_seq
            ) AS found ORDER BY found.seq;
        ELSE
            OPEN page FOR SELECT * FROM (
                SELECT * FROM (SELECT * FROM messages m WHERE m.conversation_id = conversation
                    AND m.id BETWEEN thread AND thread ORDER BY m.id LIMIT 1) AS root WHERE root.seq < before_seq
                UNION ALL
                SELECT * FROM messages m WHERE m.conversation_id = conversation AND m.reply_to = thread AND m.seq < before_seq
            ) AS found ORDER BY found.seq DESC;
        END IF;
    ELSIF after_seq IS NOT NULL THEN
        OPEN page FOR SELECT m.* FROM messages m
            WHERE m.conversation_id = conversation AND m.seq > after_seq ORDER BY m.seq;
    ELSE
        OPEN page FOR SELECT m.* FROM messages m
            WHERE m.conversation_id = conversation AND m.seq < before_seq ORDER BY m.seq DESC;
    END IF;
    FOR place IN 1 .. most_rows + 1 LOOP
        FETCH page INTO message;
        EXIT WHEN NOT FOUND;
        seq := message.seq;
        json := message_json(message)::text;
        IF message.reactions IS NOT NULL THEN
            json := (message_json(message) || jsonb_build_object('reactions', (
                SELECT jsonb_agg(jsonb_build_object('reaction', key, 'count', value, 'own', EXISTS (
                    SELECT FROM message_reactions r WHERE r.conversation_id = conversation AND r.message_id = message.id
                        AND r.user_id = viewer AND r.reaction = key)) ORDER BY value DESC, key)
                FROM jsonb_each(message.reactions))))::text;
        END IF;
        bytes := bytes + octet_length(json);
        IF place > 1 AND (place > most_rows OR bytes > most_bytes) THEN
            json := NULL;
            RETURN NEXT;
            EXIT;
        END IF;
        RETURN NEXT;
    END LOOP;
    CLOSE page;
END $$;

-- A page of a conversation's changes above `after_seq`, in their order, as they are told now. It ends like a page of
-- `read_messages`; a last row without `payload` says that there are more. If some of them were purged, the first row
-- has no `type`: its `seq` is the newest of those, and the page begins after it.
CREATE FUNCTION read_changes(conversation uuid, after_seq bigint, most_rows bigint, most_bytes bigint)
RETURNS TABLE (seq bigint, type text, payload text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    page refcursor;
    bytes bigint := 0;
BEGIN
    SELECT purged_seq INTO seq FROM conversations WHERE id = conversation;
    IF seq > after_seq THEN
        after_seq := seq;
        RETURN NEXT;
    END IF;
    OPEN page FOR SELECT * FROM (
        SELECT m.seq, 'message.created', creation_json(m)::text FROM messages m
        WHERE m.conversation_id = conversation AND m.seq > after_seq
        UNION ALL
        SELECT c.seq, c.type, change_json(c, m.message)::text
        FROM message_changes c CROSS JOIN LATERAL (SELECT messages AS message FROM messages
            WHERE conversation_id = conversation AND id BETWEEN c.message_id AND c.message_id ORDER BY id LIMIT 1) m
        WHERE c.conversation_id = conversation AND c.seq > after_seq
    ) AS change (seq, type, payload) ORDER BY change.seq;
    FOR place IN 1 .. most_rows + 1 LOOP
        FETCH page INTO seq, type, payload;
        EXIT WHEN NOT FOUND;
        bytes := bytes + octet_length(payload);
        IF place > 1 AND (place > most_rows OR bytes > most_bytes) THEN
            payload := NULL;
            RETURN NEXT;
            EXIT;
        END IF;
        RETURN NEXT;
    END LOOP;
    CLOSE page;
END $$;

-- A page of events other than changes for these conversations, by outbox id, above `after_id`. It ends like a page of
-- `read_messages`; a last row without `payload` says that there are more. Conversations are looked up one by one, since
-- the planner would rather read all that is newer, changes included.
CREATE FUNCTION read_events(
    conversation_ids uuid[], after_id bigint, most_rows bigint, most_bytes bigint
) RETURNS TABLE (id bigint, type text, conversation_id uuid, payload text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    page refcursor;
    bytes bigint := 0;
BEGIN
    OPEN page FOR SELECT event.id, event.type, event.conversation_id, event.payload::text FROM (
        SELECT found.* FROM unnest(conversation_ids) AS room (id) CROSS JOIN LATERAL (
            SELECT o.id, o.type, o.conversation_id, o.payload FROM outbox o
            WHERE o.conversation_id = room.id AND o.id > after_id AND o.seq IS NULL
                -- What a worker could not publish is told when it can be, and never if it is given up.
                AND (o.processed OR o.retry_count = 0 AND o.parked_at IS NULL)
            ORDER BY o.id LIMIT most_rows + 1
        ) AS found ORDER BY found.id LIMIT most_rows + 1
    ) AS event ORDER BY event.id;
    FOR place IN 1 .. most_rows + 1 LOOP
        FETCH page INTO id, type, conversation_id, payload;
        EXIT WHEN NOT FOUND;
        bytes := bytes + octet_length(type) + octet_length(payload);
        IF place > 1 AND (place > most_rows OR bytes > most_bytes) THEN
            payload := NULL;
            RETURN NEXT;
            EXIT;
        END IF;
        RETURN NEXT;
    END LOOP;
    CLOSE page;
END $$;

-- Locks rows with an id above `after_id` that are due, at most `most`, and answers the first ones, up to about
-- `batch_bytes` of payload; its plans are kept (README.md). `locked` counts all locked rows. Rows beyond the bytes are
-- locked but not answered, and become free again when the transaction ends.
--
-- Each payload is converted to text once, and only for locked rows. It stays null if its stored form alone is far
-- beyond `payload_bytes`, with `without_payloads`, and for a row that failed before: the worker reads such payloads one
-- by one.
CREATE FUNCTION claim_outbox(
    after_id bigint, most bigint, payload_bytes bigint, batch_bytes bigint, without_payloads boolean
) RETURNS TABLE (
    id bigint, type text, conversation_id uuid, retry_count bigint, age_ms bigint, payload text, locked bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH claimed AS MATERIALIZED (
        SELECT id, type, conversation_id, payload, retry_count, created_at
        FROM outbox
        WHERE NOT processed AND parked_at IS NULL AND id > after_id
            AND (next_attempt_at IS NULL OR next_attempt_at <= now()) AND (relay_after IS NULL OR relay_after <= now())
        ORDER BY id
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ), written AS MATERIALIZED (
        SELECT *, CASE
            WHEN NOT without_payloads AND retry_count = 0 AND pg_column_size(payload) <= 16 * payload_bytes THEN payload::text
        END AS text
        FROM claimed
    ), sized AS (
        SELECT *, sum(CASE WHEN octet_length(text) <= payload_bytes THEN octet_length(text) ELSE 0 END) OVER (
            ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS before
        FROM written
    )
    SELECT id, left(type, 1025), conversation_id, retry_count::int8,
        (extract(epoch FROM clock_timestamp() - created_at) * 1000)::int8,
        CASE WHEN octet_length(text) <= payload_bytes THEN text END,
        (SELECT count(*) FROM claimed)
    FROM sized
    WHERE coalesce(before, 0) < batch_bytes
    ORDER BY id;
END $$;

-- Marks rows as published, and corrects those that nobody holds any more; its plans are kept (README.md).
CREATE FUNCTION mark_outbox(ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    UPDATE outbox SET processed = true, processed_at = now() WHERE id = ANY(ids);
    IF EXISTS (SELECT FROM outbox_corrections) THEN
        WITH free AS MATERIALIZED (
            SELECT o.id FROM outbox o WHERE o.id = ANY(ARRAY(SELECT outbox_id FROM outbox_corrections LIMIT 1000))
            FOR UPDATE SKIP LOCKED
        ), due AS (
            DELETE FROM outbox_corrections c
            WHERE c.outbox_id IN (SELECT id FROM free) OR NOT EXISTS (SELECT FROM outbox o WHERE o.id = c.outbox_id)
            RETURNING *
        )
        UPDATE outbox o SET payload = due.payload FROM due WHERE o.id = due.outbox_id;
    END IF;
END $$;

-- Marks rows that a gateway has told of, but for those that a worker holds, or a change that corrects them: workers tell
-- those once more.
CREATE FUNCTION mark_told(ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    PERFORM mark_outbox(ARRAY(SELECT id FROM outbox WHERE id = ANY(ids) AND NOT processed FOR UPDATE SKIP LOCKED));
END $$;

-- The triggers. Other services fire them with rights on `conversations` and `participants` alone, from whatever
-- search_path they have: so they run with their owner's rights, and reach the other tables through the schema of the
-- table that fired them. Nobody else may make triggers of these functions: on a table of their own choice they would
-- write what they like.

-- Participants: the first change that a transaction makes to each is noted, whoever ran the SQL. Rows that were added
-- or removed are noted by one statement for all; an update has a trigger by row, which most updates (read marks) skip.
CREATE FUNCTION participants_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    note text := format('INSERT INTO %I.participant_changes ', TG_TABLE_SCHEMA);
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN
            EXECUTE note || 'SELECT conversation_id, user_id, NULL FROM added ON CONFLICT DO NOTHING';
        WHEN 'DELETE' THEN
            EXECUTE note || 'SELECT conversation_id, user_id, role FROM removed ON CONFLICT DO NOTHING';
        WHEN 'TRUNCATE' THEN
            EXECUTE note || format('SELECT conversation_id, user_id, role FROM %I.participants ON CONFLICT DO NOTHING',
                TG_TABLE_SCHEMA);
        WHEN 'UPDATE' THEN
            EXECUTE note || 'VALUES ($1, $2, $3), ($4, $5, NULL) ON CONFLICT DO NOTHING'
                USING OLD.conversation_id, OLD.user_id, OLD.role, NEW.conversation_id, NEW.user_id;
    END CASE;
    EXECUTE format('INSERT INTO %1$I.participant_changes_due
        SELECT WHERE EXISTS (SELECT FROM %1$I.participant_changes)
            AND NOT EXISTS (SELECT FROM %1$I.participant_changes_due)', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION participants_changed() FROM PUBLIC;
CREATE TRIGGER participants_added AFTER INSERT ON participants REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION participants_changed();
CREATE TRIGGER participants_removed AFTER DELETE ON participants REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION participants_changed();
CREATE TRIGGER participants_truncated BEFORE TRUNCATE ON participants
    FOR EACH STATEMENT EXECUTE FUNCTION participants_changed();
CREATE TRIGGER participant_updated AFTER UPDATE OF conversation_id, user_id, role ON participants
    FOR EACH ROW
    WHEN ((OLD.conversation_id, OLD.user_id, OLD.role) IS DISTINCT FROM (NEW.conversation_id, NEW.user_id, NEW.role))
    EXECUTE FUNCTION participants_changed();

-- At commit: what a transaction undid itself is told to nobody, and the end of a conversation is told as such. A
-- removal and a changed role take effect on every open socket.
CREATE FUNCTION participant_changes_told() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($sql$
        WITH due AS (
            DELETE FROM %1$I.participant_changes_due
        ), changed AS (
            DELETE FROM %1$I.participant_changes RETURNING *
        )
        INSERT INTO %1$I.outbox (type, conversation_id, payload, internal)
        SELECT CASE WHEN p.role IS NULL THEN 'participant.removed'
                    WHEN changed.role_before IS NULL THEN 'participant.added'
                    ELSE 'participant.role_changed' END,
            changed.conversation_id,
            jsonb_strip_nulls(jsonb_build_object('user_id', changed.user_id, 'role', p.role)),
            true
        FROM changed
        JOIN %1$I.conversations c ON c.id = changed.conversation_id
        LEFT JOIN %1$I.participants p
            ON p.conversation_id = changed.conversation_id AND p.user_id = changed.user_id
        WHERE p.role IS DISTINCT FROM changed.role_before
        $sql$, TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION participant_changes_told() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER participant_changes_told AFTER INSERT ON participant_changes_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION participant_changes_told();

CREATE FUNCTION conversation_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- With what was told of them; a row that a worker holds is corrected by whoever marks rows next.
    EXECUTE format($sql$
        WITH told AS (
            SELECT outbox_id AS id FROM %1$I.messages WHERE conversation_id = $1 AND outbox_id IS NOT NULL
            UNION ALL
            SELECT outbox_id FROM %1$I.message_changes WHERE conversation_id = $1 AND outbox_id IS NOT NULL
        ), free AS MATERIALIZED (
            SELECT o.id FROM %1$I.outbox o WHERE o.id IN (SELECT id FROM told) FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM %1$I.outbox o USING free WHERE o.id = free.id
        ), unquoted AS (
            UPDATE %1$I.plugin_audit a SET reason = NULL FROM %1$I.messages m
            WHERE m.conversation_id = $1 AND a.message_id = m.id
        )
        INSERT INTO %1$I.outbox_corrections (outbox_id, payload)
        SELECT o.id, '{}' FROM %1$I.outbox o JOIN told ON told.id = o.id
        WHERE NOT EXISTS (SELECT FROM free WHERE free.id = o.id)
        ON CONFLICT (outbox_id) DO UPDATE SET payload = excluded.payload
        $sql$, TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.messages WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.held_messages WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.message_changes WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.message_reactions WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.imported_messages WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('INSERT INTO %I.deleted_conversations (id, last_seq) VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq', TG_TABLE_SCHEMA) USING OLD.id, OLD.last_seq;
    EXECUTE format('INSERT INTO %I.outbox (type, conversation_id, payload, internal) VALUES ($1, $2, $3, true)', TG_TABLE_SCHEMA)
        USING 'conversation.deleted'::text, OLD.id, '{}'::jsonb;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION conversation_deleted() FROM PUBLIC;
CREATE TRIGGER conversation_deleted AFTER DELETE ON conversations
    FOR EACH ROW EXECUTE FUNCTION conversation_deleted();

CREATE FUNCTION conversations_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.outbox WHERE seq IS NOT NULL', TG_TABLE_SCHEMA);
    EXECUTE format('UPDATE %I.plugin_audit SET reason = NULL WHERE message_id IS NOT NULL', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.messages', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.held_messages', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.message_changes', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.message_reactions', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.imported_messages', TG_TABLE_SCHEMA);
    EXECUTE format('INSERT INTO %1$I.deleted_conversations (id, last_seq) SELECT id, last_seq FROM %1$I.conversations
        ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq', TG_TABLE_SCHEMA);
    EXECUTE format('INSERT INTO %1$I.outbox (type, conversation_id, payload, internal)
        SELECT $1, id, $2, true FROM %1$I.conversations', TG_TABLE_SCHEMA)
        USING 'conversation.deleted'::text, '{}'::jsonb;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION conversations_truncated() FROM PUBLIC;
CREATE TRIGGER conversations_truncated BEFORE TRUNCATE ON conversations
    FOR EACH STATEMENT EXECUTE FUNCTION conversations_truncated();

CREATE FUNCTION conversation_made() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended bigint;
BEGIN
    EXECUTE format('SELECT last_seq FROM %I.deleted_conversations WHERE id = $1', TG_TABLE_SCHEMA) INTO ended USING NEW.id;
    NEW.last_seq = greatest(NEW.last_seq, ended);
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION conversation_made() FROM PUBLIC;
CREATE TRIGGER conversation_made BEFORE INSERT ON conversations
    FOR EACH ROW EXECUTE FUNCTION conversation_made();

-- A block waits for what the blocked one is just saying: it is judged under the lock of its conversation, and so is
-- what comes after. Nothing is stored after the block's commit.
CREATE FUNCTION user_blocked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($sql$
        SELECT FROM %1$I.conversations WHERE id IN (
            SELECT p.conversation_id FROM blocked b
            JOIN %1$I.participants p ON p.user_id = b.user_id
            JOIN %1$I.participants other ON other.conversation_id = p.conversation_id AND other.user_id = b.blocked_id
            WHERE (SELECT count(*) FROM (SELECT FROM %1$I.participants WHERE conversation_id = p.conversation_id LIMIT 3)
                AS counted) = 2)
        ORDER BY id FOR NO KEY UPDATE
        $sql$, TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION user_blocked() FROM PUBLIC;
CREATE TRIGGER user_blocked AFTER INSERT ON user_blocks REFERENCING NEW TABLE AS blocked
    FOR EACH STATEMENT EXECUTE FUNCTION user_blocked();

-- Whoever changes how long messages are kept need not know who looks when.
CREATE FUNCTION retention_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('UPDATE %I.conversations SET purge_at = DEFAULT WHERE id = $1', TG_TABLE_SCHEMA) USING NEW.id;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION retention_changed() FROM PUBLIC;
CREATE TRIGGER retention_changed AFTER UPDATE OF keep_days, keep_messages ON conversations
    FOR EACH ROW
    WHEN ((OLD.keep_days, OLD.keep_messages) IS DISTINCT FROM (NEW.keep_days, NEW.keep_messages))
    EXECUTE FUNCTION retention_changed();

-- What a service calls in a transaction of its own. Its errors have SQLSTATEs of the class YC, which docs/backend.md
-- lists. These functions run with their owner's rights, as the triggers do, and find their tables through a search_path
-- that is pinned at their end.

-- Why a message cannot have this body, as far as SQL can tell; null if it can. The limits are the gateway's defaults,
-- but for the bytes of another `arcyou.max_body_bytes`. They are counted as PostgreSQL writes a body, which is with a
-- space after each comma and colon.
CREATE FUNCTION body_fault(body jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN jsonb_typeof(body) IS DISTINCT FROM 'object' THEN 'the body must be a JSON object'
    WHEN octet_length(body::text) > coalesce(nullif(current_setting('arcyou.max_body_bytes', true), '')::integer, 32768)
        THEN 'the body is too large'
    WHEN jsonb_path_exists(body, 'strict $.**{32} ? (@.type() == "object" || @.type() == "array")')
        THEN 'the body is nested deeper than 32 levels'
    WHEN EXISTS (SELECT FROM jsonb_path_query(body, 'strict $.** ? (@.type() == "number")') AS number
        WHERE octet_length(number::text) > 1100 OR abs(number::numeric) > 1.7976931348623157e308
            -- Half the smallest double: it would become zero.
            OR number::numeric <> 0 AND abs(number::numeric) <= 2.4703282292062327e-324)
        THEN 'the body has a number that is out of range for a double, or has more than 1,100 digits'
END;

-- Stores a message in the caller's transaction, by the statement that stores a gateway's: it is numbered, relayed and
-- replayed like any other, and rolled back with the caller's other work. No plugin judges it. The conversation is
-- locked until the transaction ends, so nobody else can send to it meanwhile.
--
-- A key that this sender has used in this conversation stores nothing: `duplicate`, with what was stored then, or the
-- `held_id` of what a plugin held. Above READ COMMITTED a conversation that has changed since the transaction's
-- snapshot is PostgreSQL's own serialization failure.
CREATE FUNCTION arcyou_send(
    conversation uuid, sender uuid, body jsonb, idempotency_key text DEFAULT NULL, reply_to bigint DEFAULT NULL,
    OUT message_id bigint, OUT seq bigint, OUT created_at timestamptz, OUT duplicate boolean, OUT held_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER
AS $$
#variable_conflict use_variable
DECLARE
    fault text := body_fault(body);
    answer record;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = 'YC005', HINT = 'docs/protocol.md, "Sending", says what a body may be.';
    ELSIF octet_length(idempotency_key) NOT BETWEEN 1 AND 128 THEN
        RAISE EXCEPTION 'the idempotency key must have 1 to 128 bytes' USING ERRCODE = 'YC006', HINT = 'A UUID is fine.';
    END IF;
    -- Before the statement that judges and stores, whose snapshot would be older than a lock that it waits for.
    PERFORM FROM conversations c WHERE c.id = conversation FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no conversation %', conversation
            USING ERRCODE = 'YC001', HINT = 'Insert it into conversations first; the same transaction may do so.';
    END IF;
    SELECT stored.* INTO STRICT answer FROM store_messages(ARRAY[conversation], ARRAY[sender], ARRAY[body::text],
        ARRAY[reply_to], ARRAY[idempotency_key], '{NULL}', '{NULL}', '{NULL}', true, NULL, NULL, NULL, ARRAY[conversation])
        AS stored;
    CASE answer.status
        WHEN 'stored', 'stored before' THEN
            message_id := answer.id;
            seq := answer.seq;
            created_at := answer.created_at;
            duplicate := answer.status = 'stored before';
        WHEN 'held before' THEN
            held_id := answer.id;
            duplicate := true;
        WHEN 'forbidden' THEN
            RAISE EXCEPTION 'user % does not participate in conversation %', sender, conversation
                USING ERRCODE = 'YC002', HINT = 'Insert the user into participants first; the same transaction may do so.';
        WHEN 'read only' THEN
            RAISE EXCEPTION 'conversation % is read-only', conversation
                USING ERRCODE = 'YC007', HINT = 'UPDATE conversations SET read_only = false opens it again.';
        WHEN 'blocked' THEN
            RAISE EXCEPTION 'the other participant of conversation % has blocked user %', conversation, sender
                USING ERRCODE = 'YC008', HINT = 'Send nothing until the row of user_blocks is gone.';
        WHEN 'unknown message' THEN
            RAISE EXCEPTION 'conversation % has no message % to reply to', conversation, reply_to
                USING ERRCODE = 'YC003', HINT = 'reply_to is the message_id of a message of the same conversation.';
        WHEN 'deleted message' THEN
            RAISE EXCEPTION 'message % is deleted and cannot be replied to', reply_to
                USING ERRCODE = 'YC004', HINT = 'Send it without reply_to.';
        ELSE
            RAISE EXCEPTION 'store_messages answered %', answer.status USING ERRCODE = 'internal_error';
    END CASE;
END $$;

-- The messages of an array for `arcyou_import`, with the one that was imported under the same id before.
CREATE FUNCTION history_rows(conversation uuid, history jsonb) RETURNS TABLE (
    place bigint, id text, sender_id uuid, body jsonb, created_at timestamptz, reply_to text, imported_as bigint
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.place, t.id, t.sender_id, t.body, t.created_at, t.reply_to, i.message_id
    FROM ROWS FROM (jsonb_to_recordset(history)
        AS (id text, sender_id uuid, body jsonb, created_at timestamptz, reply_to text)) WITH ORDINALITY
        AS t (id, sender_id, body, created_at, reply_to, place)
    LEFT JOIN LATERAL (SELECT message_id FROM imported_messages
        WHERE conversation_id = conversation AND source_id = t.id LIMIT 1) i ON true
    ORDER BY t.place;
END $$;

-- Appends messages of another system to a conversation, oldest first, at most 10,000 in one call: `[{"id": …,
-- "sender_id": …, "body": {…}, "created_at": …, "reply_to": …}, …]`, where `id` and `reply_to` are what that system
-- calls its messages. They keep their times, and those without a zone are UTC. Nobody is told of them: no outbox row,
-- no plugin; and no sender has to participate. What was imported before, under the same id, is left out.
CREATE FUNCTION arcyou_import(
    conversation uuid, history jsonb,
    OUT imported bigint, OUT duplicates bigint, OUT last_seq bigint, OUT last_message_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    room conversations;
    wrong record;
BEGIN
    IF jsonb_typeof(history) IS DISTINCT FROM 'array' OR jsonb_array_length(history) NOT BETWEEN 1 AND 10000
        OR EXISTS (SELECT FROM jsonb_array_elements(history) message WHERE jsonb_typeof(message) <> 'object') THEN
        RAISE EXCEPTION 'the history must be a JSON array of 1 to 10,000 objects, the messages'
            USING ERRCODE = 'YC010', HINT = 'Import a longer history in several calls, oldest first.';
    END IF;
    SELECT * INTO room FROM conversations c WHERE c.id = conversation FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no conversation %', conversation
            USING ERRCODE = 'YC001', HINT = 'Insert it into conversations first; the same transaction may do so.';
    END IF;
    WITH given AS MATERIALIZED (
        SELECT * FROM history_rows(conversation, history)
    ), first_of_id AS (
        SELECT id, min(place) AS place FROM given GROUP BY id
    ), timed AS (
        SELECT place, lag(created_at, 1, room.last_message_at) OVER (ORDER BY place) AS time_before
        FROM given WHERE imported_as IS NULL
    ), judged AS (
        SELECT g.place, g.id, t.time_before, g.created_at, CASE
            WHEN (octet_length(g.id) BETWEEN 1 AND 128) IS NOT TRUE THEN 'it has no id of 1 to 128 bytes'
            WHEN g.sender_id IS NULL THEN 'it has no sender_id'
            WHEN body_fault(g.body) IS NOT NULL THEN body_fault(g.body)
            WHEN g.created_at IS NULL THEN 'it has no created_at'
            WHEN NOT isfinite(g.created_at) THEN 'its created_at is infinite'
            WHEN g.created_at < '0001-01-01Z' THEN 'its created_at is before the year 1'
            WHEN g.created_at > clock_timestamp() THEN 'its created_at is in the future'
            WHEN first.place < g.place THEN format('message %s has the same id', first.place)
            WHEN g.created_at < t.time_before THEN 'it is older than the one before it'
            WHEN g.reply_to IS NOT NULL AND replied.place IS NULL AND NOT EXISTS (SELECT FROM imported_messages i
                WHERE i.conversation_id = conversation AND i.source_id = g.reply_to)
                THEN format('it replies to %s, which is not imported and not before it', g.reply_to)
            END AS fault
        FROM given g
        LEFT JOIN first_of_id first ON first.id = g.id
        LEFT JOIN first_of_id replied ON replied.id = g.reply_to AND replied.place < g.place
        LEFT JOIN timed t ON t.place = g.place
    )
    SELECT * INTO wrong FROM judged WHERE fault IS NOT NULL ORDER BY place LIMIT 1;
    IF wrong.fault = 'it is older than the one before it' THEN
        RAISE EXCEPTION 'message % of the array (id %) is older (%) than the one before it (%)', wrong.place, wrong.id,
            message_time(wrong.created_at), message_time(wrong.time_before)
            USING ERRCODE = 'YC011',
                HINT = 'A history is imported oldest first, and before anything newer is in the conversation.';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'message % of the array (id %) cannot be imported: %', wrong.place, wrong.id, wrong.fault
            USING ERRCODE = 'YC012', HINT = 'Nothing of this call was imported.';
    END IF;
    WITH given AS MATERIALIZED (
        SELECT * FROM history_rows(conversation, history)
    ), fresh AS MATERIALIZED (
        SELECT g.*, row_number() OVER (ORDER BY place) AS nth FROM given g WHERE imported_as IS NULL
    ), numbered AS MATERIALIZED (
        SELECT f.*, nextval('messages_id_seq') AS message_id FROM fresh f ORDER BY nth
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, n, changed_seq, sender_id, body, reply_to, created_at)
        SELECT n.message_id, conversation, room.last_seq + n.nth, room.message_count + n.nth, room.last_seq + n.nth,
            n.sender_id, n.body, coalesce(replied.message_id, i.message_id), n.created_at
        FROM numbered n
        LEFT JOIN numbered replied ON replied.id = n.reply_to
        LEFT JOIN LATERAL (SELECT message_id FROM imported_messages WHERE n.reply_to IS NOT NULL
            AND conversation_id = conversation AND source_id = n.reply_to LIMIT 1) i ON true
        ORDER BY n.nth
    ), noted AS (
        INSERT INTO imported_messages (conversation_id, source_id, message_id)
        SELECT conversation, id, message_id FROM numbered
    ), sums AS (
        SELECT count(*) AS imported, max(message_id) AS message_id, max(created_at) AS created_at FROM numbered
    ), advanced AS (
        UPDATE conversations c SET last_seq = c.last_seq + s.imported, message_count = c.message_count + s.imported,
            last_message_id = s.message_id, last_message_at = s.created_at, purge_at = DEFAULT
        FROM sums s WHERE c.id = conversation AND s.imported > 0
    )
    SELECT s.imported, jsonb_array_length(history) - s.imported, room.last_seq + s.imported,
        coalesce(s.message_id, room.last_message_id)
    INTO imported, duplicates, last_seq, last_message_id FROM sums s;
END $$;

-- Takes a user out of the conversations, what the user wrote out of the database, and back what the user gave: a part
-- at a time, so that nobody waits long, and nobody for what another part waits for. The first call is given the user
-- alone, and disconnects the user; each further one is given what the last one answered, until that is no conversation.
-- They take the user out, those conversations last that somebody holds; then what is noted of the user; and then each
-- walks so many messages, and deletes the user's among them as the user would: their places stay, and everybody is
-- told. The user's id stays in those places, and in the changes.
CREATE FUNCTION arcyou_erase_user(
    erased uuid, INOUT after_conversation uuid DEFAULT NULL, INOUT after_seq bigint DEFAULT NULL, most integer DEFAULT 1000,
    OUT deleted bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    begin_of_all constant uuid := '00000000-0000-0000-0000-000000000000';
    -- Conversations.
    held uuid[];
    walked record;
    given record;
    rows integer := 0;
BEGIN
    IF most IS NULL OR most < 1 THEN
        RAISE EXCEPTION 'a call walks at least one message, and not %', coalesce(most::text, 'null')
            USING ERRCODE = 'YC005', HINT = 'Leave the fourth argument out.';
    END IF;
    deleted := 0;
    -- After the first message of a conversation whose id is all zeros, the place is that of before the walk.
    most := greatest(most, 2);
    IF after_conversation IS NULL THEN
        PERFORM disconnect_user(erased);
        after_conversation := begin_of_all;
        after_seq := 0;
        RETURN;
    END IF;
    after_seq := coalesce(after_seq, 0);
    IF after_conversation = begin_of_all AND after_seq = 0 THEN
        IF EXISTS (SELECT FROM participants p WHERE p.user_id = erased) THEN
            -- What the user is just saying is judged under the lock of its conversation, and so is what comes after: nobody
            -- writes there as this user from the commit on. Whoever waits for one conversation holds no other meanwhile.
            BEGIN
                held := ARRAY(SELECT c.id FROM conversations c
                    WHERE c.id IN (SELECT p.conversation_id FROM participants p WHERE p.user_id = erased)
                    ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED);
                held := ARRAY(SELECT p.conversation_id FROM participants p
                    WHERE p.user_id = erased AND p.conversation_id = ANY(held) FOR UPDATE SKIP LOCKED);
                IF cardinality(held) = 0 THEN
                    RAISE SQLSTATE 'YC099';
                END IF;
            EXCEPTION WHEN SQLSTATE 'YC099' THEN
                -- Conversations that were locked for participants whom somebody holds are free again.
                NULL;
            END;
            IF cardinality(held) = 0 THEN
                held := ARRAY(SELECT c.id FROM conversations c WHERE c.id = (SELECT p.conversation_id FROM participants p
                    WHERE p.user_id = erased ORDER BY p.conversation_id LIMIT 1) FOR NO KEY UPDATE);
            END IF;
            DELETE FROM participants WHERE user_id = erased AND conversation_id = ANY(held);
        ELSE
            DELETE FROM user_blocks WHERE user_id = erased OR blocked_id = erased;
            DELETE FROM held_messages WHERE sender_id = erased;
            -- Whoever notes a reason from now on sees the disconnection, and whoever just does is waited for.
            PERFORM pg_advisory_xact_lock(reasons_lock());
            UPDATE plugin_audit SET reason = NULL WHERE sender_id = erased AND reason IS NOT NULL;
            after_seq := 1;
        END IF;
        RETURN;
    END IF;
    -- Before the messages of the first conversation, whichever that is.
    after_seq := after_seq - (after_conversation = begin_of_all)::integer;
    FOR walked IN
        SELECT m.conversation_id, m.seq, m.id, m.sender_id = erased AND m.deleted_at IS NULL AS is_theirs,
            m.reactions IS NOT NULL AS has_reactions
        FROM messages m WHERE (m.conversation_id, m.seq) > (after_conversation, after_seq)
        ORDER BY m.conversation_id, m.seq LIMIT most
    LOOP
        rows := rows + 1;
        after_conversation := walked.conversation_id;
        after_seq := walked.seq;
        IF walked.is_theirs THEN
            deleted := deleted + (SELECT count(*) FROM change_messages(
                lock_conversations(ARRAY[walked.conversation_id], true), clock_timestamp(), '{message.deleted}',
                ARRAY[walked.conversation_id], ARRAY[erased], ARRAY[walked.id], '{NULL}', '{NULL}', '{NULL}', '{NULL}',
                '{NULL}', '{NULL}', '{NULL}', '{}', NULL, NULL, true, NULL) c WHERE c.status = 'stored');
        ELSIF walked.has_reactions THEN
            FOR given IN
                SELECT r.reaction FROM message_reactions r WHERE r.conversation_id = walked.conversation_id
                    AND r.message_id = walked.id AND r.user_id = erased
            LOOP
                PERFORM c.status FROM change_messages(lock_conversations(ARRAY[walked.conversation_id], true),
                    clock_timestamp(), '{reaction.removed}', ARRAY[walked.conversation_id], ARRAY[erased], ARRAY[walked.id],
                    '{NULL}', '{NULL}', ARRAY[given.reaction], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{}', NULL, NULL, true, NULL)
                    c;
            END LOOP;
        END IF;
    END LOOP;
    IF rows < most THEN
        after_conversation := NULL;
        after_seq := NULL;
    END IF;
END $$;

-- A page of what a user wrote and gave, for whoever exports it: one row for each message of the user, also in
-- conversations left since, and for each reaction. The page walks so many messages, of whomever they are, and ends when
-- it has more than these bytes. A last row without `json` says where it stopped, if there are more. As for an erasure,
-- no index leads from a user to messages.
CREATE FUNCTION read_of_user(
    reader uuid, after_conversation uuid, after_seq bigint, most_rows bigint, most_bytes bigint
) RETURNS TABLE (conversation_id uuid, seq bigint, is_reaction boolean, json text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    walked record;
    given record;
    rows bigint := 0;
    bytes bigint := 0;
BEGIN
    FOR walked IN
        SELECT m.conversation_id, m.seq, m.id, m.reactions IS NOT NULL AS has_reactions, CASE WHEN m.sender_id = reader
            THEN json_build_object('type', 'message', 'message', message_json(m))::text END AS json
        FROM messages m WHERE (m.conversation_id, m.seq) > (after_conversation, after_seq)
        ORDER BY m.conversation_id, m.seq LIMIT most_rows
    LOOP
        rows := rows + 1;
        conversation_id := walked.conversation_id;
        seq := walked.seq;
        IF walked.json IS NOT NULL THEN
            is_reaction := false;
            json := walked.json;
            bytes := bytes + octet_length(json);
            RETURN NEXT;
        END IF;
        IF walked.has_reactions THEN
            FOR given IN
                SELECT r.reaction, c.created_at FROM message_reactions r LEFT JOIN message_changes c
                    ON c.conversation_id = r.conversation_id AND c.seq = r.seq
                WHERE r.conversation_id = walked.conversation_id AND r.message_id = walked.id AND r.user_id = reader
            LOOP
                is_reaction := true;
                json := json_build_object('type', 'reaction', 'conversation_id', walked.conversation_id, 'message_id',
                    walked.id, 'reaction', given.reaction, 'given_at', message_time(given.created_at))::text;
                bytes := bytes + octet_length(json);
                RETURN NEXT;
            END LOOP;
        END IF;
        EXIT WHEN bytes >= most_bytes;
    END LOOP;
    IF rows >= most_rows OR bytes >= most_bytes THEN
        is_reaction := NULL;
        json := NULL;
        RETURN NEXT;
    END IF;
END $$;

-- Takes messages away that their conversation does not keep any more, from one conversation at a time and oldest first,
-- with everything that belongs to them: about `most` rows, so that senders wait a moment at most, and never for those
-- that they have locked. Nobody is told. Answers how many went, and whether a conversation is still due.
--
-- What a worker has yet to relay stays until then, and so does what comes after it; what is parked does not count.
-- `message_count`, `last_seq` and `last_message_id` stay as they are.
CREATE FUNCTION purge_messages(most integer, OUT purged bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    time_now timestamptz := clock_timestamp();
    room conversations;
    -- What is at or below this number, or before this time, is not kept.
    last_n bigint;
    kept_since timestamptz;
    oldest record;
    gone record;
    next_look timestamptz;
BEGIN
    purged := 0;
    FOR look IN 1 .. 50 LOOP
        SELECT c.* INTO room FROM conversations c
        WHERE (c.keep_days IS NOT NULL OR c.keep_messages IS NOT NULL) AND c.purge_at <= time_now
        ORDER BY c.purge_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        last_n := room.message_count - room.keep_messages;
        kept_since := time_now - make_interval(days => room.keep_days);
        SELECT m.n, m.created_at INTO oldest FROM messages m WHERE m.conversation_id = room.id ORDER BY m.seq LIMIT 1;
        IF oldest.n <= last_n OR oldest.created_at < kept_since THEN
            gone := purge_oldest(room.id, last_n, kept_since, most);
            purged := gone.messages;
            -- Behind the others that are due. What is not relayed yet is tried again soon.
            UPDATE conversations c SET purged_n = greatest(c.purged_n, gone.n), purged_seq = greatest(c.purged_seq, gone.seq),
                purge_at = CASE WHEN purged = 0 THEN time_now + interval '10 seconds' ELSE time_now END
            WHERE c.id = room.id;
            EXIT WHEN purged > 0;
        ELSE
            -- The oldest one's time is known. How many come is not, so whoever has been silent is looked at less often.
            next_look := least(
                coalesce(oldest.created_at, time_now) + make_interval(days => room.keep_days),
                CASE WHEN room.keep_messages IS NOT NULL THEN
                    time_now + least((time_now - coalesce(room.last_message_at, room.created_at)) / 10, interval '1 hour') END,
                time_now + interval '1 day');
            UPDATE conversations c SET purge_at = greatest(next_look, time_now + interval '1 minute') WHERE c.id = room.id;
        END IF;
    END LOOP;
    more := EXISTS (SELECT FROM conversations c
        WHERE (c.keep_days IS NOT NULL OR c.keep_messages IS NOT NULL) AND c.purge_at <= time_now
        ORDER BY c.purge_at LIMIT 1);
END $$;

-- The part of `purge_messages` that deletes, from a conversation that is locked. Answers how many messages went, and
-- the newest `n` and `seq` that went with them.
CREATE FUNCTION purge_oldest(
    conversation uuid, last_n bigint, kept_since timestamptz, most integer, OUT messages bigint, OUT n bigint, OUT seq bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    WITH oldest AS MATERIALIZED (
        SELECT m.id, m.n, m.seq, m.changed_seq, m.outbox_id, m.ctid AS place, m.tableoid AS part,
            (m.n <= last_n OR m.created_at < kept_since) IS TRUE AS is_due,
            (SELECT count(*) FROM (SELECT FROM message_changes c WHERE c.conversation_id = conversation
                AND c.message_id = m.id ORDER BY c.version DESC NULLS LAST LIMIT most) AS counted) AS changes
        FROM messages m WHERE m.conversation_id = conversation ORDER BY m.seq LIMIT most
    ), due AS MATERIALIZED (
        -- One whole message at least, however often it was changed.
        SELECT * FROM (
            SELECT o.*, bool_and(is_due) OVER in_order AS are_due, row_number() OVER in_order AS nth,
                sum(1 + changes) OVER in_order AS rows
            FROM oldest o WINDOW in_order AS (ORDER BY o.seq ROWS UNBOUNDED PRECEDING)
        ) AS summed WHERE are_due AND (rows <= most OR nth = 1)
    ), changes AS MATERIALIZED (
        SELECT d.n, c.outbox_id, c.place FROM due d CROSS JOIN LATERAL (SELECT outbox_id, ctid AS place
            FROM message_changes WHERE conversation_id = conversation AND message_id = d.id
            ORDER BY version DESC NULLS LAST) c
    ), told AS MATERIALIZED (
        SELECT n, outbox_id FROM due WHERE outbox_id IS NOT NULL
        UNION ALL
        SELECT n, outbox_id FROM changes WHERE outbox_id IS NOT NULL
    ), gone AS MATERIALIZED (
        SELECT d.* FROM due d WHERE d.n < coalesce((SELECT min(t.n) FROM told t JOIN outbox o ON o.id = t.outbox_id
            WHERE NOT o.processed AND o.parked_at IS NULL), 9223372036854775807)
    ), last AS MATERIALIZED (
        SELECT max(n) AS n FROM gone
    ), untold AS MATERIALIZED (
        SELECT outbox_id AS id FROM told WHERE n <= (SELECT n FROM last)
    ), free AS MATERIALIZED (
        SELECT o.id FROM outbox o WHERE o.id = ANY(ARRAY(SELECT id FROM untold)) FOR UPDATE SKIP LOCKED
    ), forgotten AS (
        DELETE FROM outbox o WHERE o.id = ANY(ARRAY(SELECT id FROM free))
    ), corrected AS (
        -- A row that somebody holds is corrected by whoever marks rows next.
        INSERT INTO outbox_corrections (outbox_id, payload)
        SELECT o.id, '{}' FROM outbox o WHERE o.id = ANY(ARRAY(SELECT id FROM untold))
            AND o.id <> ALL(ARRAY(SELECT id FROM free))
        ON CONFLICT (outbox_id) DO UPDATE SET payload = excluded.payload
    ), unquoted AS (
        UPDATE plugin_audit a SET reason = NULL FROM gone g WHERE a.message_id = g.id RETURNING a.held_id
    ), unquoted_when_held AS (
        UPDATE plugin_audit SET reason = NULL
        WHERE message_id IS NULL AND held_id = ANY(ARRAY(SELECT held_id FROM unquoted WHERE held_id IS NOT NULL))
    ), unheld AS (
        DELETE FROM held_messages WHERE id = ANY(ARRAY(
            SELECT h.id FROM gone g CROSS JOIN LATERAL (SELECT id, edits FROM held_messages
                WHERE conversation_id = conversation AND edits BETWEEN g.id AND g.id ORDER BY edits) h))
    ), unnamed AS (
        DELETE FROM imported_messages i USING (
            SELECT named.place FROM gone g CROSS JOIN LATERAL (SELECT ctid AS place FROM imported_messages
                WHERE conversation_id = conversation AND message_id BETWEEN g.id AND g.id ORDER BY message_id) named
        ) AS names WHERE i.ctid = names.place
    ), given AS (
        DELETE FROM message_reactions r USING gone g WHERE r.conversation_id = conversation AND r.message_id = g.id
    ), unchanged AS (
        DELETE FROM message_changes c USING changes found WHERE c.ctid = found.place AND found.n <= (SELECT n FROM last)
    ), deleted AS (
        DELETE FROM messages m USING gone g WHERE m.ctid = g.place AND m.tableoid = g.part
    )
    SELECT count(*), max(g.n), max(g.changed_seq) INTO messages, n, seq FROM gone g;
END $$;

REVOKE EXECUTE ON FUNCTION arcyou_send, arcyou_import, arcyou_erase_user, purge_messages, purge_oldest FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION purge_messages SET search_path = pg_catalog, %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION arcyou_send SET search_path = pg_catalog, %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION arcyou_import SET search_path = pg_catalog, %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION arcyou_erase_user SET search_path = pg_catalog, %I, pg_temp', current_schema());
END $$;
