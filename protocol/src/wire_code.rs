//! Numbers with names: the form every enumeration takes on the wire.
//!
//! Invariant: a number nobody has assigned decodes, compares and travels on unchanged.

/// Defines a newtype over an integer with named constants, open for unknown values.
macro_rules! wire_code {
    ($(#[$doc:meta])* $name:ident($raw:ty) { $($(#[$constant_doc:meta])* $constant:ident = $value:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name($raw);

        impl $name {
            $($(#[$constant_doc])* pub const $constant: Self = Self($value);)+

            /// Wraps a raw value, assigned or not.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw value.
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The name of an assigned value.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($constant)),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }
    };
}

pub(crate) use wire_code;
