//! One connection.

pub mod outbound;
