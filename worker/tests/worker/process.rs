//! The worker program: signals, exit codes, the admin listener, `parked`.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{PROGRAM, Process};
use crate::support::{self, Bed, in_time, signal};

/// A transaction that lets workers claim rows but not mark them, until it is rolled back.
async fn hold_marks(bed: &Bed) -> tokio_postgres::Client {
    let holder = support::connect(&bed.servers.postgres.url(&bed.database)).await;
    holder.batch_execute("BEGIN; LOCK TABLE outbox IN SHARE MODE").await.unwrap();
    holder
}

#[tokio::test]
async fn killed_between_publishing_and_marking_it_publishes_again() {
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let ids = bed.insert(20).await;
    let holder = hold_marks(&bed).await;
    let mut process = Process::start(&bed).await;
    listener.until_heard(&ids).await;
    process.child.start_kill().unwrap();
    assert_eq!(process.exit_code().await, None);
    // Mark and commit may have been sent, and the server would still execute them: its session must end too.
    bed.until(
        "SELECT count(pg_terminate_backend(pid)) = 0 FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'arcyou-outbox-worker'",
    )
    .await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    bed.until("SELECT count(*) = 0 FROM pg_locks JOIN pg_class ON relation = pg_class.oid WHERE relname = 'outbox'")
        .await;
    assert_eq!(bed.value::<i64>("SELECT count(*) FROM outbox WHERE processed").await, 0);

    let _second = Process::start(&bed).await;
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    assert_eq!(bed.value::<i64>("SELECT count(*) FROM outbox WHERE retry_count > 0").await, 0);
}

#[tokio::test]
async fn sigterm_finishes_the_batch_in_hand() {
    for name in ["TERM", "INT"] {
        let bed = Bed::new().await;
        let mut listener = bed.listener().await;
        let ids = bed.insert(20).await;
        let holder = hold_marks(&bed).await;
        let mut process = Process::start(&bed).await;
        listener.until_heard(&ids).await;
        process.signal(name);
        let early = tokio::time::timeout(Duration::from_millis(300), process.child.wait()).await;
        assert!(early.is_err(), "it waits for its batch");
        // It claims nothing any more, and says so for as long as that takes.
        let report = process.until_ready(false).await;
        assert_eq!(report["draining"], true, "{report}");
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(process.exit_code().await, Some(0));
        bed.until_all_processed().await;
    }
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let bed = Bed::new().await;
    let mut process = Process::start_with(&bed, &[("POLL_INTERVAL_MS", "60000")]).await;
    process.until_ready(true).await;
    process.signal("TERM");
    // Long before it would have polled.
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn rows_that_are_parked_are_warned_of() {
    let bed = Bed::new().await;
    let process = Process::start(&bed).await;
    let report = process.until_ready(true).await;
    assert_eq!(report["parts"]["outbox"]["warning"], Value::Null, "{report}");
    bed.insert(2).await;
    bed.sql.batch_execute("UPDATE outbox SET parked_at = now(), retry_count = 5").await.unwrap();
    let warned = async {
        loop {
            let report = process.until_ready(true).await;
            if let Some(warning) = report["parts"]["outbox"]["warning"].as_str() {
                return warning.to_owned();
            }
        }
    };
    let warning = in_time("the warning", warned).await;
    assert!(warning.contains("parked list"), "{warning}");
}

/// A frozen machine keeps its connections open, so the database has to release its rows.
#[tokio::test]
async fn a_frozen_worker_gives_its_rows_back() {
    let bed = Bed::new().await;
    let frozen = Process::start(&bed).await;
    frozen.until_ready(true).await;
    let ids = freeze_with_rows(&bed, &frozen).await;
    // An earlier one may have given up a Redis that did not answer.
    let mut listener = bed.listener().await;
    let _other = Process::start(&bed).await;
    // The other worker relays what the frozen one does not hold, and then the rest.
    let free = bed.insert(5).await;
    bed.wake().await;
    listener.until_heard(&free).await;
    bed.until_all_processed().await;
    // Possibly twice, because what the frozen worker had sent arrives too.
    listener.until_heard(&ids).await;
    bed.assert_no_row_failed().await;
    // When it continues, it may publish what it held; then it finds its transaction ended, and goes on.
    frozen.signal("CONT");
    frozen.until_ready(true).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
}

/// Suspends a worker that has claimed rows; their ids.
async fn freeze_with_rows(bed: &Bed, worker: &Process) -> Vec<i64> {
    // While Redis does not answer, the worker waits for it with the rows claimed.
    let redis = bed.redis.pid().unwrap();
    signal(redis, "STOP");
    let ids = bed.insert(5).await;
    bed.until_claimed().await;
    worker.signal("STOP");
    signal(redis, "CONT");
    ids
}

#[tokio::test]
async fn started_while_everything_is_away_it_waits_and_says_so() {
    let bed = Bed::alone().await;
    bed.redis.kill();
    bed.servers.pgbouncer.kill();
    let mut process = Process::start(&bed).await;
    let report = process.until_ready(false).await;
    for part in ["database", "schema", "redis_publish", "redis_subscribe"] {
        let part = &report["parts"][part];
        assert_eq!(part["state"], "down", "{report}");
        assert!(part["since"].as_str().unwrap().ends_with('Z'), "{report}");
        assert!(part["reason"].as_str().unwrap().contains("refused"), "{report}");
    }
    bed.insert(5).await;
    bed.servers.pgbouncer.restart().unwrap();
    bed.redis.restart().unwrap();
    process.until_ready(true).await;
    bed.until_all_processed().await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

/// A worker that was upgraded before the schema: the functions that it calls do not exist yet.
#[tokio::test]
async fn newer_than_the_schema_it_waits_and_says_so() {
    let bed = Bed::new().await;
    let older = "ALTER FUNCTION claim_outbox RENAME TO not_yet; ALTER FUNCTION mark_outbox RENAME TO not_yet_either";
    bed.sql.batch_execute(older).await.unwrap();
    let ids = bed.insert(5).await;
    let mut listener = bed.listener().await;
    let mut process = Process::start(&bed).await;
    let said = async {
        let reason = |report: Value| report["parts"]["schema"]["reason"].as_str().unwrap_or_default().to_owned();
        while !reason(process.until_ready(false).await).contains("claim_outbox") {}
    };
    in_time("the reason", said).await;
    let upgrade = "ALTER FUNCTION not_yet RENAME TO claim_outbox; ALTER FUNCTION not_yet_either RENAME TO mark_outbox";
    bed.sql.batch_execute(upgrade).await.unwrap();
    process.until_ready(true).await;
    listener.until_heard(&ids).await;
    bed.until_all_processed().await;
    bed.assert_no_row_failed().await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let bed = Bed::new().await;
    let large = bed.insert_one("large", &format!("\"{}\"", "x".repeat(2_000))).await;
    bed.insert(7).await;
    let process = Process::start_with(&bed, &[("MAX_PAYLOAD_BYTES", "1024"), ("MAX_RETRIES", "1")]).await;
    bed.wake().await;
    bed.until(&format!("SELECT bool_and(processed OR id = {large}) FROM outbox")).await;
    let complete = async {
        loop {
            let (status, text) = process.get("/metrics").await;
            assert_eq!(status, 200);
            if text.contains("arcyou_outbox_parked 1") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let text = in_time("the gauges", complete).await;
    for line in [
        "arcyou_outbox_published_total 7",
        "arcyou_outbox_failed_total 1",
        "arcyou_outbox_parked_total 1",
        "arcyou_outbox_pending 0",
        "arcyou_part_up{part=\"database\"} 1",
        "arcyou_part_up{part=\"redis_publish\"} 1",
        "outbox_claim_seconds_bucket{kind=\"sweep\",le=\"30\"}",
        "outbox_publish_seconds_count",
        "outbox_mark_seconds_count",
        "outbox_delay_seconds_count 7",
        "outbox_batch_size_count",
        "arcyou_database_pool_connections",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!(process.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn the_admin_listener_answers_no_other_name_no_page_and_nobody_without_the_token() {
    let bed = Bed::new().await;
    let token = "0123456789abcdef-worker";
    let process = Process::start_with(&bed, &[("ADMIN_TOKEN", token), ("ADMIN_HOSTS", "worker.internal")]).await;
    let (status, body) = process.ask("/metrics", "host: evil.example").await;
    assert!(status == 421 && body.contains("ADMIN_HOSTS"), "{status} {body}");
    assert_eq!(process.ask("/metrics", "host: worker.internal:9091").await.0, 200);
    assert_eq!(process.ask("/metrics", "host: localhost\r\norigin: https://evil.example").await.0, 403);
    assert_eq!(process.ask("/metrics", "host: localhost\r\nsec-fetch-site: cross-site").await.0, 403);
    let (status, body) = process.get("/nothing").await;
    assert!(status == 401 && body.contains("ADMIN_TOKEN") && !body.contains(token), "{status} {body}");
    let authorized = format!("host: localhost\r\nauthorization: Bearer {token}");
    assert_eq!(process.ask("/nothing", &authorized).await.0, 404);
    let (_, metrics) = process.get("/metrics").await;
    for count in ["reason=\"host\"} 1", "reason=\"web_page\"} 2", "reason=\"token\"} 1"] {
        assert!(metrics.contains(&format!("arcyou_admin_refused_total{{{count}")), "{count} in\n{metrics}");
    }
}

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env_clear().envs(environment.iter().copied()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_wrong_environment_is_told_in_full_and_exits_with_2() {
    let environment = [("DATABASE_URL", "postgres://me:hunter2@h/d?sslmode=maybe"), ("BATCH_SIZE", "many")];
    let output = run(&environment, &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    for name in ["DATABASE_URL", "REDIS_URL", "BATCH_SIZE"] {
        assert!(error.lines().any(|line| line.starts_with(name)), "{error}");
    }
    assert!(!error.contains("hunter2"));
    assert_eq!(run(&[], &["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&[], &["parked", "list"]).status.code(), Some(2));
    let environment = [("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/d")];
    assert_eq!(run(&environment, &["parked", "requeue"]).status.code(), Some(2), "ids or --all");
    let output = run(&environment, &["parked", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("refused") && !text(&output.stderr).contains("hunter2"));
}

#[test]
fn help_names_the_variables_and_version_the_version() {
    let help = run(&[], &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for name in ["DATABASE_URL", "REDIS_URL", "PUBSUB_MODE", "OUTBOX_RETENTION_HOURS", "parked", "ADMIN_ADDR"] {
        assert!(text(&help.stdout).contains(name), "{name}");
    }
    assert!(text(&run(&[], &["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
}

async fn park(bed: &Bed, kind: &str) -> i64 {
    let id = bed.insert_one(kind, "{\"a\": 1}").await;
    let statement = "UPDATE outbox SET parked_at = now(), retry_count = 5, error = 'no good' WHERE id = $1";
    assert_eq!(bed.sql.execute(statement, &[&id]).await.unwrap(), 1);
    id
}

#[tokio::test]
async fn parked_rows_are_listed_shown_requeued_and_dropped() {
    let bed = Bed::new().await;
    let url = bed.database_url();
    let run = |arguments: &[&str]| run(&[("DATABASE_URL", &url)], &[&["parked"], arguments].concat());
    assert_eq!(text(&run(&["list"]).stdout).trim(), "no parked rows");
    let pending = bed.insert(1).await[0];
    let ids = [park(&bed, "one").await, park(&bed, "two").await, park(&bed, "three").await];
    let names = ids.map(|id| id.to_string());

    let list = run(&["list"]);
    let lines: Vec<&str> = text(&list.stdout).lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("ID") && lines[1].contains("one") && lines[1].ends_with("no good"), "{lines:?}");
    let list: Value = serde_json::from_slice(&run(&["list", "--json"]).stdout).unwrap();
    assert_eq!((list[2]["id"].as_i64(), list[2]["retry_count"].as_i64()), (Some(ids[2]), Some(5)));
    let first = run(&["list", "--limit", "1"]);
    assert!(text(&first.stderr).contains(&format!("--after {}", ids[0])));
    assert!(text(&run(&["list", "--after", &names[0]]).stdout).contains("three"));

    let show: Value = serde_json::from_slice(&run(&["show", &names[0], "--json"]).stdout).unwrap();
    assert_eq!((show["state"].as_str(), show["payload"].as_str()), (Some("parked"), Some("{\"a\": 1}")));
    assert!(text(&run(&["show", &names[0]]).stdout).contains("no good"));
    // As many bytes as the limit counts, however well they are compressed on disk.
    let large = bed.insert_one("large", &format!("\"{}\"", "x".repeat(100_000))).await;
    let show: Value = serde_json::from_slice(&run(&["show", &large.to_string(), "--json"]).stdout).unwrap();
    assert_eq!(show["payload_bytes"], 100_002);
    assert!(show["stored_bytes"].as_i64().unwrap() < 100_002, "{show}");
    let bomb = "INSERT INTO outbox (type, conversation_id, payload)
        SELECT 'bomb', gen_random_uuid(), jsonb_agg(1e131000::numeric) FROM generate_series(1, 9000) RETURNING id";
    let bomb: i64 = bed.sql.query_one(bomb, &[]).await.unwrap().get(0);
    let show = run(&["show", &bomb.to_string()]);
    assert!(show.status.success() && text(&show.stdout).contains("too many to count"), "{show:?}");
    bed.sql.execute("DELETE FROM outbox WHERE id IN ($1, $2)", &[&large, &bomb]).await.unwrap();
    assert_eq!(run(&["show", "999999"]).status.code(), Some(1));

    let requeue = run(&["requeue", &names[0]]);
    assert_eq!(
        (requeue.status.code(), text(&requeue.stdout).trim()),
        (Some(0), format!("requeued {}", ids[0]).as_str())
    );
    let again = run(&["requeue", &names[0], &pending.to_string(), &names[1]]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains(&format!("{pending} is not parked")));
    let drop: Value = serde_json::from_slice(&run(&["drop", "--all", "--json"]).stdout).unwrap();
    assert_eq!(drop["dropped"], 1);
    assert_eq!(bed.value::<i64>("SELECT count(*) FROM outbox").await, 3);

    let mut listener = bed.listener().await;
    let _process = Process::start(&bed).await;
    listener.until_heard(&[pending, ids[0], ids[1]]).await;
}
