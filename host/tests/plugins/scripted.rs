//! Plugins in JavaScript and Python have all that plugins in Rust have: values, time, random numbers, requests and
//! joins.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;

use super::capabilities::Service;
use super::shipped::scripted;
use crate::support::client::Client;
use crate::support::guests::{Dir, compile_for_gateways};
use crate::support::{World, blocking};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nx-told: yes\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A directory with this plugin, compiled and in the cache, however long that takes.
fn directory(name: &str, port: u16) -> Dir {
    let dir = Dir::empty();
    dir.write(&format!("{name}.wasm"), &fs::read(scripted().join(format!("{name}.wasm"))).unwrap());
    dir.manifest(&format!(
        "[chain]\ndeadline_ms = 60000\n[[plugin]]\nname = {name:?}\ngrants = [\"clock\", \"random\", \"kv\", \"http\"]\n\
         [plugin.http]\nhosts = [\"http://127.0.0.1:{port}\"]\ntimeout_ms = 30000\n\
         [plugin.limits]\nstartup_ms = 60000\nmemory_mib = 32\ndeadline_ms = 10000\nwall_ms = 60000\n"
    ));
    compile_for_gateways(dir.path());
    dir
}

async fn uses_what_it_is_granted(name: &'static str) {
    let service = Service::start(ANSWER, true).await;
    let port = service.port;
    let dir = blocking(move || directory(name, port)).await;
    let world = World::new().await;
    let gateway = world.gateway_with(&[("PLUGINS_DIR", dir.path().to_str().unwrap())]).await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    // The hook about joins, in both ways.
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let send =
        |by: i64, url: String| json!({"op": "send", "conversation_id": conversation, "body": {"by": by, "url": url}});
    client.ok(send(2, format!("http://127.0.0.1:{port}/"))).await;
    client.ok(send(-5, "http://127.0.0.2/".into())).await;
    let rows = world.sql.query("SELECT annotations::text FROM messages ORDER BY seq", &[]).await.unwrap();
    let noted: Vec<Value> =
        rows.iter().map(|row| serde_json::from_str::<Value>(row.get(0)).unwrap()[name].clone()).collect();
    for (noted, before, count, fetched) in
        [(&noted[0], "none", "2", "200 yes ok"), (&noted[1], "2", "-3", "not-allowed")]
    {
        let told = ["before", "count", "fetched"].map(|key| noted[key].as_str().unwrap_or_default());
        assert_eq!(told, [before, count, fetched], "{name}: {noted}");
        let same =
            ["at_start", "no_number", "stored", "removed", "bytes"].map(|key| noted[key].as_str().unwrap_or_default());
        assert_eq!(same, ["unavailable", "not-a-number", "ok", "true false", "8"], "{name}: {noted}");
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let clock_ms: u128 = noted["clock_ms"].as_str().unwrap().parse().unwrap();
        assert!(clock_ms <= now_ms && now_ms - clock_ms < 3_600_000, "{name}: {noted}");
        let number: f64 = noted["number"].as_str().unwrap().parse().unwrap();
        assert!((0.0..1.0).contains(&number), "{name}: {noted}");
    }
    assert_ne!(noted[0]["number"], noted[1]["number"], "{name}");

    world.sql.execute("UPDATE participants SET role = 'guest'", &[]).await.unwrap();
    let mut guest = Client::authenticated(gateway.port, user).await;
    let refused = guest.request(json!({"op": "join", "conversation_id": conversation})).await;
    assert_eq!((&refused["code"], &refused["reject_code"]), (&json!("rejected"), &json!("no_guests")), "{refused}");
    assert_eq!(refused["retry_after_ms"], 5);
    assert!(refused["error"].as_str().unwrap().contains("join 2"), "{name}: {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_uses_what_it_is_granted() {
    uses_what_it_is_granted("counting").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_uses_what_it_is_granted() {
    uses_what_it_is_granted("tallying").await;
}
