//! A conversation to try the gateway with, and what to paste.

use std::net::SocketAddr;

use deadpool_postgres::Pool;

use crate::config::Config;

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
    Ok(pool.get().await?.batch_execute(&sql).await?)
}

/// Prints how to chat, and what the plugins do.
pub(super) fn explain(address: SocketAddr, config: &Config) {
    let port = address.port();
    let admin = config.admin;
    println!(
        r#"
The gateway listens on ws://localhost:{port} (health and metrics: http://{admin}/ready, /metrics). Ctrl-C stops it.

In a terminal, be Alice:      npx wscat -c ws://localhost:{port}
  {{"op":"auth","token":"{ALICE}"}}
  {{"op":"join","conversation_id":"{CONVERSATION}"}}
In another, be Bob:           npx wscat -c ws://localhost:{port}
  {{"op":"auth","token":"{BOB}"}}
  {{"op":"join","conversation_id":"{CONVERSATION}"}}
Then, as either of them:
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"Hello!"}}}}
The plugins rewrite one message and refuse another:
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"What a badword."}}}}
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"text":"This is forbidden."}}}}
  {{"op":"send","conversation_id":"{CONVERSATION}","body":{{"words":"no text"}}}}

With a browser instead: open http://localhost:{port}/health twice, and paste this into each console (Bob's token in one):
  ws = new WebSocket("ws://localhost:{port}"); say = frame => ws.send(JSON.stringify(frame));
  ws.onmessage = event => console.log(event.data);
  ws.onopen = () => {{ say({{op: "auth", token: "{ALICE}"}}); say({{op: "join", conversation_id: "{CONVERSATION}"}}); }};
and then
  say({{op: "send", conversation_id: "{CONVERSATION}", body: {{text: "Hello!"}}}});
"#
    );
}
