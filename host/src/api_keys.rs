//! `arcyou-gateway key …`: keys of services that use the HTTP API.

use anyhow::bail;
use arcyou_platform::database::{self, DatabaseUrl};
use arcyou_platform::terminal::{is_broken_pipe, print, printable, table};
use clap::Subcommand;
use uuid::Uuid;

use crate::api::key::{KeyText, Scope};
use crate::store::{ApiKey, ListedKey, Reviewer, Store, StoreError};

/// Requests a second of a key that says nothing else.
const DEFAULT_RATE: i32 = 500;

/// What `arcyou-gateway key` can do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Makes a key and prints it, once: it is kept nowhere
    Create {
        /// What to call it, for lists and the audit: 1 to 100 characters
        name: Reviewer,
        /// What it is for; can be given several times [default: all]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// The user that it acts for, such as a bot; without it, requests name a user
        #[arg(long, value_name = "UUID")]
        sender: Option<Uuid>,
        /// Requests a second, on each gateway
        #[arg(long, default_value_t = DEFAULT_RATE, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
        rate: i32,
    },
    /// Lists keys, newest first
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Ends keys for good, within two seconds
    Revoke {
        /// Their ids, as `key list` shows them
        #[arg(required = true)]
        ids: Vec<Uuid>,
    },
}

/// Executes the command.
pub async fn execute(action: Action, database: &DatabaseUrl) -> anyhow::Result<()> {
    let store = Store::new(database::pool(&database.clone().application_name("arcyou-gateway key"), 1)?);
    match act(action, &store).await {
        // Whoever reads has read enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        Err(error) if error.downcast_ref().is_some_and(StoreError::lacks_a_right) => {
            Err(error.context("keys are made, listed and revoked as the owner of the tables: set MIGRATE_DATABASE_URL"))
        }
        outcome => outcome,
    }
}

async fn act(action: Action, store: &Store) -> anyhow::Result<()> {
    match action {
        Action::Create { name, scopes, sender, rate } => {
            let text = KeyText::generate()?;
            let scopes = if scopes.is_empty() { Scope::ALL.to_vec() } else { scopes };
            let scopes = scopes.into_iter().map(|scope| scope.name().to_owned()).collect();
            let (name, secret_sha256) = (name.to_string(), text.sha256());
            store.insert_api_key(&ApiKey { id: text.id, name, secret_sha256, scopes, sender, rate }).await?;
            Ok(print(&text.to_string())?)
        }
        Action::List { json } => list(&store.api_keys().await?, json),
        Action::Revoke { ids } => {
            let mut unknown = Vec::new();
            for id in ids {
                match store.revoke_api_key(id).await? {
                    true => print(&format!("revoked {id}"))?,
                    false => unknown.push(id.to_string()),
                }
            }
            if !unknown.is_empty() {
                bail!("no key that is not revoked has the id {}; `key list` shows them", unknown.join(", "));
            }
            Ok(())
        }
    }
}

fn list(keys: &[ListedKey], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print(&serde_json::to_string_pretty(keys)?)?);
    }
    if keys.is_empty() {
        return Ok(print("no keys")?);
    }
    let line = |key: &ListedKey| {
        [
            key.id.to_string(),
            printable(&key.name),
            key.scopes.join(" "),
            key.sender_id.map_or_else(|| "any".to_owned(), |id| id.to_string()),
            key.rate.to_string(),
            key.created_at.clone(),
            key.revoked_at.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows = keys.iter().map(line).collect();
    Ok(print(&table(["ID", "NAME", "SCOPES", "SENDER", "RATE", "CREATED", "REVOKED"], rows))?)
}
