//! Failures of PostgreSQL: no row is counted as failed, and none is lost.

use crate::support::{self, Bed, quick, signal};

/// Makes the first two marks fail with `code`. A rollback does not undo what the sequence has counted.
async fn fail_marks(bed: &Bed, code: &str) {
    let statement = format!(
        "DROP SEQUENCE IF EXISTS tries; CREATE SEQUENCE tries;
         CREATE OR REPLACE FUNCTION failing() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('tries') <= 2 THEN RAISE 'as the test wants it' USING ERRCODE = '{code}'; END IF;
             RETURN NULL;
         END $$;
         CREATE OR REPLACE TRIGGER failing AFTER UPDATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION failing();"
    );
    bed.sql.batch_execute(&statement).await.unwrap();
}

#[tokio::test]
async fn whatever_the_database_fails_with_counts_against_no_row() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    // Serialization failure, deadlock, time-out, no lock, no disk, no memory, read-only, a broken disk, an internal
    // error.
    for code in ["40001", "40P01", "57014", "55P03", "53100", "53200", "25006", "58030", "XX000"] {
        fail_marks(&bed, code).await;
        let ids = bed.insert(20).await;
        listener.until_heard(&ids).await;
        bed.until_all_processed().await;
        assert!(bed.value::<i64>("SELECT last_value FROM tries").await > 2, "{code}");
    }
    bed.assert_no_row_failed().await;
    worker.stop().await;
}

/// The lock is held for longer than the worker waits for one.
#[tokio::test]
async fn a_locked_table_counts_against_no_row() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    let ids = bed.insert(10).await;
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.sql.batch_execute("BEGIN; LOCK TABLE outbox").await.unwrap();
    let ids = bed.insert(10).await;
    worker.until_down("database").await;
    bed.sql.batch_execute("COMMIT").await.unwrap();
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    worker.stop().await;
}

/// Under SERIALIZABLE, concurrent workers would make each other's claims and marks fail, and publish repeatedly.
#[tokio::test]
async fn a_strict_isolation_by_default_repeats_nothing() {
    let bed = Bed::new().await;
    let strict = format!("ALTER DATABASE {} SET default_transaction_isolation = serializable", bed.database);
    bed.sql.batch_execute(&strict).await.unwrap();
    let mut listener = bed.listener().await;
    let workers = [0; 3].map(|_| bed.worker(quick()));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(bed.insert(100).await);
        bed.wake().await;
    }
    let heard = listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    assert!(heard.values().all(|times| *times == 1));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_killed_postgresql_gives_claimed_rows_back() {
    let mut bed = Bed::alone().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    // While Redis does not answer, the worker waits for it with the rows claimed.
    signal(bed.redis.pid().unwrap(), "STOP");
    let ids = bed.insert(20).await;
    bed.until_claimed().await;
    bed.servers.postgres.kill();
    signal(bed.redis.pid().unwrap(), "CONT");
    bed.servers.postgres.restart().unwrap();
    bed.sql = support::connect(&bed.servers.postgres.url(&bed.database)).await;
    // Published before the mark failed, or after.
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    worker.stop().await;
}

/// A primary that became a standby, or was fenced off: connections to it are not used again.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_left() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let direct = bed.servers.postgres.url(&bed.database);
    let worker = bed.worker_at(&direct, support::with_quick_pruning(quick()));
    let ids = bed.insert(5).await;
    listener.until_heard(&ids).await;
    let default = async |setting: &str| {
        let change = format!("ALTER DATABASE {} SET default_transaction_read_only = {setting}", bed.database);
        bed.sql.batch_execute(&format!("SET default_transaction_read_only = off; {change}")).await.unwrap();
    };
    default("on").await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    bed.value::<i64>(cut).await;
    let ids = bed.insert(5).await;
    support::in_time("the reason", async {
        while !format!("{:?}", worker.health.report().parts["database"].reason).contains("read-only") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // Only new sessions have the new default, as only new connections reach the new primary.
    default("off").await;
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    worker.stop().await;
}
