//! All SQL of the worker. Every statement works unprepared through PgBouncer: typed parameters, and results of types
//! that need no look-up.

/// Opens each transaction. A worker that is stopped (SIGSTOP, a frozen machine) gives its rows back when the server
/// ends its idle transaction; the times are the longest that anything may take, not what it takes. The isolation is
/// what `SKIP LOCKED` needs, whatever the role's default.
pub(crate) const BEGIN: &str = "\
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '4s';
SET LOCAL idle_in_transaction_session_timeout = '8s'";

/// Before statements that walk an index and stop early: the planner's statistics, which are of before the last burst,
/// must not make it read the whole table. The functions pin their own plans, and [`PAYLOAD`] finds one row by its
/// primary key.
pub(crate) const PIN: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off";

/// $1 after this id, $2 at most so many, $3 the largest payload in bytes, $4 about so many bytes in all, $5 without
/// payloads. `migrations/README.md` says why the statement itself stands in the schema.
pub(crate) const CLAIM: &str = "\
SELECT id, type, conversation_id, retry_count, age_ms, payload, locked FROM claim_outbox($1, $2, $3, $4, $5)";

/// Around [`PAYLOAD`], so that a payload that fails, or takes too long, ends nothing else.
pub(crate) const BEFORE_PAYLOAD: &str = "SAVEPOINT reading; SET LOCAL statement_timeout = '2s'";
pub(crate) const AFTER_PAYLOAD: &str = "RELEASE SAVEPOINT reading; SET LOCAL statement_timeout = '5s'";
pub(crate) const PAYLOAD_FAILED: &str = "ROLLBACK TO SAVEPOINT reading";

/// $1 the row, $2 the largest payload in bytes. Null if it is larger.
pub(crate) const PAYLOAD: &str = "\
SELECT CASE WHEN octet_length(text) <= $2 THEN text END
FROM (
    SELECT CASE WHEN pg_column_size(payload) <= 16 * $2 THEN payload::text END AS text FROM outbox WHERE id = $1 OFFSET 0
) AS written";

/// $1 the rows that were published.
pub(crate) const MARK: &str = "SELECT mark_outbox($1)";

/// Ends a transaction in which all that was claimed was published. It does not wait for the disk, which gateways'
/// transactions wait for: a server that crashes within a second may forget such marks, and the rows are published
/// again, as any may be.
pub(crate) const COMMIT_MARKS: &str = "SET LOCAL synchronous_commit = off; COMMIT";

/// $1 the rows that failed, $2 their errors, $3 milliseconds until the next try, or -1 to park. Delays are counted by
/// the database's clock: workers' clocks may differ.
pub(crate) const FAIL: &str = "\
UPDATE outbox SET
    retry_count = retry_count + 1,
    error = failed.error,
    next_attempt_at = CASE WHEN failed.delay >= 0 THEN now() + failed.delay * interval '1 millisecond' END,
    parked_at = CASE WHEN failed.delay < 0 THEN now() END
FROM unnest($1, $2, $3) AS failed (id, error, delay)
WHERE outbox.id = failed.id";

/// $1 rows that could not be published through no fault of their own, $2 milliseconds until the next try.
pub(crate) const POSTPONE: &str = "\
UPDATE outbox SET next_attempt_at = now() + postponed.delay * interval '1 millisecond'
FROM unnest($1, $2) AS postponed (id, delay)
WHERE outbox.id = postponed.id";

/// $1 after this id, $2 at most so many, $3 seconds to keep. Looks at a page of rows and deletes those that were
/// processed longer ago: answers the page's last id, its length, how many were deleted, and whether all of them are
/// younger.
pub(crate) const PRUNE: &str = "\
WITH page AS MATERIALIZED (
    SELECT id, created_at FROM outbox WHERE id > $1 ORDER BY id LIMIT $2
), old AS MATERIALIZED (
    SELECT outbox.id FROM outbox JOIN page USING (id)
    WHERE outbox.processed AND outbox.processed_at < now() - $3 * interval '1 second'
    FOR UPDATE OF outbox SKIP LOCKED
), gone AS (
    DELETE FROM outbox WHERE id IN (SELECT id FROM old) RETURNING id
)
SELECT coalesce(max(id), 0)::int8, count(*), (SELECT count(*) FROM gone),
    coalesce(bool_and(created_at >= now() - $3 * interval '1 second'), true)
FROM page";

/// $1 where counting stops. Pending rows, parked rows, and the milliseconds that the first pending one has waited.
pub(crate) const DEPTH: &str = "\
SELECT
    (SELECT count(*) FROM (SELECT FROM outbox WHERE NOT processed AND parked_at IS NULL LIMIT $1) AS pending),
    (SELECT count(*) FROM (SELECT FROM outbox WHERE parked_at IS NOT NULL LIMIT $1) AS parked),
    coalesce((
        SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::int8
        FROM outbox WHERE NOT processed AND parked_at IS NULL ORDER BY id LIMIT 1
    ), 0)";

/// $1 after this id, $2 at most so many.
pub(crate) const PARKED: &str = "\
SELECT id, left(type, 200), conversation_id, retry_count::int8, coalesce(error, ''), parked_at::text, created_at::text
FROM outbox WHERE parked_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2";

/// $1 the row, whatever its state. The payload only if it is small as stored, and its beginning only.
pub(crate) const SHOW: &str = "\
SELECT id, left(type, 200), conversation_id, retry_count::int8, coalesce(error, ''), coalesce(parked_at::text, ''),
    created_at::text,
    CASE WHEN processed THEN 'processed' WHEN parked_at IS NOT NULL THEN 'parked' ELSE 'pending' END,
    pg_column_size(payload)::int8,
    CASE WHEN pg_column_size(payload) <= 1048576 THEN left(payload::text, 4096) END
FROM outbox WHERE id = $1";

/// $1 parked rows that get all their tries again. Answers those that were parked.
pub(crate) const REQUEUE: &str = "\
UPDATE outbox SET parked_at = NULL, retry_count = 0, next_attempt_at = NULL
WHERE id = ANY($1) AND parked_at IS NOT NULL AND NOT processed RETURNING id";

/// $1 parked rows that are given up for good. Answers those that were parked.
pub(crate) const DROP: &str = "DELETE FROM outbox WHERE id = ANY($1) AND parked_at IS NOT NULL RETURNING id";
