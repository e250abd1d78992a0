//! What an error of the database means for the caller: whether the work may have been done, and whether a retry helps.

use tokio_postgres::Error;
use tokio_postgres::error::Severity;

/// What an error of the database means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The session ended, or its last answer was lost: a commit in progress may have succeeded.
    Lost,
    /// Nothing was done, and no other request can succeed either: the server takes no writes (a standby, or a demoted
    /// primary), has no room, or PgBouncer has no server. Another connection may reach another server.
    Unavailable,
    /// Rolled back because of other transactions or because it took too long. A retry may succeed, more probably with
    /// less work at once.
    Transient,
    /// Rolled back because of the data.
    Data,
    /// Rolled back for any other reason, such as a missing table or permission.
    Other,
}

/// Messages of PgBouncer to a client that still waits for a server: none of its statements was sent anywhere.
const NO_SERVER: [&str; 3] = ["query_wait_timeout", "server login has been failing", "cannot connect to server"];

impl Fault {
    /// Classifies an error.
    pub fn of(error: &Error) -> Self {
        let Some(error) = error.as_db_error() else { return Self::Lost };
        // PgBouncer sends only the word. PostgreSQL sends the word translated, and the severity itself.
        let ends_session = match error.parsed_severity() {
            Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
            None => error.severity() == "FATAL",
        };
        Self::from_report(error.code().code(), ends_session, error.message())
    }

    fn from_report(state: &str, ends_session: bool, message: &str) -> Self {
        let class = state.get(..2).unwrap_or_default();
        match (state, class) {
            // No session was opened: the server is starting, stopping or full.
            ("57P03" | "53300", _) => Self::Unavailable,
            (_, "08") if NO_SERVER.iter().any(|text| message.contains(text)) => Self::Unavailable,
            // "Statement completion unknown"; the session was ended by an operator or by the server.
            ("40003" | "57P01" | "57P02" | "57P04" | "57P05", _) | (_, "08") => Self::Lost,
            _ if ends_session => Self::Lost,
            // Out of memory: this statement itself may need too much.
            ("53200", _) => Self::Transient,
            // Read-only; no room on disk or elsewhere; disk errors.
            ("25006", _) | (_, "53" | "58") => Self::Unavailable,
            // Cancelled or timed out; a lock that was not available; a snapshot that is too old.
            ("57014" | "55P03" | "55006" | "72000", _) => Self::Transient,
            // A place that is taken: what is there is to blame, and not what was to be written.
            ("23505", _) => Self::Other,
            ("40002", _) | (_, "22" | "23" | "54") => Self::Data,
            // Serialization failures and deadlocks.
            (_, "40") => Self::Transient,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_meaning() {
        let error = |state, message| Fault::from_report(state, false, message);
        let fatal = |state, message| Fault::from_report(state, true, message);
        for (found, expected, what) in [
            (fatal("57P01", "terminating connection due to administrator command"), Fault::Lost, "admin_shutdown"),
            (fatal("57P02", "terminating connection because of crash"), Fault::Lost, "crash_shutdown"),
            (fatal("25P03", "idle-in-transaction timeout"), Fault::Lost, "the session is over"),
            (fatal("25P04", "transaction timeout"), Fault::Lost, "the session is over"),
            (fatal("53100", "could not write to file pg_wal/xlogtemp"), Fault::Lost, "PANIC: perhaps in a commit"),
            (fatal("40001", "terminating connection due to conflict with recovery"), Fault::Lost, "FATAL"),
            (error("40003", ""), Fault::Lost, "statement_completion_unknown"),
            (error("08006", ""), Fault::Lost, "connection_failure"),
            (fatal("08P01", "server conn crashed?"), Fault::Lost, "PgBouncer: the server may have done it"),
            (fatal("08P01", "query_timeout"), Fault::Lost, "PgBouncer: the server may be doing it"),
            (fatal("08P01", "database removed"), Fault::Lost, "PgBouncer: KILL"),
            (fatal("08P01", "query_wait_timeout"), Fault::Unavailable, "PgBouncer: never given a server"),
            (
                fatal("08P01", "pgbouncer cannot connect to server"),
                Fault::Unavailable,
                "PgBouncer: never given a server",
            ),
            (
                fatal("08P01", "server login has been failing, try again later (server_login_retry)"),
                Fault::Unavailable,
                "PgBouncer: never given a server",
            ),
            (fatal("57P03", "the database system is starting up"), Fault::Unavailable, "cannot_connect_now"),
            (fatal("53300", "sorry, too many clients already"), Fault::Unavailable, "too_many_connections"),
            (error("25006", "cannot execute INSERT in a read-only transaction"), Fault::Unavailable, "read_only"),
            (error("53100", "could not extend file: No space left on device"), Fault::Unavailable, "disk_full"),
            (error("53400", "temporary file size exceeds temp_file_limit"), Fault::Unavailable, "configuration_limit"),
            (error("58030", "could not read block"), Fault::Unavailable, "io_error"),
            (error("40001", "could not serialize access"), Fault::Transient, "serialization_failure"),
            (error("40P01", "deadlock detected"), Fault::Transient, "deadlock_detected"),
            (error("55P03", "canceling statement due to lock timeout"), Fault::Transient, "lock_not_available"),
            (error("55006", ""), Fault::Transient, "object_in_use"),
            (error("57014", "canceling statement due to statement timeout"), Fault::Transient, "query_canceled"),
            (error("53200", "out of memory"), Fault::Transient, "out_of_memory"),
            (error("22P02", "invalid input syntax for type json"), Fault::Data, "data exception"),
            (error("22P05", "untranslatable character"), Fault::Data, "data exception"),
            (error("23514", "violates check constraint"), Fault::Data, "integrity constraint"),
            (error("40002", ""), Fault::Data, "transaction_integrity_constraint_violation"),
            (error("54000", "index row size exceeds maximum"), Fault::Data, "program_limit_exceeded"),
            (error("42P01", "relation does not exist"), Fault::Other, "undefined_table"),
            (error("42501", "permission denied"), Fault::Other, "insufficient_privilege"),
            (error("P0001", "raised"), Fault::Other, "raise_exception"),
            (error("XX000", "internal error"), Fault::Other, "internal_error"),
            (error("", ""), Fault::Other, "no code at all"),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }
}
