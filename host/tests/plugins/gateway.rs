//! Plugins as clients meet them: built from source, loaded by a real gateway.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::plugins::directory;

async fn member(world: &World) -> (Uuid, Uuid) {
    let user = Uuid::new_v4();
    (user, world.conversation(&[user]).await)
}

fn send(conversation: Uuid, body: Value) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": "t"})
}

#[tokio::test]
async fn one_message_is_rewritten_and_another_refused() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"body-shape\"\n[[plugin]]\nname = \"word-filter\"\n\
                  [plugin.config]\nmask = [\"badword\", \"나쁜말\"]\nreject = [\"forbidden\"]\n";
    let dir = directory(&["body-shape", "word-filter"], config);
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    client.ok(send(conversation, json!({"text": "What a BadWord, 나쁜말!"}))).await;
    assert_eq!(client.message().await, ("What a *******, ***!".to_owned(), 1));
    let reply = client.request(send(conversation, json!({"text": "this is FORBIDDEN"}))).await;
    assert_eq!(
        (&reply["code"], &reply["plugin"], &reply["temp_id"]),
        (&json!("rejected"), &json!("word-filter"), &json!("t"))
    );
    assert!(reply["reject_code"].is_string() && reply["error"].is_string(), "{reply}");
    let reply = client.request(send(conversation, json!({"words": "no text"}))).await;
    assert_eq!((&reply["code"], &reply["plugin"]), (&json!("rejected"), &json!("body-shape")));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    let decided = world.sql.query_one("SELECT decided_by FROM messages", &[]).await.unwrap();
    assert_eq!(decided.get::<_, Option<String>>(0).as_deref(), Some("word-filter"));
    // A key is looked up before the plugins run: what is stored already is not refused by a new rule.
    let keyed = |text: &str| {
        let mut frame = send(conversation, json!({"text": text}));
        frame["idempotency_key"] = json!("k");
        frame
    };
    let first = client.ok(keyed("fine")).await;
    let again = client.ok(keyed("forbidden")).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
}

/// A role that is taken away is taken away from open sockets.
#[tokio::test]
async fn a_demoted_moderator_is_judged_as_a_member() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"word-filter\"\n[plugin.when]\nexcept_roles = [\"moderator\"]\n\
                  [plugin.config]\nreject = [\"forbidden\"]\n";
    let dir = directory(&["word-filter"], config);
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    world.sql.execute("UPDATE participants SET role = 'moderator'", &[]).await.unwrap();
    let mut client = Client::joined(gateway.port, user, conversation).await;
    client.ok(send(conversation, json!({"text": "forbidden"}))).await;
    world.sql.execute("UPDATE participants SET role = 'member'", &[]).await.unwrap();
    let told = |event: &Value, role: &str| event["type"] == "participant.role_changed" && event["role"] == role;
    let event = loop {
        let event = client.event().await;
        assert!(event["type"] == "message.created" || told(&event, "moderator") || told(&event, "member"), "{event}");
        if told(&event, "member") {
            break event;
        }
    };
    assert_eq!(event["user_id"], json!(user));
    // The event comes first; the database is asked before it takes effect.
    let refused =
        async { while client.request(send(conversation, json!({"text": "forbidden"}))).await["code"] != "rejected" {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused).await.expect("the new role takes effect");
}

/// Every verdict and every misbehaviour, by one plugin that does what the text says.
#[tokio::test]
async fn each_verdict_and_each_failure_is_told_and_harms_one_message() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.limits]\ndeadline_ms = 50\nmemory_mib = 8\n";
    let dir = directory(&["misbehaving"], config);
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    let mut stored = 0;
    for deed in ["panic", "loop", "memory", "recurse", "replace-garbage", "replace-huge"] {
        let reply = client.request(send(conversation, json!({"filter": deed}))).await;
        assert_eq!(
            (&reply["code"], &reply["plugin"]),
            (&json!("plugin_failed"), &json!("misbehaving")),
            "{deed}: {reply}"
        );
        // The next message is none the worse for it.
        stored += 1;
        assert_eq!(client.ok(send(conversation, json!({"filter": "accept"}))).await["seq"], stored, "after {deed}");
        client.event().await;
    }
    for (deed, status) in [("discard", "discarded"), ("hold", "held")] {
        let reply = client.ok(send(conversation, json!({"filter": deed}))).await;
        assert_eq!(
            (&reply["status"], &reply["message_id"], &reply["seq"]),
            (&json!(status), &Value::Null, &Value::Null)
        );
    }
    // Held under a key, it is held once.
    for duplicate in [Value::Null, json!(true)] {
        let mut frame = send(conversation, json!({"filter": "hold"}));
        frame["idempotency_key"] = json!("k");
        let reply = client.ok(frame).await;
        assert_eq!((&reply["status"], &reply["duplicate"]), (&json!("held"), &duplicate));
    }
    assert_eq!(world.count("SELECT count(*) FROM held_messages WHERE idempotency_key = 'k'").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM held_messages WHERE idempotency_key IS NULL AND held_by = 'misbehaving'")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM messages").await, stored);
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, stored);
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_left_alone_and_operators_see_it() {
    let world = World::new().await;
    let config = "[[plugin]]\nname = \"misbehaving\"\n[plugin.breaker]\nfailures = 3\ncool_down_ms = 100\n";
    let dir = directory(&["misbehaving"], config);
    let gateway = world.gateway_with(&[dir.variable()]).await;
    // Three people: one alone could be the cause.
    let mut last = None;
    for _ in 0..3 {
        let (user, conversation) = member(&world).await;
        let mut client = Client::authenticated(gateway.port, user).await;
        assert_eq!(client.code(send(conversation, json!({"filter": "panic"}))).await, "plugin_failed");
        last = Some((client, conversation));
    }
    let (mut client, conversation) = last.unwrap();
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("misbehaving is not called"), "{reason}");
    assert!(reason.contains("this is what I panic about"), "{reason}");
    // It behaves again, and is called again, by itself.
    while client.request(send(conversation, json!({"filter": "accept"}))).await["success"] != true {}
    gateway.until("plugins", "up").await;
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
    let world = World::new().await;
    let dir = directory(&["word-filter"], "[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = [\"old\"]\n");
    let (gateway, _worker) = (world.gateway_with(&[dir.variable()]).await, world.worker().await);
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    dir.configure("[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = [\"new\"]\n");
    while {
        client.say(conversation, "old or new").await;
        client.message().await.0 != "old or ***"
    } {}
    dir.configure("[[plugin]]\nname = \"word-filter\"\ncolour = \"red\"\n");
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("colour"), "{reason}");
    let (table, content) = plugin_status(gateway.admin_port, &[]).await;
    assert!(!content && table.contains("REFUSED") && table.contains("`colour`"), "{table}");
    // Of a manifest that can be read it is said what waits.
    dir.configure("[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = 5\n[[plugin]]\nname = \"missing\"\n");
    let report = loop {
        let (report, content) = plugin_status(gateway.admin_port, &["--json"]).await;
        assert!(!content, "{report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        if report["refused"]["waiting"] != json!([]) {
            break report;
        }
    };
    let changes = json!([{"plugin": "word-filter", "change": "changed"}, {"plugin": "missing", "change": "new"}]);
    assert_eq!(report["refused"]["waiting"], changes);
    let reason = report["refused"]["reason"].as_str().unwrap();
    assert!(reason.contains("config.mask: invalid type: integer `5`") && reason.contains("missing.wasm"), "{reason}");
    client.say(conversation, "old or new").await;
    assert_eq!(client.message().await.0, "old or ***");
    dir.configure("[[plugin]]\nname = \"word-filter\"\n[plugin.config]\nmask = [\"new\"]\n");
    gateway.until("plugins", "up").await;
    assert!(plugin_status(gateway.admin_port, &[]).await.1);
}

/// What `plugin status` prints, and whether it is content.
async fn plugin_status(admin_port: u16, more: &[&str]) -> (String, bool) {
    let admin = format!("127.0.0.1:{admin_port}");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let output = command.args(["plugin", "status", "--admin", &admin]).args(more).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

#[tokio::test]
async fn a_version_that_fails_is_rolled_back_and_operators_see_it() {
    let world = World::new().await;
    let config = |filter: &str| format!("[[plugin]]\nname = \"misbehaving\"\n[plugin.config]\nfilter = \"{filter}\"\n");
    let dir = directory(&["misbehaving"], &config("replace"));
    // It asks for metrics, and how often it sends depends on how fast it runs.
    let gateway = world.program(&[dir.variable(), ("RATE_LIMIT_PER_SECOND", "0")]).await;
    let (table, content) = plugin_status(gateway.admin_port, &[]).await;
    assert!(content && table.contains("misbehaving") && table.contains("works"), "{table}");
    // Three people: one alone could be the cause.
    let mut people = Vec::new();
    for _ in 0..3 {
        let (user, conversation) = member(&world).await;
        people.push((Client::authenticated(gateway.port, user).await, conversation));
    }
    dir.configure(&config("panic"));
    // A busy machine may take its time, and a message that is sent meanwhile is replaced.
    let mut failed = 0;
    while failed < 5 {
        let (client, conversation) = &mut people[failed % 3];
        failed += usize::from(client.request(send(*conversation, json!({}))).await["code"] == "plugin_failed");
    }
    let conversation = people[0].1;
    let client = &mut people[0].0;
    assert_eq!(client.request(send(conversation, json!({}))).await["status"], "stored", "the version before is back");
    let reason = gateway.until("plugins", "down").await;
    assert!(reason.contains("misbehaving is rolled back to the version before"), "{reason}");
    let (table, content) = plugin_status(gateway.admin_port, &[]).await;
    assert!(!content && table.contains("rolled back"), "{table}");
    let (report, _) = plugin_status(gateway.admin_port, &["--json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["plugins"][0]["rolled_back"]["reason"].as_str().unwrap().contains("calls failed"), "{report}");
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.contains("arcyou_plugin_rolled_back{plugin=\"misbehaving\"} 1"), "{metrics}");
    for gauge in ["instances", "memory_bytes"] {
        assert!(metrics.contains(&format!("arcyou_plugin_{gauge}{{plugin=\"misbehaving\"}}")), "{gauge}: {metrics}");
    }
    dir.configure(&config("accept"));
    gateway.until("plugins", "up").await;
    let (unreachable, content) = plugin_status(world.gateway().await.admin_port, &[]).await;
    assert!(content && unreachable.contains("no plugins"), "{unreachable}");
}

#[tokio::test]
async fn a_hang_up_reloads_a_swapped_folder() {
    let world = World::new().await;
    let config = |filter: &str| format!("[[plugin]]\nname = \"misbehaving\"\n[plugin.config]\nfilter = \"{filter}\"\n");
    let (one, two) = (directory(&["misbehaving"], &config("accept")), directory(&["misbehaving"], &config("discard")));
    let place = tempfile::tempdir().unwrap();
    let (link, next) = (place.path().join("plugins"), place.path().join("next"));
    std::os::unix::fs::symlink(one.variable().1, &link).unwrap();
    // How often it asks below depends on how fast it runs.
    let variables = [("PLUGINS_DIR", link.to_str().unwrap()), ("RATE_LIMIT_PER_SECOND", "0")];
    let gateway = world.program(&variables).await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    assert_eq!(client.ok(send(conversation, json!({}))).await["status"], "stored");
    // As an orchestrator swaps a mounted folder.
    std::os::unix::fs::symlink(two.variable().1, &next).unwrap();
    std::fs::rename(&next, &link).unwrap();
    gateway.signal("HUP").await;
    while client.ok(send(conversation, json!({}))).await["status"] != "discarded" {}
}

#[tokio::test]
async fn a_sender_is_told_what_a_plugin_made_of_the_message() {
    let world = World::new().await;
    let manifest = |more: &str| format!("[[plugin]]\nname = \"misbehaving\"\n{more}");
    let dir = directory(&["misbehaving"], &manifest(""));
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    let frame = |deed: &str| {
        let mut frame = send(conversation, json!({"filter": deed}));
        frame["idempotency_key"] = json!(deed);
        frame
    };
    let replaced = client.ok(frame("replace")).await;
    assert_eq!((&replaced["status"], &replaced["body"]), (&json!("stored"), &json!({"text": "replaced"})));
    for deed in ["accept", "hold", "discard"] {
        let reply = client.ok(frame(deed)).await;
        assert!(reply.get("body").is_none(), "{reply}");
    }
    // A repeat is told what is stored, whatever plugins would make of it now.
    let rejecting = directory(&["misbehaving"], &manifest("[plugin.config]\nvalidate = \"reject\"\n"));
    let without = world.gateway().await;
    for gateway in [gateway, world.gateway_with(&[rejecting.variable()]).await, without] {
        let mut client = Client::authenticated(gateway.port, user).await;
        let repeated = client.ok(frame("replace")).await;
        assert_eq!((&repeated["duplicate"], &repeated["seq"]), (&json!(true), &replaced["seq"]), "{repeated}");
        assert_eq!(repeated["body"], json!({"text": "replaced"}), "{repeated}");
        assert!(client.ok(frame("accept")).await.get("body").is_none());
    }
}

#[tokio::test]
async fn a_repeat_is_told_what_stands_where_it_is_not_what_was_sent() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n");
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    let mut sent = send(conversation, json!({"filter": "accept", "text": "one"}));
    sent["idempotency_key"] = json!("sent");
    let id = client.ok(sent.clone()).await["message_id"].clone();
    let edit = |key: &str, body: Value| json!({"op": "edit", "conversation_id": conversation, "message_id": id, "body": body, "idempotency_key": key});
    let masked = edit("masked", json!({"filter": "append", "text": "two"}));
    let plain = edit("plain", json!({"filter": "accept", "text": "three"}));
    let two = json!({"filter": "append", "text": "two+"});
    for duplicate in [Value::Null, json!(true)] {
        let reply = client.ok(masked.clone()).await;
        assert_eq!((&reply["body"], &reply["duplicate"]), (&two, &duplicate), "{reply}");
    }
    assert_eq!(client.ok(sent.clone()).await["body"], two);
    for _ in 0..2 {
        assert_eq!(client.ok(plain.clone()).await.get("body"), None);
    }
    for overtaken in [sent, masked.clone()] {
        assert_eq!(client.ok(overtaken).await["body"], plain["body"]);
    }
    client.ok(json!({"op": "delete", "conversation_id": conversation, "message_id": id})).await;
    let gone = client.ok(masked).await;
    assert_eq!((&gone["duplicate"], gone.get("body")), (&json!(true), None));
}

#[tokio::test]
async fn each_verdict_that_a_sender_may_ask_about_leaves_a_row() {
    let world = World::new().await;
    let dir = directory(&["misbehaving"], "[[plugin]]\nname = \"misbehaving\"\n[plugin.breaker]\nfailures = 100\n");
    let gateway = world.gateway_with(&[dir.variable()]).await;
    let (user, conversation) = member(&world).await;
    let mut client = Client::joined(gateway.port, user, conversation).await;
    for deed in ["accept", "reject", "discard", "hold", "replace", "panic", "accept"] {
        let mut frame = send(conversation, json!({"filter": deed}));
        frame["idempotency_key"] = json!(deed);
        client.request(frame.clone()).await;
        if ["hold", "replace"].contains(&deed) {
            // A repeat is no second verdict.
            client.ok(frame).await;
        }
    }
    world.eventually("SELECT count(*) FROM plugin_audit", 5).await;
    let told = "SELECT string_agg(concat_ws(' ', a.verdict, a.code,
            CASE a.verdict WHEN 'failed' THEN left(a.reason, 14) ELSE a.reason END, m.body->>'text', h.id IS NOT NULL),
            ', ' ORDER BY a.verdict)
        FROM plugin_audit a LEFT JOIN messages m ON m.id = a.message_id LEFT JOIN held_messages h ON h.id = a.held_id
        WHERE a.plugin = 'misbehaving' AND a.version = $1 AND length(a.sha256) = 64
            AND a.sender_id = $2 AND a.conversation_id = $3";
    let version = env!("CARGO_PKG_VERSION");
    let row = world.sql.query_one(told, &[&version, &user, &conversation]).await.unwrap();
    assert_eq!(
        row.get::<_, String>(0),
        "discarded f, failed trap: panicked f, held somebody should look t, rejected told_to I was told to f, \
         replaced replaced f"
    );
    let failed = "SELECT reason FROM plugin_audit WHERE verdict = 'failed'";
    let reason: String = world.sql.query_one(failed, &[]).await.unwrap().get(0);
    assert!(reason.contains("src/lib.rs:") && reason.contains("this is what I panic about"), "{reason}");
    // A drain writes what is noted, and old rows go.
    client.request(send(conversation, json!({"filter": "reject"}))).await;
    gateway.stop().await;
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit").await, 6);
    world
        .sql
        .execute("UPDATE plugin_audit SET created_at = now() - interval '2 days' WHERE id % 2 = 0", &[])
        .await
        .unwrap();
    let off = [dir.variable(), ("AUDIT_RETENTION_DAYS", "1"), ("PLUGIN_AUDIT", "off")];
    let gateway = world.gateway_with(&off).await;
    world.eventually("SELECT count(*) FROM plugin_audit", 3).await;
    let mut client = Client::authenticated(gateway.port, user).await;
    for deed in ["reject", "replace", "hold"] {
        client.request(send(conversation, json!({"filter": deed}))).await;
    }
    gateway.stop().await;
    assert_eq!(world.count("SELECT count(*) FROM plugin_audit").await, 3);
}
