//! What the gateway speaks, against tests and tools that others wrote. The HTTP API: see [`api`]. The WebSocket layer:
//! the cases of Autobahn|Testsuite, driven by the fuzzing client that `requirements.txt` names, against an [`echo`]
//! that is served as the gateway is. `make conformance` installs the client and runs this; the client's own report of
//! each case stays in `target/conformance/reports`.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod api;
mod echo;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use arcyou_gateway::bounds::connections::ConnectionBounds;
use arcyou_gateway::config::{Config, Mode};
use arcyou_gateway::server::handshake;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The cases that this release of the client has: one that ran fewer has said nothing about the rest.
const CASES: usize = 517;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a fuzzing client: `make conformance`"]
async fn the_websocket_layer_speaks_rfc_6455() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let Config { limits, accept, .. } = config();
    let bounds = Arc::new(ConnectionBounds::new(accept.connections));
    let server = tokio::spawn(handshake::serve(listener, echo::router(limits), bounds, shutdown.clone()));
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance");
    let reports = home.join("reports");
    run_client(&home.join("venv/bin/kosoku"), address, &reports).await;
    shutdown.cancel();
    server.await.unwrap();

    let cases = report::read(&reports);
    report::print(&cases);
    assert_eq!(cases.len(), CASES, "cases that were run");
    let failed = cases.iter().filter(|case| case.outcome == report::Outcome::Failed).count();
    assert_eq!(failed, 0, "cases failed; {} shows what went over the wire", reports.join("index.html").display());
}

/// The defaults, but for the sizes: the largest case is a message of 16 MiB, which waits in the socket's buffer as a
/// whole.
fn config() -> Config {
    let variables = HashMap::from([
        ("DATABASE_URL", "postgres://nobody@nowhere/none"),
        ("REDIS_URL", "redis://nowhere"),
        ("JWT_PUBLIC_KEY", "dev-placeholder"),
        ("BIND_ADDR", "127.0.0.1"),
        ("MAX_FRAME_BYTES", "16777216"),
        ("MAX_QUEUE_BYTES", "33554432"),
    ]);
    Config::from_source(&variables, Mode::Serve).unwrap()
}

/// Runs all cases. The client's verdict on the whole is not asked for: it counts what is not implemented as failed.
async fn run_client(client: &Path, address: SocketAddr, reports: &Path) {
    assert!(client.exists(), "{} is missing: `make conformance` installs it", client.display());
    if reports.exists() {
        std::fs::remove_dir_all(reports).unwrap();
    }
    let mut command = Command::new(client);
    command.arg("--parallelism").arg("4").arg("--outdir").arg(reports).arg(format!("ws://{address}/"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(reports.join("index.json").exists(), "the client left no report, and said: {said}");
}
