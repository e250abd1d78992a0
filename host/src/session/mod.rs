//! One connection. [`wire`] alone touches the socket, whose reading is bounded by a [`read_budget`]; [`auth_state`] is
//! pure; [`connection`] deals with whatever comes next; `authenticating`, `requests`, `entering` and `joining` carry
//! out what a client asks for, in the `conversation`s that it has joined. What all connections have in common is
//! [`shared`].

pub mod auth_state;
mod authenticating;
pub mod connection;
mod conversation;
pub(crate) mod entering;
mod joining;
pub mod read_budget;
mod requests;
pub mod shared;
pub mod wire;
