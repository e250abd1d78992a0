//! Keys of services that use the HTTP API.

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};

/// A key that is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: Uuid,
    /// What whoever made it calls it.
    pub name: String,
    /// The digest of its secret, which nobody has kept.
    pub secret_sha256: Vec<u8>,
    /// What it is for.
    pub scopes: Vec<String>,
    /// The user that it acts for; none: whomever a request names.
    pub sender: Option<Uuid>,
    /// Requests a second.
    pub rate: i32,
}

/// A key as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedKey {
    pub id: Uuid,
    pub name: String,
    pub scopes: Vec<String>,
    pub sender_id: Option<Uuid>,
    pub rate: i32,
    /// In UTC, as RFC 3339 text.
    pub created_at: String,
    /// None while it is good.
    pub revoked_at: Option<String>,
}

impl Store {
    /// The key with this id; none if there is none or it is revoked.
    pub async fn api_key(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        let rows = self.query(sql::API_KEY, &[(&id, Type::UUID)]).await?;
        let key = |row: &Row| {
            Ok(ApiKey {
                id,
                name: row.try_get(0)?,
                secret_sha256: row.try_get(1)?,
                scopes: row.try_get(2)?,
                sender: row.try_get(3)?,
                rate: row.try_get(4)?,
            })
        };
        rows.first().map(key).transpose()
    }

    /// Keeps a new key.
    pub async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let ApiKey { id, name, secret_sha256, scopes, sender, rate } = key;
        let parameters: [Param<'_>; 6] = [
            (id, Type::UUID),
            (name, Type::TEXT),
            (secret_sha256, Type::BYTEA),
            (scopes, Type::TEXT_ARRAY),
            (sender, Type::UUID),
            (rate, Type::INT4),
        ];
        self.query(sql::API_KEY_INSERT, &parameters).await.map(|_| ())
    }

    /// Every key, also the revoked ones, the newest first.
    pub async fn api_keys(&self) -> Result<Vec<ListedKey>, StoreError> {
        let rows = self.query(sql::API_KEYS, &[]).await?;
        let key = |row: &Row| {
            Ok(ListedKey {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                scopes: row.try_get(2)?,
                sender_id: row.try_get(3)?,
                rate: row.try_get(4)?,
                created_at: row.try_get(5)?,
                revoked_at: row.try_get(6)?,
            })
        };
        rows.iter().map(key).collect()
    }

    /// Revokes a key for good. Whether there was one that was not revoked yet.
    pub async fn revoke_api_key(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(!self.query(sql::API_KEY_REVOKE, &[(&id, Type::UUID)]).await?.is_empty())
    }
}
