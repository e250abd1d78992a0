//! A connection that goes back to its pool only when it is clean.

use deadpool_postgres::{Object, Pool, PoolError};
use tokio_postgres::Client;

use super::fault::Fault;

/// A connection taken from a pool. Only [`release`](Self::release) gives it back: dropped, it is closed.
///
/// Use it where a cancelled or failed call may leave a transaction open. Closing the connection makes the server roll
/// that transaction back, and no other caller gets the connection.
#[derive(Debug)]
pub struct Lease {
    client: Option<Object>,
}

impl Lease {
    /// Takes a connection within the time-outs of the pool.
    pub async fn take(pool: &Pool) -> Result<Self, PoolError> {
        Ok(Self { client: Some(pool.get().await?) })
    }

    /// Gives the connection back. No transaction may be open on it.
    pub fn release(mut self) {
        drop(self.client.take());
    }

    /// Gives the connection back after an error, or closes it if it is unusable. If its server cannot serve, the idle
    /// connections of the pool are closed too: new ones may reach another server.
    pub fn release_after(self, fault: Fault) {
        match fault {
            Fault::Lost => drop(self),
            Fault::Unavailable => {
                if let Some(pool) = self.client.as_ref().and_then(Object::pool) {
                    pool.retain(|_, _| false);
                }
            }
            Fault::Transient | Fault::Data | Fault::Other => self.release(),
        }
    }
}

impl std::ops::Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        // Only `release`, which consumes the lease, takes the client away.
        #[allow(clippy::expect_used)]
        self.client.as_ref().expect("a lease holds its client until it is released")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}
