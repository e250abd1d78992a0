//! What is measured, told from the start: each metric has its help text, and each series that can be known is there
//! with a zero, so that a rate over it misses no first event.

use std::time::Duration;

use arcyou_protocol::{CloseCode, ErrorCode};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::auth;
use crate::bounds::refusals::{AUTH_REFUSALS, Bound};
use crate::ingress::{CHANGE_OPS, CHANGE_REFUSALS, OUTCOMES, REFUSALS};
use crate::session::entering::JOIN_REFUSALS;
use crate::store::{SchemaGate, Store, StoreError};

/// Between looks at what waits for review.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Describes all that this crate measures, the fan-out and the users' limits apart, and begins every series.
pub(super) fn begin() {
    describe();
    auth::remote::describe();
    sockets();
    sends();
    gauge!("arcyou_build_info", "version" => env!("CARGO_PKG_VERSION"), "os" => std::env::consts::OS, "arch" => std::env::consts::ARCH)
        .set(1.0);
    for name in ["arcyou_audit_lost_total", "arcyou_refused_origins_total", "arcyou_connections_total"] {
        counter!(name).absolute(0);
    }
    for name in [
        "arcyou_connections",
        "arcyou_held_messages",
        "arcyou_held_oldest_seconds",
        "arcyou_relay_lag_seconds",
        "arcyou_commit_rate_limit",
        "arcyou_database_pool_connections",
        "arcyou_database_pool_waiting",
    ] {
        gauge!(name).increment(0.0);
    }
}

fn sockets() {
    for code in CloseCode::ALL {
        counter!("arcyou_closed_total", "code" => code.value().to_string()).absolute(0);
    }
    for bound in Bound::ALL {
        counter!("arcyou_refused_connections_total", "bound" => bound.name()).absolute(0);
    }
    for code in AUTH_REFUSALS {
        counter!("arcyou_auth_refused_total", "code" => code.value()).absolute(0);
    }
    let joined = ["joined"].into_iter().chain(JOIN_REFUSALS.iter().map(|code: &ErrorCode| code.value()));
    for outcome in joined {
        counter!("arcyou_joins_total", "outcome" => outcome).absolute(0);
    }
}

fn sends() {
    for outcome in OUTCOMES.iter().copied().chain(REFUSALS.iter().map(|code| code.value())) {
        counter!("arcyou_sends_total", "outcome" => outcome).absolute(0);
    }
    for op in CHANGE_OPS {
        let refusals = REFUSALS.iter().chain(CHANGE_REFUSALS).map(|code| code.value());
        for outcome in OUTCOMES.iter().copied().chain(refusals) {
            counter!("arcyou_changes_total", "op" => op.value(), "outcome" => outcome).absolute(0);
        }
    }
    for kind in StoreError::KINDS {
        counter!("arcyou_commit_failures_total", "kind" => *kind).absolute(0);
    }
    let _ = (histogram!("arcyou_ack_seconds"), histogram!("arcyou_commit_seconds"), histogram!("arcyou_commit_size"));
}

fn describe() {
    describe_gauge!("arcyou_build_info", "Always 1: the version of this program, and what it was built for");
    describe_gauge!("arcyou_part_up", "1 if the part works, by part");
    describe_gauge!("arcyou_connections", "Open sockets");
    describe_gauge!("arcyou_tokens_verified", "0 if JWT_PUBLIC_KEY is dev-placeholder and everybody is believed");
    describe_counter!("arcyou_connections_total", "Sockets since the start");
    describe_counter!("arcyou_closed_total", "Sockets that the gateway closed, by close code");
    describe_counter!(
        "arcyou_refused_connections_total",
        "Connections, sockets and keys that were refused or cut, by bound"
    );
    describe_counter!("arcyou_refused_origins_total", "Handshakes of web pages that are not in ALLOWED_ORIGINS");
    describe_counter!("arcyou_auth_refused_total", "Refused auth requests, by failure code");
    describe_counter!("arcyou_joins_total", "Joins by outcome: joined, or the code of the refusal");
    describe_counter!(
        "arcyou_sends_total",
        "Sends by outcome: stored, held, discarded, duplicate, or the code of the refusal"
    );
    describe_counter!(
        "arcyou_changes_total",
        "Edits, deletions and reactions by op and outcome: stored, held, discarded, duplicate, or the code of the refusal"
    );
    describe_counter!(
        "arcyou_audit_lost_total",
        "Refused messages without a row in plugin_audit, for lack of room or database"
    );
    describe_gauge!("arcyou_held_messages", "Messages that wait for a reviewer; the same on every gateway");
    describe_gauge!("arcyou_held_oldest_seconds", "How long the oldest of them has waited; 0 if there is none");
    describe_histogram!("arcyou_ack_seconds", "From a send's frame to its answer");
    describe_histogram!("arcyou_commit_seconds", "Time of one transaction for a batch");
    describe_histogram!("arcyou_commit_size", "Messages in one transaction");
    describe_gauge!("arcyou_relay_lag_seconds", "Age of the oldest row of the outbox that no worker has relayed");
    describe_gauge!(
        "arcyou_commit_rate_limit",
        "Messages a second that may be stored, so that the relay keeps up; 0: any"
    );
    describe_counter!("arcyou_commit_failures_total", "Transactions that failed, by kind; most are tried again");
    describe_gauge!("arcyou_database_pool_connections", "Open connections to PostgreSQL");
    describe_gauge!("arcyou_database_pool_waiting", "Tasks that wait for a connection to PostgreSQL");
}

/// Keeps the gauges of what waits for review fresh. Never ends.
pub(super) async fn watch_held(store: Store, gate: SchemaGate) {
    gate.opened().await;
    loop {
        // While the database is away the gauges keep their values; `arcyou_part_up` shows why.
        if let Ok(waiting) = store.waiting_for_review().await {
            gauge!("arcyou_held_messages").set(waiting.count as f64);
            gauge!("arcyou_held_oldest_seconds").set(waiting.oldest.as_secs_f64());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
