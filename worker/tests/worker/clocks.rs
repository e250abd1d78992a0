//! Workers whose clocks are wrong.

use std::path::Path;
use std::process::Command;

use crate::support::Bed;
use crate::support::process::Process;

/// A library that shifts the clock of the program that loads it by `CLOCK_AHEAD` seconds.
fn skewed_clock(directory: &Path) -> String {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    let text = "
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdlib.h>
        #include <time.h>
        int clock_gettime(clockid_t clock, struct timespec *time) {
            int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");
            int result = real(clock, time);
            if (clock == CLOCK_REALTIME) time->tv_sec += atol(getenv(\"CLOCK_AHEAD\"));
            return result;
        }";
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    let status = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(status.expect("whoever builds Rust has a C linker").success());
    library.display().to_string()
}

/// One worker's clock is a day ahead, the other's a day behind. The database's clock decides what is due and what is
/// pruned.
#[tokio::test]
async fn skewed_clocks_change_nothing() {
    const DAY: i64 = 24 * 60 * 60;
    let bed = Bed::new().await;
    let mut listener = bed.listener().await;
    let processed = "INSERT INTO outbox (type, conversation_id, payload, processed, processed_at, created_at)
        SELECT kind, gen_random_uuid(), '{}', true, now() - age, now() - age
        FROM (VALUES ('old', interval '2 hours'), ('young', interval '10 minutes')) AS rows (kind, age)";
    bed.sql.batch_execute(processed).await.unwrap();
    let later = bed.insert_one("later", "{}").await;
    let due = bed.insert_one("due", "{}").await;
    let statement = "UPDATE outbox SET next_attempt_at = now() + CASE id WHEN $1 THEN 1 ELSE -1 END * interval '1 hour'
        WHERE id IN ($1, $2)";
    bed.sql.execute(statement, &[&later, &due]).await.unwrap();
    let large = bed.insert_one("large", &format!("\"{}\"", "x".repeat(2_000))).await;
    let directory = tempfile::tempdir().unwrap();
    let library = skewed_clock(directory.path());
    let mut workers = Vec::new();
    for ahead in [DAY, -DAY] {
        let ahead = ahead.to_string();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("CLOCK_AHEAD", &ahead),
            ("OUTBOX_RETENTION_HOURS", "1"),
            ("MAX_PAYLOAD_BYTES", "1024"),
        ];
        workers.push(Process::start_with(&bed, &environment).await);
    }
    let mut since = Vec::new();
    for worker in &workers {
        let report = worker.until_ready(true).await;
        since.push(report["parts"]["database"]["since"].as_str().unwrap()[..10].to_owned());
    }
    assert!(since[0] > since[1], "the clocks are skewed: {since:?}");

    let ids = bed.insert(20).await;
    let heard = listener.until_heard(&[ids, vec![due]].concat()).await;
    assert!(heard.values().all(|times| *times == 1) && !heard.contains_key(&later), "{heard:?}");
    bed.until("SELECT count(*) FILTER (WHERE type = 'old') = 0 FROM outbox").await;
    bed.until(&format!(
        "SELECT retry_count >= 2 AND next_attempt_at < now() + interval '1 minute' FROM outbox WHERE id = {large}"
    ))
    .await;
    assert!(bed.value::<bool>("SELECT count(*) = 1 FROM outbox WHERE type = 'young'").await);
    let now = "SELECT bool_and(processed_at BETWEEN now() - interval '1 hour' AND now()) FROM outbox WHERE processed";
    bed.until(now).await;
    assert!(bed.value::<bool>(&format!("SELECT NOT processed FROM outbox WHERE id = {later}")).await);
}
