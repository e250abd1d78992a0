//! One connection: [`state`] is pure, [`socket`] is the only file that touches a socket, `operations` and `joining` carry
//! out what a client asks for, and [`outbound`] is the queue of what it is told. [`allowance`] bounds what a message may
//! cost before it is one.

pub mod allowance;
mod joining;
mod operations;
pub mod outbound;
pub mod socket;
pub mod state;
