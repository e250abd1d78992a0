-- The last script, one transaction: the new tables are whole, and begin to work. The old ones go, unless
-- `arcyou.keep_old_tables` is on.

SET LOCAL arcyou.adopting = 'on';

DO $$
DECLARE
    place arcyou_adoption;
    was text;
    newest bigint;
    name text;
BEGIN
    SELECT * INTO STRICT place FROM arcyou_adoption FOR UPDATE;
    IF place.step <> 'finish' OR place.equal_messages <> (SELECT coalesce(sum(message_count), 0) FROM conversations) THEN
        RAISE EXCEPTION 'step %, % old messages were compared, and there are %', place.step, place.equal_messages,
            (SELECT sum(message_count) FROM conversations) USING ERRCODE = 'data_corrupted';
    END IF;

    -- Workers find them from now on, and count their age from now on.
    UPDATE outbox SET parked_at = NULL, error = NULL, created_at = clock_timestamp()
    WHERE parked_at IS NOT NULL AND error = 'adopting';

    -- Ids go on where they were, those of deleted rows included.
    FOREACH name IN ARRAY '{messages,outbox}'::text[] LOOP
        EXECUTE format('SELECT max(id) FROM adopting_%s', name) INTO newest;
        was := pg_get_serial_sequence('before_arcyou_' || name, 'id');
        IF was IS NOT NULL THEN
            EXECUTE format('SELECT greatest($1, CASE WHEN is_called THEN last_value END) FROM %s', was) INTO newest USING newest;
        END IF;
        IF newest > 0 THEN
            PERFORM setval((name || '_id_seq')::regclass, newest);
        END IF;
    END LOOP;

    FOREACH name IN ARRAY '{conversations,participants,messages,outbox}'::text[] LOOP
        EXECUTE format('DROP TRIGGER arcyou_adoption ON %I', name);
        EXECUTE format('DROP VIEW adopting_%s', name);
    END LOOP;
    ALTER TABLE participants ENABLE TRIGGER participants_added;
    DROP FUNCTION arcyou_adoption_refuses, arcyou_adopt, arcyou_adopt_conversations, arcyou_adopt_messages,
        arcyou_adopt_participants, arcyou_adopt_outbox, arcyou_compare_messages, arcyou_compare_conversations;
    DROP TABLE arcyou_adoption;
    IF current_setting('arcyou.keep_old_tables', true) IS DISTINCT FROM 'on' THEN
        DROP TABLE before_arcyou_conversations, before_arcyou_participants, before_arcyou_messages, before_arcyou_outbox;
    END IF;
END $$;
