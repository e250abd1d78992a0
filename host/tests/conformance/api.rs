//! The HTTP API against its own document: schemathesis draws requests from it, good ones and bad ones, and compares the
//! answers with it; and clients that others generate from it compile.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{World, http_get};

/// What good requests may be answered with besides: the message is deleted, has another version, or says what cannot be
/// stored.
const CONFIG: &str =
    "[checks.positive_data_acceptance]\nexpected-statuses = ['2xx', 401, 403, 404, 409, 410, 412, 413, 422, 429]\n";

/// Requests for each operation and each kind of check; `SCHEMATHESIS_EXAMPLES` sets another number.
const EXAMPLES: &str = "60";
/// What they are drawn by; `SCHEMATHESIS_SEED` sets another one.
const SEED: &str = "1";

fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance")
}

/// Runs a program to its end, which must be a good one.
async fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    assert!(program.exists(), "{} is missing: `make conformance` installs it", program.display());
    let mut command = Command::new(program);
    let path = std::env::join_paths(
        program
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    // Tools call those that stand beside them.
    command.env("PATH", path.unwrap()).args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {said}", program.display());
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a fuzzer: `make conformance`"]
async fn the_api_does_what_its_document_says() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let user = Uuid::new_v4();
    world.conversation(&[user]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.args(["key", "create", "fuzzer", "--rate", "1000000"]).env("DATABASE_URL", world.database_url());
    let key = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), CONFIG).unwrap();
    let document = format!("http://127.0.0.1:{}/v1/openapi.json", gateway.port);
    let authorization = format!("Authorization: Bearer {}", key.trim());
    let set = |variable: &str, usual: &str| std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    let (examples, seed) = (set("SCHEMATHESIS_EXAMPLES", EXAMPLES), set("SCHEMATHESIS_SEED", SEED));
    let arguments =
        ["run", &document, "--checks", "all", "--max-examples", &examples, "--seed", &seed, "-H", &authorization];
    let said = run(&home().join("api/bin/schemathesis"), &arguments, folder.path()).await;
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs generators: `make conformance`"]
async fn clients_that_are_generated_from_the_document_compile() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let answer = http_get(gateway.port, "/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
    std::fs::write(folder.path().join("openapi.json"), document.to_string()).unwrap();

    let python = home().join("api/bin");
    // It knows no content of lines: whoever asks for an export reads bytes.
    std::fs::write(
        folder.path().join("config.yml"),
        "content_type_overrides:\n  application/x-ndjson: application/octet-stream\n",
    )
    .unwrap();
    let generate = [
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "client",
        "--fail-on-warning",
        "--config",
        "config.yml",
    ];
    // The generator formats with a program that stands beside it.
    run(&python.join("openapi-python-client"), &generate, folder.path()).await;
    let compile = ["-W", "error", "-m", "compileall", "-q", "client"];
    run(&python.join("python"), &compile, folder.path()).await;

    let javascript = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js/node_modules/.bin");
    run(&javascript.join("openapi-typescript"), &["openapi.json", "-o", "client.ts"], folder.path()).await;
    let check = ["--strict", "--noEmit", "--skipLibCheck", "false", "client.ts"];
    run(&javascript.join("tsc"), &check, folder.path()).await;
}
