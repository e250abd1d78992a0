-- The chat schema, in the order in which a message passes through it. Other services write `conversations` and
-- `participants` with plain SQL and may insert into `outbox`; all other tables belong to the gateway. README.md beside
-- this file says how to change the schema, and what runs inside the database and why.

-- One row: what distinguishes this installation from others. Workers mark events with the key and gateways believe no
-- others, so only they may read it. 244 random bits, since each of the two UUIDs has 122.
CREATE TABLE installation (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    event_key bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- The `seq` of the newest message. Every transaction that adds a message locks this row, so that `seq` has no holes
    -- and follows the order of commits.
    last_seq bigint NOT NULL DEFAULT 0,
    -- The `id` and the time of the newest message, also after it was deleted: read marks and cursors are places, not
    -- references, and no message is older than the one before it.
    last_message_id bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Each message updates its conversation's row: leave room for updates inside the page.
ALTER TABLE conversations SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Where the `seq` of deleted conversations ended. One that is made again with the same id goes on from there: no event of
-- the old one, however late, can then be taken for one of the new.
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
CREATE INDEX participants_by_user ON participants (user_id);
ALTER TABLE participants SET (fillfactor = 85);

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
    seq bigint NOT NULL,
    sender_id uuid NOT NULL,
    body jsonb NOT NULL,
    idempotency_key text,
    -- The plugins' annotations, as an object; null if there are none.
    annotations jsonb,
    -- The plugin that replaced or held the message; null if every plugin accepted it.
    decided_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_idempotency ON messages (conversation_id, sender_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Messages that a plugin held for review. Their ids are separate from those of `messages`: a message gets its
-- `messages.id` and its `seq` when it is released. An idempotency key is unique across both tables because both are
-- written under the conversation's lock.
CREATE TABLE held_messages (
    id bigserial PRIMARY KEY,
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    body jsonb NOT NULL,
    idempotency_key text,
    annotations jsonb,
    held_by text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Set when a reviewer refuses the message. Released messages move to `messages`; refused ones stay, so that their
    -- idempotency keys remain known and a repeated send is not held again, until they are as old as audit rows get.
    refused_at timestamptz
);
CREATE UNIQUE INDEX held_messages_idempotency ON held_messages (conversation_id, sender_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
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
    -- The message if it was stored (replaced, released) or held. A held message gets a new id when it is released.
    message_id bigint,
    held_id bigint,
    CHECK (reviewer IS NOT NULL OR sha256 IS NOT NULL)
);
CREATE INDEX plugin_audit_by_sender ON plugin_audit (sender_id, id);

CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    type text NOT NULL,
    conversation_id uuid NOT NULL,
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
    -- Set when the row has used up its tries; it then waits for an operator.
    parked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_type_is_reserved CHECK (internal OR type NOT IN ('message.created', 'message.read',
        'participant.added', 'participant.removed', 'participant.role_changed', 'conversation.deleted'))
);
-- The index that a claim walks: rows leave it when they are published or parked.
CREATE INDEX outbox_pending ON outbox (id) WHERE NOT processed AND parked_at IS NULL;
CREATE INDEX outbox_parked ON outbox (id) WHERE parked_at IS NOT NULL;
-- What gateways read after Redis was away. Messages are caught up from `messages` by `seq`.
CREATE INDEX outbox_other_events ON outbox (conversation_id, id) WHERE type <> 'message.created';
-- Every row is inserted once, updated once and deleted once: keep dead rows few and the claim's index short.
ALTER TABLE outbox SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
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
    'seq', (m).seq,
    'conversation_id', (m).conversation_id,
    'sender_id', (m).sender_id,
    'body', (m).body,
    'created_at', message_time((m).created_at)
);

-- Stores a gateway's batch of messages, in one statement that is its own transaction; its plans are kept (README.md).
-- Answers one row for each message, in order: 'stored', 'held', 'stored before', 'held before', 'forbidden', or 'busy'
-- when somebody else holds the conversation's lock and `wait_for_locks` is false. The id of a held message is that in
-- `held_messages`. Without `digests` it writes no audit rows.
--
-- The function raises an error under any isolation level but READ COMMITTED, where a snapshot would be older than the
-- locks. Gateways then open a transaction with that level around it.
--
-- Locks come first, always in the order of ids, so that two gateways cannot deadlock. `NO KEY` lets other services
-- insert participants meanwhile. Judging and storing is a second statement, because a statement's snapshot is older
-- than a lock that it waits for. Its time grows with the batch and with nothing else: no two steps are joined row by
-- row, places come from windows over the batch, ids are drawn before the insert, and each `LIMIT` keeps the planner
-- from turning a look-up into a join.
CREATE FUNCTION store_messages(
    conversation_ids uuid[], sender_ids uuid[], bodies text[], keys text[], all_annotations text[], deciders text[],
    hold_reasons text[], wait_for_locks boolean, versions text[], digests text[]
) RETURNS TABLE (status text, id bigint, seq bigint, created_at text)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    locked uuid[];
    time_now timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'messages are stored under READ COMMITTED, and this is %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'inappropriate_isolation_level_for_branch_transaction';
    END IF;
    IF wait_for_locks THEN
        SELECT array_agg(l.id) INTO locked FROM (
            SELECT c.id FROM conversations c WHERE c.id = ANY(conversation_ids) ORDER BY c.id FOR NO KEY UPDATE) l;
    ELSE
        SELECT array_agg(l.id) INTO locked FROM (
            SELECT c.id FROM conversations c WHERE c.id = ANY(conversation_ids) ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED) l;
    END IF;
    -- Not the time at which the transaction began: another one may have had the locks meanwhile.
    time_now := clock_timestamp();
    RETURN QUERY
    WITH input AS (
        SELECT * FROM unnest(conversation_ids, sender_ids, bodies, keys, all_annotations, deciders, hold_reasons)
            WITH ORDINALITY AS t(conversation_id, sender_id, body, key, annotations, decided_by, hold_reason, ord)
    ), judged AS MATERIALIZED (
        SELECT i.*, c.last_seq, greatest(time_now, c.last_message_at) AS created_at,
            CASE WHEN c.id IS NULL THEN 'forbidden'
                 -- Before anything else: a stored message stays stored, whoever locks its conversation now, and even if
                 -- its sender has been removed since.
                 WHEN m.id IS NOT NULL THEN 'stored before'
                 WHEN h.id IS NOT NULL THEN 'held before'
                 WHEN i.conversation_id NOT IN (SELECT unnest(locked)) THEN 'busy'
                 WHEN p.user_id IS NULL THEN 'forbidden'
                 ELSE 'new' END AS status,
            coalesce(m.id, h.id) AS earlier_id, m.seq AS earlier_seq, m.created_at AS earlier_created_at
        FROM input i
        LEFT JOIN conversations c ON c.id = i.conversation_id
        LEFT JOIN participants p ON p.conversation_id = i.conversation_id AND p.user_id = i.sender_id
        LEFT JOIN LATERAL (SELECT id, seq, created_at FROM messages WHERE i.key IS NOT NULL
            AND conversation_id = i.conversation_id AND sender_id = i.sender_id AND idempotency_key = i.key LIMIT 1) m ON true
        LEFT JOIN LATERAL (SELECT id FROM held_messages WHERE i.key IS NOT NULL
            AND conversation_id = i.conversation_id AND sender_id = i.sender_id AND idempotency_key = i.key LIMIT 1) h ON true
    ), first_of_key AS (
        SELECT *, status = 'new' AND row_number() OVER (
            PARTITION BY conversation_id, sender_id, key, CASE WHEN key IS NULL THEN ord END ORDER BY ord) = 1 AS is_first
        FROM judged
    ), placed AS (
        SELECT *, is_first AND hold_reason IS NULL AS is_fresh,
            last_seq + count(*) FILTER (WHERE is_first AND hold_reason IS NULL)
                OVER (PARTITION BY conversation_id ORDER BY ord ROWS UNBOUNDED PRECEDING) AS seq
        FROM first_of_key
    ), numbered AS MATERIALIZED (
        SELECT *, CASE WHEN is_fresh THEN nextval('messages_id_seq')
                       WHEN is_first THEN nextval('held_messages_id_seq') END AS id
        FROM placed ORDER BY ord
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, sender_id, body, idempotency_key, annotations, decided_by, created_at)
        SELECT id, conversation_id, seq, sender_id, body::jsonb, key, annotations::jsonb, decided_by, created_at
        FROM numbered WHERE is_fresh
        RETURNING conversation_id, message_json(messages) AS json
    ), held AS (
        INSERT INTO held_messages (id, conversation_id, sender_id, body, idempotency_key, annotations, held_by, reason)
        SELECT id, conversation_id, sender_id, body::jsonb, key, annotations::jsonb, coalesce(decided_by, ''), hold_reason
        FROM numbered WHERE is_first AND NOT is_fresh
    ), counted AS (
        UPDATE conversations c SET last_seq = n.seq, last_message_id = n.id, last_message_at = n.created_at
        FROM (SELECT conversation_id, max(seq) AS seq, max(id) AS id, max(created_at) AS created_at
            FROM numbered WHERE is_fresh GROUP BY conversation_id) n
        WHERE c.id = n.conversation_id
    ), relayed AS (
        INSERT INTO outbox (type, conversation_id, payload, internal)
        SELECT 'message.created', conversation_id, jsonb_build_object('message', json), true FROM inserted
    )
    SELECT CASE WHEN n.status <> 'new' THEN n.status
                WHEN n.is_fresh THEN 'stored'
                WHEN n.is_first THEN 'held'
                WHEN f.is_fresh THEN 'stored before'
                ELSE 'held before' END AS status,
        coalesce(n.earlier_id, n.id, f.id) AS id,
        CASE WHEN n.is_fresh THEN n.seq ELSE coalesce(n.earlier_seq, f.seq) END AS seq,
        message_time(coalesce(n.earlier_created_at, n.created_at)) AS created_at
    FROM numbered n
    LEFT JOIN LATERAL (SELECT id, CASE WHEN is_fresh THEN seq END AS seq, is_fresh
        FROM numbered WHERE n.status = 'new' AND NOT n.is_first AND is_first
        AND conversation_id = n.conversation_id AND sender_id = n.sender_id AND key = n.key LIMIT 1) f ON true
    ORDER BY n.ord;
    -- One audit row for each message of this batch that a plugin replaced or held: `xmin` tells which rows this
    -- transaction inserted. If two versions of a plugin decided on one sender's messages in the same batch, the row
    -- names the later one.
    IF digests IS NOT NULL THEN
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
            UNION ALL
            SELECT h.conversation_id, h.sender_id, h.held_by, h.reason, NULL, h.id, h.tx
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
    END IF;
END $$;

-- A page of a conversation's messages: above `after_seq`, oldest first, or without it below `before_seq`, newest first.
-- It ends after `most_rows` rows, or before the row with which their text would be longer than `most_bytes`, but never
-- before its first row. A last row without `json` says that there are more.
--
-- Rows are fetched one by one, so at most one body is read that is not answered, whatever the sizes.
CREATE FUNCTION read_messages(
    conversation uuid, after_seq bigint, before_seq bigint, most_rows bigint, most_bytes bigint
) RETURNS TABLE (seq bigint, json text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    page refcursor;
    bytes bigint := 0;
BEGIN
    IF after_seq IS NOT NULL THEN
        OPEN page FOR SELECT m.seq, message_json(m)::text FROM messages m
            WHERE m.conversation_id = conversation AND m.seq > after_seq ORDER BY m.seq;
    ELSE
        OPEN page FOR SELECT m.seq, message_json(m)::text FROM messages m
            WHERE m.conversation_id = conversation AND m.seq < before_seq ORDER BY m.seq DESC;
    END IF;
    FOR place IN 1 .. most_rows + 1 LOOP
        FETCH page INTO seq, json;
        EXIT WHEN NOT FOUND;
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

-- A page of events other than messages for these conversations, by outbox id, above `after_id`. It ends like a page of
-- `read_messages`; a last row without `payload` says that there are more. Conversations are looked up one by one, since
-- the planner would rather read all that is newer, messages included.
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
            WHERE o.conversation_id = room.id AND o.id > after_id AND o.type <> 'message.created'
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
            AND (next_attempt_at IS NULL OR next_attempt_at <= now())
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

-- Marks rows as published; its plans are kept (README.md).
CREATE FUNCTION mark_outbox(ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    UPDATE outbox SET processed = true, processed_at = now() WHERE id = ANY(ids);
END $$;

-- The triggers. Other services fire them with rights on `conversations` and `participants` alone, from whatever
-- search_path they have: so they run with their owner's rights, and reach the other tables through the schema of the
-- table that fired them. Nobody else may make triggers of these functions: on a table of their own choice they would
-- write what they like.

-- Participants: the first change that a transaction makes to each is noted, whoever ran the SQL. Rows that were added or
-- removed are noted by one statement for all; an update has a trigger by row, which most updates (read marks) skip.
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

-- At commit: what a transaction undid itself is told to nobody, and the end of a conversation is told as such. A removal
-- and a changed role take effect on every open socket.
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
    EXECUTE format('DELETE FROM %I.messages WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
    EXECUTE format('DELETE FROM %I.held_messages WHERE conversation_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
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
    EXECUTE format('DELETE FROM %I.messages', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.held_messages', TG_TABLE_SCHEMA);
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
