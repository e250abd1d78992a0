//! What a run itself does in the database, which is restarted under it.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls, Row};

use crate::system::PATIENCE;

/// A connection that is made again when it breaks.
pub struct Sql {
    url: String,
    client: Mutex<Option<Client>>,
}

impl Sql {
    pub fn new(url: String) -> Self {
        Self { url, client: Mutex::default() }
    }

    /// Repeated until it succeeds: it must not matter if it happens twice.
    pub async fn query(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let started = Instant::now();
        let mut client = self.client.lock().await;
        loop {
            match attempt(&self.url, &mut client, statement, parameters).await {
                Ok(rows) => return rows,
                Err(error) if started.elapsed() > PATIENCE => panic!("{statement}: {error}"),
                Err(_) => *client = None,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn attempt(
    url: &str,
    client: &mut Option<Client>,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let client = match client {
        Some(client) => client,
        None => {
            let (fresh, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            client.insert(fresh)
        }
    };
    client.query(statement, parameters).await
}
