//! How structures, constants and imports are written in this crate.

/// Defines C structures and unions: `OFFSET name: type` for each field, the total size in parentheses.
///
/// Each gets `#[repr(C)]`, `Clone`, `Copy`, a value [`ZEROED`](crate::wdm::MDL::ZEROED) and `Default` (the same), and assertions
/// on its size and on the offset of each field. That all-zero is a valid value is proved by the compiler: evaluating `ZEROED` at
/// compile time fails for a type with a non-null field.
///
/// A field called `Anonymous` (or `Anonymous1`, ...) stands for an unnamed union or structure in C.
macro_rules! layouts {
    ($(
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
                $(
                    $(#[$field_meta])*
                    #[allow(missing_docs, reason = "a field means what its C name says, unless there is a comment")]
                    pub $field: $ty,
                )*
            }

            impl $name {
                /// All bytes zero, as a driver starts filling one in.
                // SAFETY: all-zero is valid for integers, raw pointers and `Option` of function pointers; a field of another kind
                // makes the evaluation below a compile error.
                pub const ZEROED: Self = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::ZEROED
                }
            }

            const _: () = {
                let _ = $name::ZEROED;
                assert!(size_of::<$name>() == $size);
                $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
            };
        )*

        #[cfg(test)]
        pub(crate) const LAYOUTS: &[crate::facts::Layout] = &[$(
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

/// Defines constants in groups: the comment of a group becomes the comment of each of its constants.
macro_rules! constants {
    ($(
        $(#[$meta:meta])*
        $ty:ty {
            $( $name:ident = $value:expr; )*
        }
    )*) => {
        constants!(@define $( [ $(#[$meta])* ] $ty { $( $name = $value; )* } )*);

        #[cfg(test)]
        pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$( $(
            crate::facts::Constant { name: stringify!($name), value: $name as i128, bits: <$ty>::BITS },
        )* )*];
    };
    (@define $( $meta:tt $ty:ty { $( $name:ident = $value:expr; )* } )*) => {
        $( $( constants!(@one $meta $name: $ty = $value); )* )*
    };
    (@one [ $(#[$meta:meta])* ] $name:ident: $ty:ty = $value:expr) => {
        $(#[$meta])*
        pub const $name: $ty = $value;
    };
}

/// Declares functions a kernel module exports.
///
/// On Windows the module's name becomes the import; elsewhere the functions are resolved by the linker against a crate that defines
/// them (the simulator), in the Windows convention: what it defines for a linked driver serves the driver's image too. `sig` gets a type alias per function, so that such a definition can be checked against its declaration:
/// `const _: sig::KeInitializeDpc = KeInitializeDpc;`.
macro_rules! imports {
    ($module:literal {
        $( $(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?; )*
    }
    variadic {
        $( $(#[$vmeta:meta])* fn $vname:ident($($varg:ident: $vty:ty),+, ...) $(-> $vret:ty)?; )*
    }) => {
        // raw-dylib does not know "efiapi"; on Windows "system" is the same convention.
        #[cfg(target_os = "windows")]
        imports!(@declare "system" "C" #[link(name = $module, kind = "raw-dylib", modifiers = "+verbatim")]
            { $( $(#[$meta])* fn $name($($arg: $ty),*) $(-> $ret)?; )* }
            { $( $(#[$vmeta])* fn $vname($($varg: $vty),+, ...) $(-> $vret)?; )* });
        #[cfg(not(target_os = "windows"))]
        imports!(@declare "efiapi" "efiapi" #[cfg(not(target_os = "windows"))]
            { $( $(#[$meta])* fn $name($($arg: $ty),*) $(-> $ret)?; )* }
            { $( $(#[$vmeta])* fn $vname($($varg: $vty),+, ...) $(-> $vret)?; )* });

        #[cfg(test)]
        pub(crate) const IMPORTS: &[crate::facts::Prototype] = &[
            $( crate::facts::Prototype {
                module: $module,
                name: stringify!($name),
                parameters: &[$( (stringify!($arg), size_of::<$ty>()) ),*],
                variadic: false,
                result: 0 $( + <fn() -> $ret as crate::facts::Returns>::SIZE )?,
            }, )*
            $( crate::facts::Prototype {
                module: $module,
                name: stringify!($vname),
                parameters: &[$( (stringify!($varg), size_of::<$vty>()) ),+],
                variadic: true,
                result: 0 $( + <fn() -> $vret as crate::facts::Returns>::SIZE )?,
            }, )*
        ];
    };
    (@declare $abi:literal $vabi:literal #[$link:meta]
        { $( $(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?; )* }
        { $( $(#[$vmeta:meta])* fn $vname:ident($($varg:ident: $vty:ty),+, ...) $(-> $vret:ty)?; )* }
    ) => {
        #[$link]
        unsafe extern $abi {
            $( $(#[$meta])* pub fn $name($($arg: $ty),*) $(-> $ret)?; )*
        }

        #[$link]
        unsafe extern $vabi {
            $( $(#[$vmeta])* pub fn $vname($($varg: $vty),+, ...) $(-> $vret)?; )*
        }

        /// The types of this module's functions.
        #[allow(missing_docs, reason = "each has the name of a documented function")]
        pub mod sig {
            #[allow(unused_imports, reason = "a module of few functions needs few types")]
            use super::*;
            $( pub type $name = unsafe extern $abi fn($($arg: $ty),*) $(-> $ret)?; )*
            $( pub type $vname = unsafe extern $vabi fn($($varg: $vty),+, ...) $(-> $vret)?; )*
        }
    };
}
