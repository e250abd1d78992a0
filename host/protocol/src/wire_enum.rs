//! Enums with a stable spelling on the wire.

/// Declares an enum whose variants each have a stable spelling on the wire, and the list of all of them.
macro_rules! wire_enum {
    ($(#[$outer:meta])* $name:ident: $repr:ty { $($(#[doc = $doc:literal])+ $variant:ident = $value:expr,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every one there is, in the order of the documented table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What stands on the wire.
            pub const fn value(self) -> $repr {
                match self { $(Self::$variant => $value,)+ }
            }

            /// What it means, for people: the text of the documented table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}
