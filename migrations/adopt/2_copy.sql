-- The second script, after the migrations have made the new tables: who writes to them fails until copying is done, and
-- `arcyou_adopt` copies a number of rows each time that it is called.

CREATE FUNCTION arcyou_adoption_refuses() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('arcyou.adopting', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '% takes no writes until `arcyou-gateway migrate` has adopted what was there before', TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Stop the programs of the system before this one. If migrate was interrupted, run it again.';
    END IF;
    RETURN NULL;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    -- For each statement, so that one fails too that finds no row yet.
    FOREACH name IN ARRAY '{conversations,participants,messages,outbox}'::text[] LOOP
        EXECUTE format('CREATE TRIGGER arcyou_adoption BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION arcyou_adoption_refuses()', name);
    END LOOP;
END $$;

-- The rights that other roles had: on tables, on columns, and on their sequences.
CREATE VIEW adopting_rights AS
SELECT was.value AS name, c.relkind, NULL::text AS col, c.oid AS old, r.grantee, r.privilege_type AS privilege,
    r.is_grantable
FROM arcyou_adoption CROSS JOIN LATERAL jsonb_each_text(renamed) AS was JOIN pg_class c ON c.oid = was.key::oid
CROSS JOIN LATERAL aclexplode(c.relacl) AS r WHERE r.grantee NOT IN (c.relowner, quote_ident(current_user)::regrole)
UNION ALL
SELECT was.value, c.relkind, a.attname, c.oid, r.grantee, r.privilege_type, r.is_grantable
FROM arcyou_adoption CROSS JOIN LATERAL jsonb_each_text(renamed) AS was JOIN pg_class c ON c.oid = was.key::oid
JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) AS r WHERE r.grantee NOT IN (c.relowner, quote_ident(current_user)::regrole);

DO $$
DECLARE
    right_text text;
BEGIN
    -- Services go on with these two, and write the columns that they know and no other ones.
    FOR right_text IN
        SELECT format('GRANT %s%s ON %I TO %s%s', r.privilege,
            ' (' || string_agg(quote_ident(a.attname), ', ') || ')', r.name,
            CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END,
            CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' END)
        FROM adopting_rights r LEFT JOIN pg_attribute a ON a.attrelid = r.old AND a.attnum > 0 AND NOT a.attisdropped
            AND CASE WHEN r.col IS NULL THEN r.privilege IN ('INSERT', 'UPDATE') ELSE a.attname = r.col END
        WHERE r.name IN ('conversations', 'participants') AND r.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        GROUP BY r.name, r.grantee, r.privilege, r.is_grantable, r.col IS NULL
    LOOP
        EXECUTE right_text;
    END LOOP;

    -- Default privileges and memberships may have given the others already.
    UPDATE arcyou_adoption SET left_behind = left_behind || ARRAY(
        SELECT format('%s had %s on %I; GRANT what it needs (docs/operations.md, roles and rights)',
            CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE format('role %s', r.grantee::regrole) END,
            string_agg(DISTINCT shown, ', ' ORDER BY shown), r.name)
        FROM adopting_rights r CROSS JOIN LATERAL to_regclass(quote_ident(r.name)) AS new
        CROSS JOIN LATERAL concat(r.privilege, ' (' || quote_ident(r.col) || ')') AS shown
        WHERE NOT coalesce(CASE
            WHEN r.relkind = 'S' THEN has_sequence_privilege(r.grantee, new, r.privilege)
            WHEN r.col IS NOT NULL THEN has_column_privilege(r.grantee, new, r.col, r.privilege)
            WHEN r.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                THEN has_any_column_privilege(r.grantee, new, r.privilege)
            ELSE has_table_privilege(r.grantee, new, r.privilege) END, false)
        GROUP BY r.grantee, r.name ORDER BY 1);
END $$;
DROP VIEW adopting_rights;

-- They are no news to anybody.
ALTER TABLE participants DISABLE TRIGGER participants_added;

-- The steps. Each does the next rows of the table that it walks, at most so many, and answers how many it did and where it
-- goes on: nowhere (null) when it has come to the end.

CREATE FUNCTION arcyou_adopt_conversations(place arcyou_adoption, most integer, OUT rows bigint, OUT bound uuid)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT id INTO bound FROM adopting_conversations WHERE id >= place.next_conversation ORDER BY id OFFSET most LIMIT 1;
    INSERT INTO conversations (id, created_at) SELECT o.id, coalesce(o.created_at, place.began_at)
    FROM adopting_conversations o WHERE o.id >= place.next_conversation AND (bound IS NULL OR o.id < bound);
    GET DIAGNOSTICS rows = ROW_COUNT;
END $$;

-- In the order of ids, which numbers them within their conversations. One that no table names is made.
CREATE FUNCTION arcyou_adopt_messages(place arcyou_adoption, most integer, OUT rows bigint, OUT bound bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT id INTO bound FROM adopting_messages WHERE id >= place.next_id ORDER BY id OFFSET most LIMIT 1;
    INSERT INTO conversations (id, created_at) SELECT o.conversation_id, coalesce(min(o.created_at), place.began_at)
    FROM adopting_messages o WHERE o.id >= place.next_id AND (bound IS NULL OR o.id < bound)
    GROUP BY o.conversation_id ON CONFLICT (id) DO NOTHING;
    WITH numbered AS MATERIALIZED (
        SELECT o.id, o.conversation_id, o.sender_id, coalesce(nullif(o.body, 'null'), '{}') AS body,
            coalesce(o.created_at, place.began_at) AS created_at,
            c.last_seq + row_number() OVER (PARTITION BY o.conversation_id ORDER BY o.id) AS seq
        FROM adopting_messages o JOIN conversations c ON c.id = o.conversation_id
        WHERE o.id >= place.next_id AND (bound IS NULL OR o.id < bound)
    ), copied AS (
        INSERT INTO messages (id, conversation_id, seq, n, changed_seq, sender_id, body, created_at)
        SELECT id, conversation_id, seq, seq, seq, sender_id, body, created_at FROM numbered ORDER BY id
    ), counted AS (
        UPDATE conversations c SET last_seq = n.seq, message_count = n.seq, last_message_id = n.id,
            last_message_at = n.created_at
        FROM (SELECT DISTINCT ON (conversation_id) * FROM numbered ORDER BY conversation_id, id DESC) n
        WHERE c.id = n.conversation_id
    )
    SELECT count(*) INTO rows FROM numbered;
END $$;

-- Where nobody knows what was read, all of it was: else it would be unread for everybody. Below every id nothing was.
CREATE FUNCTION arcyou_adopt_participants(
    place arcyou_adoption, most integer, OUT rows bigint, OUT bound uuid, OUT bound_user uuid
)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT conversation_id, user_id INTO bound, bound_user FROM adopting_participants
    WHERE (conversation_id, user_id) >= (place.next_conversation, place.next_user)
    ORDER BY conversation_id, user_id OFFSET most LIMIT 1;
    INSERT INTO conversations (id, created_at) SELECT o.conversation_id, coalesce(min(o.created_at), place.began_at)
    FROM adopting_participants o WHERE (o.conversation_id, o.user_id) >= (place.next_conversation, place.next_user)
        AND (bound IS NULL OR (o.conversation_id, o.user_id) < (bound, bound_user))
    GROUP BY o.conversation_id ON CONFLICT (id) DO NOTHING;
    INSERT INTO participants (conversation_id, user_id, role, last_read_id, created_at)
    SELECT o.conversation_id, o.user_id, coalesce(o.role, 'member'),
        greatest(least(o.last_read_id, c.last_message_id), 0), coalesce(o.created_at, place.began_at)
    FROM adopting_participants o JOIN conversations c ON c.id = o.conversation_id
    WHERE (o.conversation_id, o.user_id) >= (place.next_conversation, place.next_user)
        AND (bound IS NULL OR (o.conversation_id, o.user_id) < (bound, bound_user));
    GET DIAGNOSTICS rows = ROW_COUNT;
END $$;

-- Rows that no worker has relayed. They keep their ids and wait, parked, for the last script. One that tells of a message
-- tells of it as every other does now. One with a type that is ours by now and that tells of no message which is there
-- stays parked, under a type of its own, for an operator to look at. What was relayed is not copied.
CREATE FUNCTION arcyou_adopt_outbox(place arcyou_adoption, most integer, OUT rows bigint, OUT bound bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT id INTO bound FROM adopting_outbox WHERE id >= place.next_id ORDER BY id OFFSET most LIMIT 1;
    WITH walked AS MATERIALIZED (
        SELECT o.id, o.type, o.conversation_id, o.payload, o.processed FROM adopting_outbox o
        WHERE o.id >= place.next_id AND (bound IS NULL OR o.id < bound)
    ), waiting AS MATERIALIZED (
        SELECT id, type, conversation_id, payload,
            coalesce(payload #>> '{message,id}', payload ->> 'message_id', payload ->> 'messageId', payload ->> 'id') AS told
        FROM walked WHERE processed IS NOT TRUE
    ), found AS MATERIALIZED (
        SELECT DISTINCT ON (m.id) w.id AS outbox_id, m.id, m.conversation_id, m.seq, creation_json(m.message) AS payload
        FROM waiting w CROSS JOIN LATERAL (SELECT messages AS message, id, conversation_id, seq, outbox_id FROM messages
            WHERE conversation_id = w.conversation_id AND id = CASE WHEN w.told ~ '^[0-9]{1,18}$' THEN w.told::bigint END) m
        WHERE w.type = 'message.created' ORDER BY m.id, w.id
    ), told AS (
        UPDATE messages m SET outbox_id = f.outbox_id FROM found f
        WHERE m.conversation_id = f.conversation_id AND m.id = f.id AND m.outbox_id IS NULL
        RETURNING f.*
    ), relayed AS (
        INSERT INTO outbox (id, type, conversation_id, seq, payload, internal, parked_at, error)
        SELECT outbox_id, 'message.created', conversation_id, seq, payload, true, place.began_at, 'adopting' FROM told
    ), others AS (
        INSERT INTO outbox (id, type, conversation_id, payload, parked_at, error)
        SELECT id, CASE WHEN is_reserved THEN 'adopted.' ELSE '' END || type, conversation_id, payload, place.began_at,
            CASE WHEN is_reserved THEN 'adopted: it tells of nothing that is there' ELSE 'adopting' END
        FROM (SELECT *, type IN ('message.created', 'message.edited', 'message.deleted', 'message.read', 'reaction.added',
            'reaction.removed', 'participant.added', 'participant.removed', 'participant.role_changed',
            'conversation.deleted') AS is_reserved FROM waiting) w
        WHERE NOT (type = 'message.created' AND EXISTS (SELECT FROM messages WHERE conversation_id = w.conversation_id
            AND id = CASE WHEN w.told ~ '^[0-9]{1,18}$' THEN w.told::bigint END))
    )
    SELECT count(*) INTO rows FROM walked;
END $$;

CREATE FUNCTION arcyou_compare_messages(place arcyou_adoption, most integer, OUT rows bigint, OUT bound bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT id INTO bound FROM adopting_messages WHERE id >= place.next_id ORDER BY id OFFSET most LIMIT 1;
    SELECT count(*), min(o.id) FILTER (WHERE (m.conversation_id, m.sender_id, m.body, m.created_at) IS DISTINCT FROM
        (o.conversation_id, o.sender_id, coalesce(nullif(o.body, 'null'), '{}'),
        coalesce(o.created_at, place.began_at)))
    INTO rows, wrong FROM adopting_messages o LEFT JOIN messages m ON m.id = o.id
    WHERE o.id >= place.next_id AND (bound IS NULL OR o.id < bound);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'message % is not what it was', wrong USING ERRCODE = 'data_corrupted';
    END IF;
END $$;

-- Every number, and every participant.
CREATE FUNCTION arcyou_compare_conversations(place arcyou_adoption, most integer, OUT rows bigint, OUT bound uuid)
LANGUAGE plpgsql
AS $$
DECLARE
    wrong text;
BEGIN
    SELECT id INTO bound FROM conversations WHERE id >= place.next_conversation ORDER BY id OFFSET most LIMIT 1;
    SELECT count(*), min(c.id::text) FILTER (WHERE (c.last_seq, c.message_count, c.last_message_id) <> (m.seq, m.n, m.id)
        OR (m.seq, m.n) <> (m.count, m.count) OR o.participants <> o.kept)
    INTO rows, wrong FROM conversations c
    CROSS JOIN LATERAL (SELECT count(*) AS count, coalesce(max(seq), 0) AS seq, coalesce(max(n), 0) AS n,
        coalesce(max(id), 0) AS id FROM messages WHERE conversation_id = c.id) m
    CROSS JOIN LATERAL (SELECT count(*) AS participants, count(*) FILTER (WHERE p.role = coalesce(o.role, 'member')) AS kept
        FROM adopting_participants o
        LEFT JOIN participants p ON p.conversation_id = o.conversation_id AND p.user_id = o.user_id
        WHERE o.conversation_id = c.id) o
    WHERE c.id >= place.next_conversation AND (bound IS NULL OR c.id < bound);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'conversation % is not what it was', wrong USING ERRCODE = 'data_corrupted';
    END IF;
END $$;

-- Does the next rows, and remembers in the same transaction where it stopped. Answers with the step and how many of its rows
-- are done; there is nothing to do but the last script when the step is 'finish'.
CREATE FUNCTION arcyou_adopt(most integer, OUT step text, OUT done bigint)
LANGUAGE plpgsql
SET jit = off SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    steps CONSTANT text[] := '{conversations,messages,participants,outbox,comparison,counts,finish}';
    place arcyou_adoption;
    rows bigint := 0;
    bound_id bigint;
    bound_conversation uuid;
    bound_user uuid;
BEGIN
    PERFORM set_config('arcyou.adopting', 'on', true);
    SELECT * INTO STRICT place FROM arcyou_adoption FOR UPDATE;
    step := place.step;
    CASE place.step
        WHEN 'conversations' THEN
            SELECT * INTO rows, bound_conversation FROM arcyou_adopt_conversations(place, most);
        WHEN 'messages' THEN
            SELECT * INTO rows, bound_id FROM arcyou_adopt_messages(place, most);
        WHEN 'participants' THEN
            SELECT * INTO rows, bound_conversation, bound_user FROM arcyou_adopt_participants(place, most);
        WHEN 'outbox' THEN
            SELECT * INTO rows, bound_id FROM arcyou_adopt_outbox(place, most);
        WHEN 'comparison' THEN
            SELECT * INTO rows, bound_id FROM arcyou_compare_messages(place, most);
            UPDATE arcyou_adoption SET equal_messages = equal_messages + rows;
        WHEN 'counts' THEN
            SELECT * INTO rows, bound_conversation FROM arcyou_compare_conversations(place, most);
        ELSE
            RETURN;
    END CASE;
    done := place.done + rows;
    IF bound_id IS NULL AND bound_conversation IS NULL THEN
        UPDATE arcyou_adoption SET step = steps[array_position(steps, place.step) + 1], next_id = DEFAULT,
            next_conversation = DEFAULT, next_user = DEFAULT, done = DEFAULT;
    ELSE
        UPDATE arcyou_adoption SET done = place.done + rows, next_id = coalesce(bound_id, place.next_id),
            next_conversation = coalesce(bound_conversation, place.next_conversation),
            next_user = coalesce(bound_user, place.next_user);
    END IF;
END $$;

-- The migrations and these scripts are one transaction, and what it has made carries its number.
UPDATE arcyou_adoption SET
    made_tables = ARRAY(SELECT oid::regclass FROM pg_class WHERE xmin = pg_current_xact_id()::xid AND relkind IN ('r', 'v')
        AND relnamespace = to_regnamespace(quote_ident(current_schema())) AND relname NOT LIKE 'before\_arcyou\_%'),
    made_domains = ARRAY(SELECT oid::regtype FROM pg_type WHERE xmin = pg_current_xact_id()::xid AND typtype = 'd'
        AND typnamespace = to_regnamespace(quote_ident(current_schema()))),
    made_functions = ARRAY(SELECT oid::regprocedure FROM pg_proc WHERE xmin = pg_current_xact_id()::xid
        AND pronamespace = to_regnamespace(quote_ident(current_schema())));
