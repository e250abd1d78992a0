//! The wire: what clients may say and what they are told. Pure; no socket, no database, no clock.

pub mod body;
mod client;
#[cfg(test)]
mod client_tests;
mod close;
mod code;
mod server;

pub use client::{ClientFrame, Echo, FrameError, FrameLimits, HistoryFrom, Operation, ResumeFrom, parse};
pub use close::CloseCode;
pub use code::ErrorCode;
pub use server::{Failure, Reply, SendStatus};

/// Declares an enum whose variants each have a stable spelling on the wire, and the list of all of them.
macro_rules! wire_enum {
    ($(#[$outer:meta])* $name:ident: $repr:ty { $($(#[doc = $doc:literal])+ $variant:ident = $value:expr,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every one there is, in the order of the README's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What stands on the wire.
            pub const fn value(self) -> $repr {
                match self { $(Self::$variant => $value,)+ }
            }

            /// What it means, for people: the text of the README's table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}
pub(crate) use wire_enum;
