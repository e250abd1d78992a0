//! The page of `arcyou-gateway dev`, as a newcomer uses it, in a browser.

use tokio::process::Command;

use crate::dev::{Dev, folder};
use crate::support::{World, http_get};

#[tokio::test]
async fn alice_and_bob_chat_side_by_side() {
    let folder = folder();
    let dev = Dev::start(folder.path(), &[]).await;
    let script = format!("{}/tests/js/playground.mjs", env!("CARGO_MANIFEST_DIR"));
    let mut newcomer = Command::new("node");
    newcomer.arg(script).arg(&dev.page).args(std::env::var_os("PLAYGROUND_SCREENSHOTS")).kill_on_drop(true);
    let output = newcomer.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dev.stop().await;
}

#[tokio::test]
async fn serve_has_no_page() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for path in ["/", "/playground/playground.js", "/playground/held.json"] {
        let answer = http_get(gateway.port, path).await;
        assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("ArcYou"), "{answer}");
    }
}
