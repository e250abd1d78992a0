//! The wire: what clients may say and what they are told. Pure; no socket, no database, no clock.

pub mod body;
