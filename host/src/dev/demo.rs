//! A conversation to try the gateway with, and how to.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use arcyou_platform::database::{describe, describe_pool};
use deadpool_postgres::Pool;
use uuid::{Uuid, uuid};

use crate::api::key::{KeyText, Scope};

pub(super) const CONVERSATION: Uuid = uuid!("c0c0c0c0-0000-4000-8000-000000000001");
pub(super) const ALICE: Uuid = uuid!("a11ce000-0000-4000-8000-000000000001");
pub(super) const BOB: Uuid = uuid!("b0b00000-0000-4000-8000-000000000001");

/// Makes the conversation with its two participants, unless an earlier run has, and in a private database a key for
/// services.
pub(super) async fn create(pool: &Pool, private: bool) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO conversations (id) VALUES ('{CONVERSATION}') ON CONFLICT DO NOTHING;
         INSERT INTO participants (conversation_id, user_id)
         VALUES ('{CONVERSATION}', '{ALICE}'), ('{CONVERSATION}', '{BOB}') ON CONFLICT DO NOTHING;"
    );
    let client = pool.get().await.map_err(|error| anyhow!("{}", describe_pool(&error)))?;
    client.batch_execute(&sql).await.map_err(|error| anyhow!("{}", describe(&error)))?;
    if private {
        let key = KeyText::DEVELOPMENT;
        let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
        let insert = "INSERT INTO api_keys (id, name, secret_sha256, scopes, rate) VALUES ($1, 'dev', $2, $3, 500)
            ON CONFLICT (id) DO UPDATE SET scopes = excluded.scopes";
        let inserted = client.execute(insert, &[&key.id, &key.sha256(), &scopes]).await;
        inserted.map_err(|error| anyhow!("{}", describe(&error)))?;
    }
    Ok(())
}

/// Prints how to chat, and of a private database where it is and how services use it.
pub(super) fn explain(listens_on: SocketAddr, admin: SocketAddr, private_database: Option<&str>) {
    let reach = reach(listens_on);
    // What listens on every interface listens on this one too.
    let unspecified = listens_on.ip().is_unspecified();
    let address = if unspecified { (Ipv4Addr::LOCALHOST, listens_on.port()).into() } else { listens_on };
    println!(
        r#"
Chat as Alice and Bob: open http://{address}/ in a browser.

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
"#
    );
    if let Some(url) = private_database {
        let key = KeyText::DEVELOPMENT;
        println!(
            r#"From your backend, as Bob:
  curl http://{address}/v1/conversations/{CONVERSATION}/messages -H 'Content-Type: application/json' \
    -H 'Authorization: Bearer {key}' \
    -d '{{"sender_id":"{BOB}","body":{{"text":"Hello from the backend!"}}}}'
Or with SQL:
  psql {url} \
    -c "SELECT seq FROM arcyou_send('{CONVERSATION}', '{BOB}', '{{\"text\": \"Hello from SQL!\"}}')"
"#
        );
    }
}

/// Who can connect.
fn reach(listens_on: SocketAddr) -> &'static str {
    match listens_on.ip().to_canonical() {
        ip if ip.is_loopback() => "for this machine alone (BIND_ADDR=0.0.0.0 opens it to others)",
        ip if ip.is_unspecified() => "on all interfaces: other machines reach it too",
        _ => "which other machines reach too",
    }
}
