-- What a gateway does with a batch of messages, in one statement, which is its own transaction: nothing is said twice between
-- gateway, PgBouncer and PostgreSQL, and no answer comes before the commit. It follows `store_batch`, which needed a transaction around it,
-- and another statement in there for what plugins did.
--
-- Where a stricter isolation level is the default it says so, and gateways put the transaction around it that asks for READ COMMITTED: of
-- a stricter one the snapshot would be older than the locks.
--
-- In a function, so that PostgreSQL makes the plans once for each connection and not for each batch: through PgBouncer nothing else could
-- keep them.
--
-- Locks come first, always in the order of ids, so that two gateways cannot deadlock; `NO KEY`, so that other services go on inserting
-- participants. The statement that judges and stores is one of its own, since a statement's snapshot is older than a lock that it
-- waits for. Its time grows with the batch and with nothing else: no two steps are joined row by row, places come from windows over the
-- batch, ids are drawn before the insert, and the `LIMIT`s keep the planner from making joins of the look-ups.
--
-- Plans are pinned to the indexes: a table that was never analysed must not make the planner read it whole.
--
-- A function that was released is never changed: gateways of the release before go on calling it. The next form gets a name of its own.
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
    RETURN QUERY
    WITH input AS (
        SELECT * FROM unnest(conversation_ids, sender_ids, bodies, keys, all_annotations, deciders, hold_reasons)
            WITH ORDINALITY AS t(conversation_id, sender_id, body, key, annotations, decided_by, hold_reason, ord)
    ), judged AS MATERIALIZED (
        SELECT i.*, c.last_seq,
            CASE WHEN c.id IS NULL THEN 'forbidden'
                 -- First of all: what is stored is stored, whoever holds the conversation now, and also when its sender was removed since.
                 WHEN m.id IS NOT NULL THEN 'stored before'
                 WHEN h.id IS NOT NULL THEN 'held before'
                 WHEN i.conversation_id NOT IN (SELECT unnest(locked)) THEN 'busy'
                 WHEN p.user_id IS NULL THEN 'forbidden'
                 ELSE 'new' END AS status,
            m.id AS earlier_id, m.seq AS earlier_seq, m.created_at AS earlier_created_at
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
        SELECT *, CASE WHEN is_fresh THEN nextval('messages_id_seq') END AS id FROM placed ORDER BY ord
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, sender_id, body, idempotency_key, annotations, decided_by)
        SELECT id, conversation_id, seq, sender_id, body::jsonb, key, annotations::jsonb, decided_by FROM numbered WHERE is_fresh
        RETURNING conversation_id, message_json(messages) AS json
    ), held AS (
        INSERT INTO held_messages (conversation_id, sender_id, body, idempotency_key, annotations, held_by, reason)
        SELECT conversation_id, sender_id, body::jsonb, key, annotations::jsonb, coalesce(decided_by, ''), hold_reason
        FROM numbered WHERE is_first AND NOT is_fresh
    ), counted AS (
        UPDATE conversations c SET last_seq = n.seq
        FROM (SELECT conversation_id, max(seq) AS seq FROM numbered WHERE is_fresh GROUP BY conversation_id) n
        WHERE c.id = n.conversation_id
    ), relayed AS (
        INSERT INTO outbox (type, conversation_id, payload)
        SELECT 'message.created', conversation_id, jsonb_build_object('message', json) FROM inserted
    )
    SELECT CASE WHEN n.status <> 'new' THEN n.status
                WHEN n.is_fresh THEN 'stored'
                WHEN n.is_first THEN 'held'
                WHEN f.id IS NULL THEN 'held before'
                ELSE 'stored before' END AS status,
        coalesce(n.earlier_id, n.id, f.id) AS id,
        CASE WHEN n.is_fresh THEN n.seq ELSE coalesce(n.earlier_seq, f.seq) END AS seq,
        message_time(coalesce(n.earlier_created_at, now())) AS created_at
    FROM numbered n
    LEFT JOIN LATERAL (SELECT id, seq FROM numbered WHERE n.status = 'new' AND NOT n.is_first AND is_fresh
        AND conversation_id = n.conversation_id AND sender_id = n.sender_id AND key = n.key LIMIT 1) f ON true
    ORDER BY n.ord;
    -- What plugins did to the messages that were just inserted, which are those that carry this transaction's own number. Of two versions
    -- that decided on one sender's messages in one batch, the later one is named.
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
