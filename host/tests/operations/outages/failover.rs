//! The primary dies, its standby takes over, and PgBouncer is pointed there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::talk::through;
use crate::support::{World, blocking, connect, count, eventually};

#[tokio::test]
async fn a_failover_loses_nothing_that_was_acknowledged() {
    let world = World::alone().await;
    let servers = world.servers.clone();
    let standby = blocking(move || servers.postgres.standby().unwrap()).await;
    // Each commit waits for the standby: what is acknowledged is there.
    for change in ["synchronous_standby_names = '*'", "synchronous_commit = remote_apply"] {
        world.sql.batch_execute(&format!("ALTER SYSTEM SET {change}")).await.unwrap();
    }
    world.sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    world.eventually("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1).await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let (servers, standby) = (world.servers.clone(), Arc::new(standby));
    through(&world, gateway.port, async {
        sleep(Duration::from_millis(500)).await;
        let killed = servers.clone();
        blocking(move || killed.postgres.kill()).await;
        let promoted = connect(&standby.url(&world.database)).await;
        promoted.batch_execute("SELECT pg_promote()").await.unwrap();
        let new = standby.clone();
        blocking(move || servers.bouncer.redirect(&*new).unwrap()).await;
        promoted
    })
    .await;
    let left = connect(&standby.url(&world.database)).await;
    eventually(&left, "SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(count(&left, "SELECT sum(retry_count) FROM outbox").await, 0);
}
