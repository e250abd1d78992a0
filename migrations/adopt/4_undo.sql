-- In the place of the third script: what was made goes, and the old tables have their names again, as long as copying has
-- not ended. Nothing has been written to them meanwhile.

DO $$
DECLARE
    place arcyou_adoption;
    thing record;
BEGIN
    SELECT * INTO STRICT place FROM arcyou_adoption FOR UPDATE;
    FOR thing IN SELECT made::text AS name, relkind FROM unnest(place.made_tables) AS made JOIN pg_class ON oid = made
        ORDER BY relkind = 'r'
    LOOP
        EXECUTE format('DROP %s %s CASCADE', CASE thing.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, thing.name);
    END LOOP;
    -- Those that take a row of a table are gone with it.
    FOR thing IN SELECT made::text AS name FROM unnest(place.made_functions) AS made JOIN pg_proc ON oid = made LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', thing.name);
    END LOOP;
    FOR thing IN SELECT made::text AS name FROM unnest(place.made_domains) AS made JOIN pg_type ON oid = made LOOP
        EXECUTE format('DROP DOMAIN %s', thing.name);
    END LOOP;
    FOR thing IN
        SELECT c.relname, CASE c.relkind WHEN 'i' THEN 'INDEX' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, was.value AS name
        FROM jsonb_each_text(place.renamed) AS was JOIN pg_class c ON c.oid = was.key::oid
    LOOP
        EXECUTE format('ALTER %s %I RENAME TO %I', thing.kind, thing.relname, thing.name);
    END LOOP;
END $$;
