//! The relay's statements. Each works unprepared through PgBouncer: typed parameters, and result types that need no
//! look-up.

/// When the relay needs a row no more: it was published, `$3` seconds ago or longer. Rows that wait or are parked stay.
pub(crate) const RELEASED: &str = "outbox.processed AND outbox.processed_at < now() - $3 * interval '1 second'";

/// $1 rows after this id, $2 the most rows, $3 the largest payload in bytes, $4 the payloads together in bytes, about,
/// $5 whether to leave all payloads out. `migrations/README.md` says why this statement is a function of the schema.
pub(crate) const CLAIM: &str = "\
SELECT id, type, conversation_id, retry_count, age_ms, payload, locked FROM claim_outbox($1, $2, $3, $4, $5)";

/// Around [`PAYLOAD`], so that a payload that cannot be read, or takes too long, does not end the transaction.
pub(crate) const BEFORE_PAYLOAD: &str = "SAVEPOINT reading; SET LOCAL statement_timeout = '2s'";
pub(crate) const AFTER_PAYLOAD: &str = "RELEASE SAVEPOINT reading; SET LOCAL statement_timeout = '5s'";
pub(crate) const PAYLOAD_FAILED: &str = "ROLLBACK TO SAVEPOINT reading";

/// $1 the row, $2 the largest payload in bytes; null if it is larger. Finds one row by its primary key, so its plan
/// needs no pinning.
pub(crate) const PAYLOAD: &str = "\
SELECT CASE WHEN octet_length(text) <= $2 THEN text END
FROM (
    SELECT CASE WHEN pg_column_size(payload) <= 16 * $2 THEN payload::text END AS text
    FROM outbox WHERE id = $1 OFFSET 0
) AS written";

/// $1 the rows that were published.
pub(crate) const MARK: &str = "SELECT mark_outbox($1)";

/// Ends a transaction in which every claimed row was published. It does not wait for the disk, for which gateways'
/// transactions wait too. A server that crashes within about a second may forget these marks, and the rows are
/// published again.
pub(crate) const COMMIT_MARKS: &str = "SET LOCAL synchronous_commit = off; COMMIT";

/// $1 the rows that failed, $2 their errors, $3 milliseconds until the next try, or -1 to park. The database's clock
/// counts the delays, because workers' clocks may differ.
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

/// $1 where counting stops. Pending rows, parked rows, and the age of the first pending row in milliseconds.
pub(crate) const BACKLOG: &str = "\
SELECT
    (SELECT count(*) FROM (SELECT FROM outbox WHERE NOT processed AND parked_at IS NULL LIMIT $1) AS pending),
    (SELECT count(*) FROM (SELECT FROM outbox WHERE parked_at IS NOT NULL LIMIT $1) AS parked),
    coalesce((
        SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::int8
        FROM outbox WHERE NOT processed AND parked_at IS NULL ORDER BY id LIMIT 1
    ), 0)";

/// $1 rows after this id, $2 the most rows.
pub(crate) const PARKED: &str = "\
SELECT id, left(type, 200), conversation_id, retry_count::int8, coalesce(error, ''), parked_at::text, created_at::text
FROM outbox WHERE parked_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2";

/// $1 the row, whatever its state; $2 whether to read its payload, of which only the beginning is shown. The size is
/// the one that claims compare with their limit: the text's, and not that of the compressed form on disk.
pub(crate) const SHOW: &str = "\
SELECT id, left(type, 200), conversation_id, retry_count::int8, coalesce(error, ''), coalesce(parked_at::text, ''),
    created_at::text,
    CASE WHEN processed THEN 'processed' WHEN parked_at IS NOT NULL THEN 'parked' ELSE 'pending' END,
    pg_column_size(payload)::int8, octet_length(text)::int8, left(text, 4096)
FROM (
    SELECT *, CASE WHEN $2 AND pg_column_size(payload) <= 16777216 THEN payload::text END AS text
    FROM outbox WHERE id = $1 OFFSET 0
) AS shown";

/// $1 rows that get all their tries again. Answers the ids of those that were parked.
pub(crate) const REQUEUE: &str = "\
UPDATE outbox SET parked_at = NULL, retry_count = 0, next_attempt_at = NULL
WHERE id = ANY($1) AND parked_at IS NOT NULL AND NOT processed RETURNING id";

/// $1 rows that are deleted unpublished. Answers the ids of those that were parked.
pub(crate) const DROP: &str = "DELETE FROM outbox WHERE id = ANY($1) AND parked_at IS NOT NULL RETURNING id";
