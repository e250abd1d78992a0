//! The pool of connections.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

use super::url::DatabaseUrl;
use crate::tls::{self, NoTrustedRoots};

/// The longest that a caller waits for a free connection.
const POOL_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a caller then waits for a new connection to be opened, over all addresses.
const POOL_CREATE_TIMEOUT: Duration = Duration::from_secs(8);

/// A pool could not be created.
#[derive(Debug, thiserror::Error)]
pub enum PoolSetupError {
    /// The URL asks for verification, and this machine has no trusted certificates.
    #[error(transparent)]
    Roots(#[from] NoTrustedRoots),
    /// The settings of the pool contradict each other.
    #[error("{0}")]
    Build(#[from] deadpool_postgres::BuildError),
}

/// A pool of at most `size` connections, each opened when it is first needed. Waiting for one is bounded by time-outs.
pub fn pool(url: &DatabaseUrl, size: usize) -> Result<Pool, PoolSetupError> {
    let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let config = url.config.clone();
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, settings),
        _ => Manager::from_config(config, tls::connector(&url.verification)?, settings),
    };
    let builder = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1);
    Ok(builder
        .wait_timeout(Some(POOL_WAIT_TIMEOUT))
        .create_timeout(Some(POOL_CREATE_TIMEOUT))
        .recycle_timeout(Some(POOL_WAIT_TIMEOUT))
        .build()?)
}
