-- The first of three scripts by which `arcyou-gateway migrate` takes over the tables of the system before this one. Together
-- with the migrations and the second script it is one transaction, which renames and copies nothing: it reads each old
-- table once, and changes none.
--
-- The old tables get names that begin with `before_arcyou_`, and so do their indexes and sequences, whose names the new
-- tables need. Nothing in them is changed. Views with the names `adopting_…` show them in the types of the new ones; times
-- without a zone are in the zone `arcyou.timezone`.

-- How far copying has come; the table is there until it is done. Gateways do not start meanwhile.
CREATE TABLE arcyou_adoption (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    timezone text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    step text NOT NULL DEFAULT 'conversations',
    -- Where the step goes on, by the key of the table that it walks, and how many of its rows are done.
    next_id bigint NOT NULL DEFAULT -9223372036854775808,
    next_conversation uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    next_user uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    done bigint NOT NULL DEFAULT 0,
    -- Old messages that were found equal to new ones.
    equal_messages bigint NOT NULL DEFAULT 0,
    -- What the new tables do not have of the old ones, to be told when all is done.
    left_behind text[] NOT NULL DEFAULT '{}',
    -- The names that old things had, by their oids, and what was made: for an adoption that is undone.
    renamed jsonb NOT NULL DEFAULT '{}',
    made_tables regclass[],
    made_domains regtype[],
    made_functions regprocedure[]
);
INSERT INTO arcyou_adoption (timezone) VALUES (current_setting('arcyou.timezone'));

DO $$
DECLARE
    old oid[] := ARRAY['conversations'::regclass, 'participants'::regclass, 'messages'::regclass, 'outbox'::regclass]::oid[];
    thing record;
BEGIN
    -- While they have the names by which they can be made anew. What the system before makes itself needs no word.
    UPDATE arcyou_adoption SET left_behind = ARRAY(
        SELECT format('index %s: %s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid))
        FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam
        WHERE i.indrelid = ANY(old) AND NOT i.indisexclusion AND NOT (m.amname = 'btree' AND i.indpred IS NULL
            AND (t.relname, ARRAY(
                SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place)) IN (
                ('conversations', '{id}'), ('participants', '{conversation_id,user_id}'), ('messages', '{id}'),
                ('messages', '{conversation_id,id}'), ('outbox', '{id}'), ('outbox', '{processed,id}')))
        UNION ALL
        SELECT format('constraint %I of table %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE conrelid = ANY(old) AND (contype IN ('c', 'x') OR contype = 'f' AND NOT (
            confrelid = 'conversations'::regclass AND conrelid IN ('participants'::regclass, 'messages'::regclass)))
        UNION ALL
        SELECT format('statistics %I: %s', stxname, pg_get_statisticsobjdef(oid)) FROM pg_statistic_ext
        WHERE stxrelid = ANY(old)
        ORDER BY 1);

    FOR thing IN
        SELECT c.oid, c.relname, CASE c.relkind WHEN 'i' THEN 'INDEX' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
            -- A name has 63 bytes at most.
            CASE WHEN octet_length(c.relname) > 49 THEN format('before_arcyou_%s', c.oid)
                ELSE 'before_arcyou_' || c.relname END AS name
        FROM pg_class c
        WHERE c.oid = ANY(old) OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = ANY(old))
            OR c.relkind = 'S' AND c.oid IN (SELECT objid FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = ANY(old))
    LOOP
        EXECUTE format('ALTER %s %I RENAME TO %I', thing.kind, thing.relname, thing.name);
        UPDATE arcyou_adoption SET renamed = renamed || jsonb_build_object(thing.oid::text, thing.relname);
    END LOOP;

    FOR thing IN
        SELECT shown.name, string_agg(CASE
            WHEN a.attname IS NULL THEN format('NULL::%s AS %I', shown.type, shown.col)
            WHEN format_type(a.atttypid, NULL) = 'timestamp without time zone'
                THEN format('%1$I AT TIME ZONE %2$L AS %1$I', shown.col, current_setting('arcyou.timezone'))
            ELSE format('%1$I::%2$s AS %1$I', shown.col, shown.type) END, ', ' ORDER BY shown.place) AS columns
        FROM (VALUES
            ('conversations', 1, 'id', 'uuid'), ('conversations', 2, 'created_at', 'timestamptz'),
            ('participants', 1, 'conversation_id', 'uuid'), ('participants', 2, 'user_id', 'uuid'),
            ('participants', 3, 'role', 'text'), ('participants', 4, 'last_read_id', 'bigint'),
            ('participants', 5, 'created_at', 'timestamptz'),
            ('messages', 1, 'id', 'bigint'), ('messages', 2, 'conversation_id', 'uuid'), ('messages', 3, 'sender_id', 'uuid'),
            ('messages', 4, 'body', 'jsonb'), ('messages', 5, 'created_at', 'timestamptz'),
            ('outbox', 1, 'id', 'bigint'), ('outbox', 2, 'type', 'text'), ('outbox', 3, 'conversation_id', 'uuid'),
            ('outbox', 4, 'payload', 'jsonb'), ('outbox', 5, 'processed', 'boolean')
        ) AS shown (name, place, col, type)
        LEFT JOIN pg_attribute a ON a.attrelid = ('before_arcyou_' || shown.name)::regclass AND a.attname = shown.col
            AND NOT a.attisdropped
        GROUP BY shown.name
    LOOP
        EXECUTE format('CREATE VIEW adopting_%1$s AS SELECT %2$s FROM before_arcyou_%1$s', thing.name, thing.columns);
    END LOOP;
END $$;
