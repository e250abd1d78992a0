//! Enums with stable values on the wire.

/// Declares an enum whose variants have stable values on the wire, with a list of all variants and their documentation
/// as text.
macro_rules! wire_enum {
    ($(#[$outer:meta])* $name:ident: $repr:ty { $($(#[doc = $doc:literal])+ $variant:ident = $value:expr,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All variants, in the order of the documented table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value on the wire.
            pub const fn value(self) -> $repr {
                match self { $(Self::$variant => $value,)+ }
            }

            /// The meaning, for people: the text of the documented table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}
