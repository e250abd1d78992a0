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
    -- What shows a message, in the order in which one needs the other.
    shows text[] := '{message_json, creation_json, change_json}';
    definitions text[] := ARRAY(SELECT pg_get_functiondef(to_regproc(name)) FROM unnest(shows) AS name);
    granted record;
    definition text;
BEGIN
    IF partitions NOT BETWEEN 2 AND 1024 THEN
        RAISE EXCEPTION 'arcyou.partitions is %, and must be from 2 to 1024', partitions;
    END IF;
    IF (SELECT relkind FROM pg_class WHERE oid = 'messages'::regclass) <> 'r' THEN
        RAISE EXCEPTION 'messages is partitioned already';
    END IF;

    -- The names of the table, its sequence, its indexes and its functions are what statements use: they pass to the new table.
    ALTER TABLE messages RENAME TO messages_before;
    DROP FUNCTION change_json, creation_json, message_json;
    ALTER TABLE messages_before DROP CONSTRAINT messages_pkey;
    ALTER TABLE messages_before DROP CONSTRAINT messages_conversation_id_seq_key;
    DROP INDEX messages_idempotency, messages_replies;

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
    CREATE INDEX messages_replies ON messages (conversation_id, reply_to, seq) WHERE reply_to IS NOT NULL;

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
    FOREACH definition IN ARRAY definitions LOOP
        EXECUTE definition;
    END LOOP;
END $$;

COMMIT;
