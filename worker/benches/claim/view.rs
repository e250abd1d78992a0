//! What PostgreSQL reports: the cost of a claim, and sizes.

use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::system::System;

/// Claims between sweeps begin above the ids that were claimed this long ago.
const FLOOR_SECONDS: i64 = 5;

pub struct View {
    /// A claim from the beginning, and one of recent rows only.
    pub sweep: Cost,
    pub recent: Cost,
    pub table_mib: f64,
    pub pending_index_mib: f64,
    pub dead_rows: i64,
    pub autovacuums: i64,
}

/// `EXPLAIN (ANALYZE, BUFFERS)` of a claim.
pub struct Cost {
    pub ms: f64,
    /// Pages that were in PostgreSQL's buffers, and pages that were not.
    pub hits: i64,
    pub reads: i64,
}

pub async fn look(system: &System<'_>, rate: i64) -> View {
    let newest: i64 = system.sql.query_one("SELECT coalesce(max(id), 0) FROM outbox", &[]).await.unwrap().get(0);
    let recent = explain(system, (newest - FLOOR_SECONDS * rate).max(0)).await;
    let sweep = explain(system, 0).await;
    let sizes =
        "SELECT pg_relation_size('outbox') / 1048576.0::float8, pg_relation_size('outbox_pending') / 1048576.0::float8,
            n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relname = 'outbox'";
    let row = system.sql.query_one(sizes, &[]).await.unwrap();
    View {
        sweep,
        recent,
        table_mib: row.get(0),
        pending_index_mib: row.get(1),
        dead_rows: row.get(2),
        autovacuums: row.get(3),
    }
}

async fn explain(system: &System<'_>, after: i64) -> Cost {
    // As the worker claims, with its default limits.
    let statements = format!(
        "BEGIN; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
         SELECT id, type, conversation_id, retry_count, age_ms, payload, locked
         FROM claim_outbox({after}, 500, 1048576, 8388608, false); ROLLBACK"
    );
    let answers = system.sql.simple_query(&statements).await.unwrap();
    let plan = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = serde_json::from_str(plan.unwrap()).unwrap();
    let (plan, number) = (&plan[0], |name: &str| plan[0]["Plan"][name].as_i64().unwrap());
    Cost {
        ms: plan["Execution Time"].as_f64().unwrap(),
        hits: number("Shared Hit Blocks"),
        reads: number("Shared Read Blocks"),
    }
}
