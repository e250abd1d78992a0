-- The chat tables. Other services write `conversations` and `participants` with plain SQL, and may write `outbox`;
-- `messages` and `held_messages` belong to the gateway.

CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- The `seq` of the newest message. Whoever adds a message holds this row's lock, so that `seq` has no holes and
    -- follows the order of commits.
    last_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE participants (
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id uuid NOT NULL,
    role text NOT NULL DEFAULT 'member',
    -- The id of the newest message that the user has read; moves forward only.
    last_read_id bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX participants_by_user ON participants (user_id);

-- No foreign key to `conversations`: each insert happens under that row's lock already, and the trigger below removes
-- the messages of a deleted conversation.
CREATE TABLE messages (
    id bigserial PRIMARY KEY,
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    sender_id uuid NOT NULL,
    body jsonb NOT NULL,
    idempotency_key text,
    -- What the plugins noted, as an object; null when they noted nothing.
    annotations jsonb,
    -- The plugin whose verdict changed what is stored; null when all accepted.
    decided_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_idempotency ON messages (conversation_id, sender_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Messages that a plugin held for review. `id` is this table's own: a message gets its id and `seq` when it is released.
-- A key is unique over both tables because both are written under the conversation's lock.
CREATE TABLE held_messages (
    id bigserial PRIMARY KEY,
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    body jsonb NOT NULL,
    idempotency_key text,
    annotations jsonb,
    held_by text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX held_messages_idempotency ON held_messages (conversation_id, sender_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX held_messages_by_conversation ON held_messages (conversation_id, id);

CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    type text NOT NULL,
    conversation_id uuid NOT NULL,
    payload jsonb NOT NULL,
    processed boolean NOT NULL DEFAULT false,
    processed_at timestamptz,
    -- Failures that were this row's own; an outage of Redis or PostgreSQL is not one.
    retry_count integer NOT NULL DEFAULT 0,
    error text,
    -- Not before this time; null is now.
    next_attempt_at timestamptz,
    -- Set when the row ran out of tries; it waits for an operator.
    parked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- What the claim walks: rows leave it when they are done or parked.
CREATE INDEX outbox_pending ON outbox (id) WHERE NOT processed AND parked_at IS NULL;
CREATE INDEX outbox_parked ON outbox (id) WHERE parked_at IS NOT NULL;
-- What gateways read after Redis was away. Messages are caught up from `messages` by `seq`.
CREATE INDEX outbox_other_events ON outbox (conversation_id, id) WHERE type <> 'message.created';

-- Every row is inserted once, updated once and deleted once: keep dead rows few, and the claim's index short.
ALTER TABLE outbox SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);
-- One hot row per conversation, updated with each message: leave room for updates inside the page.
ALTER TABLE conversations SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE participants SET (fillfactor = 85);

-- How times are shown to clients: UTC, RFC 3339, milliseconds.
CREATE FUNCTION message_time(t timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- The one shape in which a message is shown to clients.
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

-- A removed participant loses the conversation on every open socket, whoever ran the SQL.
CREATE FUNCTION participant_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (type, conversation_id, payload)
    VALUES ('participant.removed', OLD.conversation_id, jsonb_build_object('user_id', OLD.user_id));
    RETURN NULL;
END $$;
CREATE TRIGGER participant_removed AFTER DELETE ON participants
    FOR EACH ROW EXECUTE FUNCTION participant_removed();
CREATE TRIGGER participant_moved AFTER UPDATE OF conversation_id, user_id ON participants
    FOR EACH ROW WHEN ((OLD.conversation_id, OLD.user_id) IS DISTINCT FROM (NEW.conversation_id, NEW.user_id))
    EXECUTE FUNCTION participant_removed();

CREATE FUNCTION participants_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (type, conversation_id, payload)
    SELECT 'participant.removed', conversation_id, jsonb_build_object('user_id', user_id) FROM participants;
    RETURN NULL;
END $$;
CREATE TRIGGER participants_truncated BEFORE TRUNCATE ON participants
    FOR EACH STATEMENT EXECUTE FUNCTION participants_truncated();

CREATE FUNCTION conversation_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM messages WHERE conversation_id = OLD.id;
    DELETE FROM held_messages WHERE conversation_id = OLD.id;
    INSERT INTO outbox (type, conversation_id, payload) VALUES ('conversation.deleted', OLD.id, '{}');
    RETURN NULL;
END $$;
CREATE TRIGGER conversation_deleted AFTER DELETE ON conversations
    FOR EACH ROW EXECUTE FUNCTION conversation_deleted();
