//! What opens a transaction. Every statement of the worker works unprepared through PgBouncer: typed parameters, and
//! result types that need no look-up.

/// Opens each transaction. `SKIP LOCKED` needs this isolation level, whatever the role's default is. The time-outs are
/// upper limits, not expected durations; the last one makes the server free the rows of a worker that is stopped
/// (SIGSTOP, a frozen machine).
pub(crate) const BEGIN: &str = "\
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '4s';
SET LOCAL idle_in_transaction_session_timeout = '8s'";

/// Precedes statements that walk an index and stop early. The planner's statistics are older than the last burst and
/// would make it read the whole table. Functions (`claim_outbox`, `mark_outbox`) pin their own plans.
pub(crate) const PIN: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off";
