-- Splits `messages` into hash partitions by conversation, for a table that has outgrown one. Not a migration: an operator runs it
-- once, as the table's owner and around PgBouncer (README.md beside this file says when, how long it takes and what to keep):
--
--     PGOPTIONS='-c arcyou.partitions=16' psql -v ON_ERROR_STOP=1 -f migrations/partition_messages.sql "$MIGRATE_DATABASE_URL"
--
-- Gateways may go on running. All of it is one transaction, during which sends to them wait or are answered `unavailable`, which
-- clients repeat; an error leaves everything as it was.

BEGIN;
-- Rather fail than queue behind a long transaction, and everybody else behind this one.
SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = 0;
LOCK TABLE messages IN ACCESS EXCLUSIVE MODE;

DO $$
DECLARE
    partitions integer := coalesce(nullif(current_setting('arcyou.partitions', true), '')::integer, 16);
    granted record;
BEGIN
    IF partitions NOT BETWEEN 2 AND 1024 THEN
        RAISE EXCEPTION 'arcyou.partitions is %, and must be from 2 to 1024', partitions;
    END IF;
    IF (SELECT relkind FROM pg_class WHERE oid = 'messages'::regclass) <> 'r' THEN
        RAISE EXCEPTION 'messages is partitioned already';
    END IF;

    -- The names of the table, its sequence, its indexes and `message_json` are what statements use: they pass to the new table.
    ALTER TABLE messages RENAME TO messages_before;
    DROP FUNCTION message_json(messages_before);
    ALTER TABLE messages_before DROP CONSTRAINT messages_pkey;
    ALTER TABLE messages_before DROP CONSTRAINT messages_conversation_id_seq_key;
    DROP INDEX messages_idempotency;

    CREATE TABLE messages (LIKE messages_before INCLUDING ALL) PARTITION BY HASH (conversation_id);
    ALTER SEQUENCE messages_id_seq OWNED BY messages.id;
    FOR n IN 0..partitions - 1 LOOP
        EXECUTE format('CREATE TABLE messages_%s PARTITION OF messages FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
            n, partitions, n);
    END LOOP;
    INSERT INTO messages SELECT * FROM messages_before;

    -- Every key begins with the conversation. That ids are unique over all partitions is the sequence's doing from here on.
    ALTER TABLE messages ADD CONSTRAINT messages_pkey PRIMARY KEY (conversation_id, id);
    ALTER TABLE messages ADD CONSTRAINT messages_conversation_id_seq_key UNIQUE (conversation_id, seq);
    CREATE UNIQUE INDEX messages_idempotency ON messages (conversation_id, sender_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL;

    -- Rights stay as they were, those on the table and those on single columns.
    FOR granted IN
        SELECT privilege.*, '' AS columns FROM pg_class, aclexplode(relacl) AS privilege
        WHERE oid = 'messages_before'::regclass AND privilege.grantee <> relowner
        UNION ALL
        SELECT privilege.*, format('(%I)', attname) FROM pg_attribute, aclexplode(attacl) AS privilege
        WHERE attrelid = 'messages_before'::regclass AND NOT attisdropped
    LOOP
        EXECUTE format('GRANT %s %s ON messages TO %s%s', granted.privilege_type, granted.columns,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END,
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    DROP TABLE messages_before;
END $$;

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

COMMIT;
