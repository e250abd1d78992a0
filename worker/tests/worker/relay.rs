//! The relay while everything works.

use std::time::Duration;

use arcyou_outbox_worker::RelayConfig;
use arcyou_platform::contract::PubSubMode;
use serde_json::{Value, json};

use crate::support::{self, Bed, quick};

#[tokio::test]
async fn one_worker_relays_rows_in_order_and_marks_them() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(RelayConfig { batch_size: 100, ..quick() });
    let mut ids = bed.insert(700).await;
    ids.extend(bed.insert(300).await);
    for id in &ids {
        let (heard, kind, _) = listener.next().await;
        assert_eq!((heard, kind.as_str()), (*id, "message.created"));
    }
    bed.until_all_processed().await;
    assert_eq!(bed.value::<i64>("SELECT count(*) FROM outbox WHERE retry_count > 0 OR error IS NOT NULL").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn several_workers_relay_everything_once() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let workers = [0; 3].map(|_| bed.worker(RelayConfig { batch_size: 50, ..quick() }));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(bed.insert(150).await);
        bed.wake().await;
    }
    let heard = listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    assert_eq!(heard.len(), ids.len());
    assert!(heard.values().all(|times| *times == 1), "nothing failed, so nothing is repeated");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_hint_beats_the_poll() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let first = bed.insert(1).await;
    let worker = bed.worker(RelayConfig { poll_interval: Duration::from_secs(3_600), ..quick() });
    // Found without a hint, when the worker starts.
    listener.until_heard(&first).await;
    bed.until_all_processed().await;
    for _ in 0..20 {
        let ids = bed.insert(1).await;
        bed.wake().await;
        listener.until_heard(&ids).await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn the_poll_finds_what_no_hint_told_of() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(RelayConfig { poll_interval: Duration::from_millis(300), ..quick() });
    for _ in 0..3 {
        let ids = bed.insert(1).await;
        listener.until_heard(&ids).await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn any_service_may_write_any_type_and_any_payload() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let kinds = ["invoice.paid", "", "with \"quotes\" and \\", "한글 🎉", "line\nbreak", &"k".repeat(1_024)];
    let payloads = [
        json!({"a": {"b": [1, 2.5, null]}}),
        json!([1, "two", {"three": 3}]),
        json!("text with \"quotes\", 한글 and \u{1f389}"),
        json!(12345678901234567890_u64),
        json!(true),
        Value::Null,
    ];
    let mut expected = Vec::new();
    for kind in kinds {
        for payload in &payloads {
            let id = bed.insert_one(kind, &payload.to_string()).await;
            expected.push((id, kind.to_owned(), payload.clone()));
        }
    }
    let worker = bed.worker(quick());
    for event in expected {
        assert_eq!(listener.next().await, event);
    }
    bed.until_all_processed().await;
    worker.stop().await;
}

#[tokio::test]
async fn numbers_travel_as_the_database_writes_them() {
    let bed = Bed::new().await;
    let mut subscriber = bed.listener().await;
    bed.insert_one("big", "123456789012345678901234567890.000000000000000000001").await;
    let worker = bed.worker(quick());
    let (_, kind, _) = subscriber.next().await;
    assert_eq!(kind, "big");
    worker.stop().await;
}

#[tokio::test]
async fn each_conversation_has_its_channel_if_so_configured() {
    let bed = Bed::new().await;
    let mut global = bed.listener().await;
    let mut own = bed.listener_on(&format!("conv:{}", bed.conversation)).await;
    let worker = bed.worker(RelayConfig { mode: PubSubMode::PerConversation, ..quick() });
    let ids = bed.insert(3).await;
    own.until_heard(&ids).await;
    bed.until_all_processed().await;
    worker.stop().await;
    // Nothing was published on the channel of the other mode.
    let marker = bed.worker(quick());
    let last = bed.insert(1).await;
    assert_eq!(global.next().await.0, last[0]);
    marker.stop().await;
}

#[tokio::test]
async fn a_row_that_commits_late_is_found() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let worker = bed.worker(quick());
    let late = support::connect(&bed.servers.postgres.url(&bed.database)).await;
    late.batch_execute("BEGIN").await.unwrap();
    let insert = "INSERT INTO outbox (type, conversation_id, payload) VALUES ('late', $1, '{}') RETURNING id";
    let id: i64 = late.query_one(insert, &[&bed.conversation]).await.unwrap().get(0);
    let ids = bed.insert(10).await;
    assert!(ids.iter().all(|other| *other > id));
    let heard = listener.until_heard(&ids).await;
    assert!(!heard.contains_key(&id));
    late.batch_execute("COMMIT").await.unwrap();
    listener.until_heard(&[id]).await;
    worker.stop().await;
}

/// A claim must not read the processed rows, however many there are.
#[tokio::test]
async fn claims_and_counts_use_the_indexes() {
    let bed = Bed::new().await;
    bed.sql
        .batch_execute(
            "INSERT INTO outbox (type, conversation_id, payload, internal, processed, processed_at)
             SELECT 'message.created', gen_random_uuid(), '{}', true, true, now() FROM generate_series(1, 100000);
             ANALYZE outbox; SELECT pg_stat_reset();",
        )
        .await
        .unwrap();
    let mut listener = bed.listener().await;
    let worker = bed.worker_with_retention(None, RelayConfig { batch_size: 50, ..quick() });
    let ids = bed.insert(1_000).await;
    listener.until_heard(&ids).await;
    worker.stop().await;
    bed.until("SELECT idx_scan > 10 FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_pending'").await;
    assert_eq!(bed.value::<i64>("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'outbox'").await, 0);
}

/// After a burst that the statistics do not show, the planner would read and sort every pending row for each claim.
#[tokio::test]
async fn a_claim_reads_no_more_than_it_takes() {
    // Alone: while a transaction of any other test stays open, claims pass over the entries of finished rows again.
    let bed = Bed::alone().await;
    bed.sql.batch_execute("ALTER TABLE outbox SET (autovacuum_enabled = false)").await.unwrap();
    let mut listener = bed.listener().await;
    let ids = bed.insert(20_000).await;
    let worker = bed.worker(RelayConfig { batch_size: 100, ..quick() });
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    worker.stop().await;
    let index = "FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_pending'";
    bed.until(&format!("SELECT idx_tup_read >= 20000 {index}")).await;
    // There are 200 claims; reading every pending row for each would be two million. Sweeps, which are more on a slow
    // machine, read some finished rows again.
    let read = bed.value::<i64>(&format!("SELECT idx_tup_read {index}")).await;
    assert!(read < 1_000_000, "{read}");
}

#[tokio::test]
async fn what_was_processed_long_ago_is_pruned_and_nothing_else() {
    let bed = Bed::new().await;
    let insert = "INSERT INTO outbox (type, conversation_id, payload, processed, processed_at, parked_at, created_at) ";
    let rows = [
        ("old", "true, now() - interval '2 hours', NULL, now() - interval '2 hours' FROM generate_series(1, 2500)"),
        ("parked", "false, NULL, now() - interval '2 hours', now() - interval '2 hours'"),
        ("relayed late", "true, now() - interval '10 minutes', NULL, now() - interval '2 hours'"),
        ("old", "true, now() - interval '2 hours', NULL, now() - interval '2 hours' FROM generate_series(1, 10)"),
        (
            "young",
            "true, now() - interval '10 minutes', NULL, now() - interval '10 minutes' FROM generate_series(1, 1500)",
        ),
    ];
    for (kind, values) in rows {
        let statement = format!("{insert} SELECT '{kind}', gen_random_uuid(), '{{}}'::jsonb, {values}");
        bed.sql.batch_execute(&statement).await.unwrap();
    }
    let worker = bed.worker_with_retention(Some(Duration::from_secs(3_600)), quick());
    bed.until("SELECT count(*) FILTER (WHERE type = 'old') = 0 FROM outbox").await;
    let left = "SELECT string_agg(type || ' ' || n, ', ' ORDER BY type)
        FROM (SELECT type, count(*) AS n FROM outbox GROUP BY 1) AS t";
    assert_eq!(bed.value::<String>(left).await, "parked 1, relayed late 1, young 1500");
    worker.stop().await;
}
