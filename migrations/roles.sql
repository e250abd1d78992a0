-- Who may do what with the schema. Not a migration: it is to be run again after every one. `arcyou-gateway migrate`
-- does so itself wherever the roles below exist; by hand, as the owner of the tables and around PgBouncer:
--
--     psql -v ON_ERROR_STOP=1 -f migrations/roles.sql "$MIGRATE_DATABASE_URL"
--
-- The rights belong to four group roles that cannot log in, and deployers grant these to their login roles. Their names
-- are fixed, so that programs can say which one is missing, and so that this file needs no variables. Whoever may not
-- create roles asks somebody who may for the four that the error names.
--
-- Afterwards these roles have the rights below on the tables of the schema, and no other ones. docs/operations.md has
-- them as a table; a test tries all of them, and what is refused.

DO $$
DECLARE
    groups text[] := '{arcyou_gateway, arcyou_worker, arcyou_service, arcyou_reader}';
    missing text[] := ARRAY(SELECT name FROM unnest(groups) AS name WHERE to_regrole(name) IS NULL);
    name text;
BEGIN
    IF cardinality(missing) > 0
        AND NOT (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user)
    THEN
        RAISE EXCEPTION 'the roles % do not exist, and % may not create roles', array_to_string(missing, ', '),
            current_user
            USING HINT = (SELECT 'An administrator runs: ' || string_agg(format('CREATE ROLE %I NOLOGIN;', m), ' ')
                FROM unnest(missing) AS m);
    END IF;
    FOREACH name IN ARRAY missing LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- Somebody created it for another database just now.
            NULL;
        END;
    END LOOP;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), array_to_string(groups, ', '));
END $$;

-- Rights of earlier releases go.
REVOKE ALL ON conversations, deleted_conversations, participants, participant_changes, participant_changes_due,
    messages, message_changes, message_reactions, imported_messages, held_messages, plugin_audit, outbox,
    outbox_corrections, installation, api_keys, user_cutoffs, user_blocks, arcyou_schema_history
    FROM arcyou_gateway, arcyou_worker, arcyou_service, arcyou_reader;
REVOKE ALL ON SEQUENCE messages_id_seq, held_messages_id_seq, plugin_audit_id_seq, outbox_id_seq
    FROM arcyou_gateway, arcyou_worker, arcyou_service, arcyou_reader;

-- A gateway stores messages and their changes, moves read marks, decides on held messages and notes what plugins did. For
-- services with keys it makes and deletes conversations and changes who participates; keys themselves it can only read.
-- What it reads as whole rows is granted as a table.
GRANT SELECT (id, last_seq, message_count, last_message_id, last_message_at, created_at, read_only, keep_days, keep_messages,
    purged_n, purged_seq), INSERT (id, keep_days, keep_messages),
    UPDATE (last_seq, message_count, last_message_id, last_message_at, read_only, keep_days, keep_messages), DELETE
    ON conversations TO arcyou_gateway;
-- Whether a participant was added or changed is told by a system column, which only a right on the table lets it see.
GRANT SELECT, INSERT (conversation_id, user_id, role), UPDATE (role, last_read_id), DELETE ON participants TO arcyou_gateway;
GRANT SELECT (id, name, secret_sha256, scopes, sender_id, rate, revoked_at) ON api_keys TO arcyou_gateway;
GRANT SELECT, INSERT (id, conversation_id, seq, n, changed_seq, sender_id, body, reply_to, idempotency_key, annotations,
    decided_by, created_at, outbox_id),
    UPDATE (body, annotations, decided_by, version, changed_seq, edited_at, deleted_at, reactions)
    ON messages TO arcyou_gateway;
GRANT SELECT, INSERT, UPDATE (reaction) ON message_changes TO arcyou_gateway;
GRANT SELECT, INSERT, DELETE ON message_reactions TO arcyou_gateway;
GRANT SELECT, INSERT (id, conversation_id, sender_id, body, reply_to, edits, edits_version, idempotency_key, annotations,
    held_by, reason), UPDATE (refused_at), DELETE ON held_messages TO arcyou_gateway;
GRANT SELECT (id, created_at, conversation_id, sender_id, verdict, plugin, reviewer, message_id, held_id),
    INSERT (conversation_id, sender_id, verdict, plugin, version, sha256, reviewer, code, reason, message_id, held_id),
    UPDATE (reason), DELETE ON plugin_audit TO arcyou_gateway;
GRANT SELECT (id, type, conversation_id, seq, payload, processed, next_attempt_at, parked_at, created_at),
    INSERT (id, type, conversation_id, seq, payload, internal, relay_after), UPDATE (payload, processed, processed_at)
    ON outbox TO arcyou_gateway;
GRANT SELECT, INSERT, UPDATE (payload), DELETE ON outbox_corrections TO arcyou_gateway;
GRANT SELECT (event_key) ON installation TO arcyou_gateway, arcyou_worker;
GRANT SELECT ON arcyou_schema_history TO arcyou_gateway;
GRANT SELECT (user_id, not_before, changed_in, times), INSERT (user_id), UPDATE (times) ON user_cutoffs TO arcyou_gateway;
GRANT SELECT, INSERT (user_id, blocked_id), DELETE ON user_blocks TO arcyou_gateway;
GRANT USAGE ON SEQUENCE messages_id_seq, held_messages_id_seq, plugin_audit_id_seq, outbox_id_seq TO arcyou_gateway;
-- Everybody may call these unless an administrator has changed that default. They run with their caller's rights.
GRANT EXECUTE ON FUNCTION store_message, store_messages, store_changes, lock_conversations, change_messages, is_blocked,
    erase_overtaken, note_decisions, note_kept, reasons_lock, release_edit, mark_told, mark_outbox, read_messages, read_changes, read_events,
    message_json, creation_json, change_json, message_time, disconnect_user, read_of_user TO arcyou_gateway;
-- It erases users as their owner would, for services whose key may.
GRANT EXECUTE ON FUNCTION arcyou_erase_user TO arcyou_gateway;

-- A worker reads the outbox, records its progress there and removes what is done.
GRANT SELECT, UPDATE (payload, processed, processed_at, retry_count, error, next_attempt_at, parked_at), DELETE
    ON outbox TO arcyou_worker;
GRANT SELECT, DELETE ON outbox_corrections TO arcyou_worker;
-- `purge_messages` has its owner's rights: a worker deletes no message but those that their conversation does not keep.
GRANT EXECUTE ON FUNCTION claim_outbox, mark_outbox, purge_messages TO arcyou_worker;

-- Another backend's service manages conversations and participants, sends messages in the name of participants, and sends
-- events, of types that are not reserved: it has no right on `outbox.internal`. It reads no message. `arcyou_send` and the
-- triggers on its tables do what it may not: store messages, tell open sockets, and remove a conversation's messages.
GRANT SELECT, INSERT (id, read_only, keep_days, keep_messages), UPDATE (read_only, keep_days, keep_messages), DELETE
    ON conversations TO arcyou_service;
GRANT SELECT, INSERT (conversation_id, user_id, role), UPDATE (role), DELETE ON participants TO arcyou_service;
GRANT INSERT (type, conversation_id, payload) ON outbox TO arcyou_service;
GRANT USAGE ON SEQUENCE outbox_id_seq TO arcyou_service;
-- It disconnects users, and takes no disconnection back.
GRANT SELECT (user_id, not_before, times), INSERT (user_id), UPDATE (times) ON user_cutoffs TO arcyou_service;
GRANT EXECUTE ON FUNCTION disconnect_user TO arcyou_service;
GRANT SELECT, INSERT (user_id, blocked_id), DELETE ON user_blocks TO arcyou_service;
GRANT EXECUTE ON FUNCTION arcyou_send TO arcyou_service;

-- Reports read everything, message texts included.
GRANT SELECT ON conversations, participants, messages, message_changes, message_reactions, held_messages, plugin_audit,
    outbox TO arcyou_reader;
