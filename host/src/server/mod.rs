//! A gateway as a process: what it talks to ([`services`]), where it listens ([`listeners`]), how a connection becomes
//! a socket ([`handshake`], `handshake_slots`), how long it may take to read an answer (`patient_stream`), what runs
//! beside the sockets (`background`), who waits for the schema (`schema`), how many sockets there is room for
//! ([`open_files`]), and its life from start to drain ([`lifecycle`]).

mod background;
pub mod handshake;
mod handshake_slots;
mod keys;
pub mod lifecycle;
pub mod listeners;
mod metrics;
pub mod open_files;
mod patient_stream;
mod plugin_values;
mod schema;
pub mod services;

pub use lifecycle::{ESSENTIAL, serve};
pub use listeners::{Listeners, listen};
pub use services::Services;
