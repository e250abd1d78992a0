-- What a worker does with a batch of the outbox, in functions, for the reason that V4 gives: a worker that is woken by each commit claims
-- few rows, and to plan the statements anew would cost about as much again as they do.
--
-- Every statement here walks an index, in its order, and stops early. The planner does not know that: after a burst its statistics say
-- that next to nothing is pending, and it would read and sort all of it for each claim. So plans are pinned.

-- Locks rows with an id above `after_id` whose time has come, `most` of them at most, and answers those that together have about
-- `batch_bytes` of payload; `locked` is the number of all. Rows beyond the bytes are locked, not answered, and free again after the
-- transaction.
--
-- The texts are made for claimed rows only, once each; a payload whose stored form alone is far beyond `payload_bytes` is not even made into
-- text, and nothing is with `without_payloads` or in a row that failed before: those are read one by one.
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

-- Marks rows as published.
CREATE FUNCTION mark_outbox(ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    UPDATE outbox SET processed = true, processed_at = now() WHERE id = ANY(ids);
END $$;
