//! Rows that fail by their own fault, and outages, which count against no row.

use std::time::Duration;

use arcyou_outbox_worker::RelayConfig;
use arcyou_platform::health::PartState;

use crate::support::{self, Bed, quick};

/// Waits until a row is parked; its tries and its error.
async fn until_parked(bed: &Bed, id: i64) -> (i32, String) {
    bed.until(&format!("SELECT parked_at IS NOT NULL FROM outbox WHERE id = {id}")).await;
    let statement = "SELECT retry_count, error FROM outbox WHERE id = $1 AND NOT processed";
    let row = bed.sql.query_one(statement, &[&id]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn an_oversize_payload_is_parked_after_five_tries_and_holds_up_nobody() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let large = bed.insert_one("large", &format!("\"{}\"", "x".repeat(5_000))).await;
    let others = bed.insert(20).await;
    let long_type = bed.insert_one(&"t".repeat(1_025), "{}").await;
    let worker = bed.worker(RelayConfig { max_payload_bytes: 4_096, ..quick() });
    let heard = listener.until_heard(&others).await;
    assert!(!heard.contains_key(&large));
    let (tries, error) = until_parked(&bed, large).await;
    assert_eq!((tries, error.as_str()), (5, "the payload has more than 4096 bytes as text (MAX_PAYLOAD_BYTES)"));
    let (tries, error) = until_parked(&bed, long_type).await;
    assert_eq!((tries, error.as_str()), (5, "the type is longer than 1024 characters"));
    worker.stop().await;
}

#[tokio::test]
async fn a_failed_row_waits_before_its_next_try() {
    let bed = Bed::new().await;
    let large = bed.insert_one("large", &format!("\"{}\"", "x".repeat(5_000))).await;
    let config = RelayConfig { max_payload_bytes: 4_096, backoff: RelayConfig::default().backoff, ..quick() };
    let worker = bed.worker(config);
    bed.until(&format!("SELECT retry_count = 1 FROM outbox WHERE id = {large}")).await;
    let delay =
        format!("SELECT (extract(epoch FROM next_attempt_at - now()) * 1000)::int8 FROM outbox WHERE id = {large}");
    let delay = bed.value::<i64>(&delay).await;
    assert!(delay <= 1_000, "{delay}");
    bed.until(&format!("SELECT retry_count = 2 AND next_attempt_at > now() FROM outbox WHERE id = {large}")).await;
    worker.stop().await;
}

/// The text of the payload would exceed a gigabyte, so every statement that reads it fails.
#[tokio::test]
async fn a_payload_that_cannot_become_text_is_found_among_others() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let before = bed.insert(30).await;
    let statement = "INSERT INTO outbox (type, conversation_id, payload) \
        SELECT 'bomb', gen_random_uuid(), jsonb_agg(1e131000::numeric) FROM generate_series(1, 9000) RETURNING id";
    let bomb: i64 = bed.sql.query_one(statement, &[]).await.unwrap().get(0);
    let after = bed.insert(30).await;
    let worker = bed.worker(RelayConfig { max_retries: 1, ..quick() });
    listener.until_heard(&[before, after].concat()).await;
    let (tries, error) = until_parked(&bed, bomb).await;
    assert_eq!(tries, 1);
    assert!(error.starts_with("the payload cannot be read"), "{error}");
    bed.until("SELECT count(*) = 60 FROM outbox WHERE processed").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_message_that_redis_refuses_is_parked_and_holds_up_nobody() {
    let bed = Bed::with_redis(&[("proto-max-bulk-len", "1mb")]).await;
    let mut listener = bed.listener().await;
    let refused = bed.insert_one("large", &format!("\"{}\"", "x".repeat(1024 * 1024))).await;
    let others = bed.insert(10).await;
    let worker = bed.worker(RelayConfig { max_payload_bytes: 4 * 1024 * 1024, ..quick() });
    listener.until_heard(&others).await;
    let (tries, error) = until_parked(&bed, refused).await;
    assert_eq!(tries, 5);
    assert!(error.contains("Redis"), "{error}");
    worker.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_no_row_is_counted_as_failed_and_after_it_all_arrive() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    let mut ids = bed.insert(50).await;
    listener.until_heard(&ids).await;
    bed.redis.kill();
    ids = bed.insert(600).await;
    worker.until_down("redis_publish").await;
    ids.extend(bed.insert(600).await);
    // Longer than five tries of a row take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bed.assert_no_row_failed().await;
    let reason = worker.health.report().parts["redis_publish"].reason.clone();
    assert!(reason.is_some_and(|reason| reason.contains("refused")));
    let worker = {
        // The listener subscribes before the worker starts: otherwise it would miss events.
        worker.stop().await;
        bed.redis.restart().unwrap();
        listener.until_subscribed().await;
        bed.worker(quick())
    };
    let heard = listener.until_heard(&ids).await;
    assert_eq!(heard.len(), ids.len());
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    worker.stop().await;
}

/// A Redis that runs but rejects every message is treated like one that is unavailable.
#[tokio::test]
async fn while_redis_refuses_to_publish_no_row_is_counted_as_failed() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    bed.redis_cli(&["ACL", "SETUSER", "default", "-publish"]);
    let ids = bed.insert(600).await;
    worker.until_down("redis_publish").await;
    let reason = worker.health.report().parts["redis_publish"].reason.clone().unwrap();
    assert!(reason.contains("NOPERM"), "{reason}");
    bed.assert_no_row_failed().await;
    bed.redis_cli(&["ACL", "SETUSER", "default", "+publish"]);
    let heard = listener.until_heard(&ids).await;
    assert_eq!(heard.len(), ids.len());
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    worker.stop().await;
}

/// The same worker resumes, although no hint wakes it.
#[tokio::test]
async fn a_worker_outlives_an_outage_of_redis() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    for round in 0..3 {
        bed.redis.kill();
        bed.insert(20).await;
        worker.until_down("redis_publish").await;
        bed.redis.restart().unwrap();
        bed.until_all_processed().await;
        listener.until_subscribed().await;
        let ids = bed.insert(5).await;
        bed.wake().await;
        listener.until_heard(&ids).await;
        bed.assert_no_row_failed().await;
        assert!(round < 3);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_outlives_pgbouncer_and_postgresql() {
    let bed = Bed::alone().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    let mut ids = bed.insert(10).await;
    listener.until_heard(&ids).await;

    bed.servers.pgbouncer.kill();
    ids = bed.insert(10).await;
    worker.until_down("database").await;
    bed.servers.pgbouncer.restart().unwrap();
    listener.until_heard(&ids).await;

    bed.servers.postgres.kill();
    bed.servers.postgres.restart().unwrap();
    let mut bed = bed;
    bed.sql = support::connect(&bed.servers.postgres.url(&bed.database)).await;
    ids = bed.insert(10).await;
    listener.until_heard(&ids).await;

    bed.servers.pgbouncer.pause().unwrap();
    ids = bed.insert(10).await;
    bed.wake().await;
    bed.servers.pgbouncer.resume().unwrap();
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    assert!(worker.health.report().ready);
    worker.stop().await;
}

#[tokio::test]
async fn a_locked_row_delays_only_itself() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let ids = bed.insert(10).await;
    let holder = support::connect(&bed.servers.postgres.url(&bed.database)).await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM outbox WHERE id = $1 FOR UPDATE", &[&ids[0]]).await.unwrap();
    let worker = bed.worker(quick());
    let heard = listener.until_heard(&ids[1..]).await;
    assert!(!heard.contains_key(&ids[0]));
    holder.batch_execute("ROLLBACK").await.unwrap();
    listener.until_heard(&ids[..1]).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_database_that_lets_rows_be_claimed_and_not_be_marked_stays_down() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    // What PostgreSQL says when its disk is full.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER full_disk BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION full_disk()";
    bed.sql.batch_execute(full).await.unwrap();
    let ids = bed.insert(1).await;
    let worker = bed.worker(quick());
    worker.until_down("database").await;
    let database = worker.health.part("database");
    let again = async {
        // Each time it is claimed and published, and cannot be marked.
        for _ in 0..3 {
            listener.until_heard(&ids).await;
        }
    };
    let never_up = async {
        loop {
            assert_eq!(database.state(), PartState::Down);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = again => {}
        () = never_up => {}
    }
    bed.sql.batch_execute("DROP TRIGGER full_disk ON outbox").await.unwrap();
    bed.until_all_processed().await;
    worker.stop().await;
}
