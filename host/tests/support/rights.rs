//! Login roles with the least rights, as an operator makes them.

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Upstream};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{World, blocking, connect};

/// A role that can log in.
pub struct Login {
    pub name: String,
    url: String,
}

impl World {
    /// Gives the group roles their rights on this test's database.
    pub async fn grant_rights(&self) {
        self.sql.batch_execute(include_str!("../../../migrations/roles.sql")).await.unwrap();
    }

    /// A login role of its own with the rights of `group`, or with none at all.
    pub async fn login(&self, group: Option<&str>) -> Login {
        let name = format!("{}_{}", group.unwrap_or("nobody"), Uuid::new_v4().simple());
        let member = group.map(|group| format!("IN ROLE {group}")).unwrap_or_default();
        self.sql.batch_execute(&format!("CREATE ROLE {name} LOGIN {member}")).await.unwrap();
        let url = format!("postgres://{name}@127.0.0.1:{}/{}", self.servers.postgres.port(), self.database);
        Login { name, url }
    }

    /// A PgBouncer that logs in as this role.
    pub async fn bouncer_for(&self, login: &Login) -> PgBouncer {
        let upstream = Upstream { user: login.name.clone(), ..Upstream::from(&self.servers.postgres) };
        blocking(move || PgBouncer::start(upstream, PgBouncerOptions::default())).await.unwrap()
    }
}

impl Login {
    /// Around PgBouncer.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }
}
