//! How structures and constants are written in this crate.

/// Defines C structures and unions: `OFFSET name: type` for each field, the total size in parentheses.
///
/// Each gets `#[repr(C)]`, `Clone`, `Copy`, a value `ZEROED` and `Default` (the same), and assertions on its size and on the offset
/// of each field. That all-zero is a valid value is proved by the compiler: evaluating `ZEROED` at compile time fails for a type
/// with a non-null field.
///
/// A field called `Anonymous` stands for an unnamed union in C.
macro_rules! layouts {
    ($(
        $(#[$meta:meta])*
        pub $kind:ident $name:ident($size:literal) {
            $( $(#[$field_meta:meta])* $offset:literal $field:ident: $ty:ty, )*
        }
    )*) => {
        layouts!(@define LAYOUTS $(
            $(#[$meta])*
            pub $kind $name($size) { $( $(#[$field_meta])* $offset $field: $ty, )* }
        )*);

        $(
            impl $name {
                /// All bytes zero, as one starts filling it in.
                // SAFETY: all-zero is valid for integers, raw pointers and `Option` of function pointers; a field of another kind
                // makes the evaluation below a compile error.
                pub const ZEROED: Self = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::ZEROED
                }
            }

            const _: $name = $name::ZEROED;
        )*
    };
    (@define $registry:ident $(
        $(#[$meta:meta])*
        pub $kind:ident $name:ident($size:literal) {
            $( $(#[$field_meta:meta])* $offset:literal $field:ident: $ty:ty, )*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub $kind $name {
                $( $(#[$field_meta])* pub $field: $ty, )*
            }

            const _: () = {
                assert!(size_of::<$name>() == $size);
                $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
            };
        )*

        #[cfg(test)]
        pub(crate) const $registry: &[crate::facts::Layout] = &[$(
            crate::facts::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: &[$(
                    crate::facts::Field {
                        name: stringify!($field),
                        ty: stringify!($ty),
                        offset: core::mem::offset_of!($name, $field),
                        size: size_of::<$ty>(),
                    },
                )*],
            },
        )*];
    };
}

/// Defines tables of functions in the manner of `layouts`, but without a zero value: no slot may be null.
macro_rules! tables {
    ($($tokens:tt)*) => {
        layouts!(@define TABLES $($tokens)*);
    };
}

/// Defines types of pointers to functions: `fn NAME(parameters) -> result;` becomes
/// `pub type NAME = unsafe extern "efiapi" fn(parameters) -> result;`.
macro_rules! callbacks {
    ($( $(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),+ $(,)?) $(-> $ret:ty)?; )*) => {
        $( $(#[$meta])* pub type $name = unsafe extern "efiapi" fn($($arg: $ty),+) $(-> $ret)?; )*

        #[cfg(test)]
        pub(crate) const CALLBACKS: &[crate::facts::Prototype] = &[$(
            crate::facts::Prototype {
                module: "",
                name: stringify!($name),
                parameters: &[$( (stringify!($arg), size_of::<$ty>()) ),+],
                variadic: false,
                result: 0 $( + <fn() -> $ret as crate::facts::Returns>::SIZE )?,
            },
        )*];
    };
}

/// Defines constants in groups: the comment of a group becomes the comment of each of its constants that has none.
macro_rules! constants {
    ($(
        $(#[$meta:meta])*
        $ty:ty {
            $( $(#[$own:meta])* $name:ident = $value:expr; )*
        }
    )*) => {
        constants!(@define $( [ $(#[$meta])* ] $ty { $( [ $(#[$own])* ] $name = $value; )* } )*);

        #[cfg(test)]
        pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$( $(
            crate::facts::Constant { name: stringify!($name), value: $name as i128, bits: <$ty>::BITS },
        )* )*];
    };
    (@define $( $meta:tt $ty:ty { $( $own:tt $name:ident = $value:expr; )* } )*) => {
        $( $( constants!(@one $meta $own $name: $ty = $value); )* )*
    };
    (@one [ $(#[$meta:meta])* ] [ $(#[$own:meta])* ] $name:ident: $ty:ty = $value:expr) => {
        $(#[$meta])*
        ///
        $(#[$own])*
        pub const $name: $ty = $value;
    };
}
