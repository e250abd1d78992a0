//! A conversation to try the gateway with, and what to paste.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use arcyou_platform::database::{describe, describe_pool};
use deadpool_postgres::Pool;

const CONVERSATION: &str = "c0c0c0c0-0000-4000-8000-000000000001";
const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000001";

/// Makes the conversation with its two participants, unless an earlier run has.
pub(super) async fn create(pool: &Pool) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO conversations (id) VALUES ('{CONVERSATION}') ON CONFLICT DO NOTHING;
         INSERT INTO participants (conversation_id, user_id)
         VALUES ('{CONVERSATION}', '{ALICE}'), ('{CONVERSATION}', '{BOB}') ON CONFLICT DO NOTHING;"
    );
    let client = pool.get().await.map_err(|error| anyhow!("{}", describe_pool(&error)))?;
    client.batch_execute(&sql).await.map_err(|error| anyhow!("{}", describe(&error)))
}

/// Prints how to chat, and what the plugins do.
pub(super) fn explain(listens_on: SocketAddr, admin: SocketAddr) {
    let reach = reach(listens_on);
    // What listens on every interface listens on this one too.
    let unspecified = listens_on.ip().is_unspecified();
    let address = if unspecified { (Ipv4Addr::LOCALHOST, listens_on.port()).into() } else { listens_on };
    println!(
        r#"
The gateway listens on ws://{address}, {reach}. Ctrl-C stops it.
Health and metrics are on http://{admin}/ready and /metrics.

In a terminal, be Alice:      npx wscat -c ws://{address}
  {{"op":"auth","token":"{ALICE}"}}
  {{"op":"join","conversation_id":"{CONVERSATION}"}}
In another, be Bob:           npx wscat -c ws://{address}
  {{"op":"auth","token":"{BOB}"}}
  {{"op":"join","conversation_id":"{CONVERSATION}"}}
Then, as either of them:
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"Hello!"}}}}
The plugins rewrite one message and refuse another:
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"What a badword."}}}}
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"This is forbidden."}}}}
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"words":"no text"}}}}

With a browser instead: open http://{address}/health twice, and paste this into each console (Bob's token in one):
  ws = new WebSocket("ws://{address}"); say = frame => ws.send(JSON.stringify(frame));
  ws.onmessage = event => console.log(event.data);
  ws.onopen = () => {{ say({{op: "auth", token: "{ALICE}"}}); say({{op: "join", conversation_id: "{CONVERSATION}"}}); }};
and then
  say({{op: "send", conversation_id: "{CONVERSATION}", body: {{text: "Hello!"}}}});
"#
    );
}

/// Who can connect.
fn reach(listens_on: SocketAddr) -> &'static str {
    match listens_on.ip().to_canonical() {
        ip if ip.is_loopback() => "for this machine alone (BIND_ADDR=0.0.0.0 opens it to others)",
        ip if ip.is_unspecified() => "on all interfaces: other machines reach it too",
        _ => "which other machines reach too",
    }
}
