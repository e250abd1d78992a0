//! The gateway: see `main.rs` for its command line.
