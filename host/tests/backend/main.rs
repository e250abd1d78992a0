//! What other backends do with the database: messages in their own transactions, histories that they bring along, and
//! the tables of the system before this one.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod adoption;
mod blocks;
mod governance;
mod import;
mod retention;
mod send;
mod send_beside_others;
#[path = "../support/mod.rs"]
mod support;

/// The SQLSTATE of a refusal that tells what to do.
fn state(error: &tokio_postgres::Error) -> &str {
    let refused = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    assert!(refused.hint().is_some_and(|hint| !hint.is_empty()), "{refused:?}");
    refused.code().code()
}
