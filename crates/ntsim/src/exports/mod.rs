//! What the simulated kernel exports: one file per family of functions.
//!
//! Each file has one table (see [`exports!`]) that names its functions and the IRQLs at which they may be called.
//! Linked drivers find the functions by their symbols, loaded images by [`find`].

use crate::verifier::Function;

/// An exported function.
pub struct Export {
    /// What is known of it.
    pub function: &'static Function,
    /// Where it is. Its convention is `extern "system"` of the host.
    pub address: *const (),
}

// SAFETY: addresses of functions do not change.
unsafe impl Sync for Export {}

/// Declares the exports of a file: for each function its module and IRQL limits (constants of
/// `crate::world::processor`). Checks each against the signature that `ndis-sys` declares; makes `functions::NAME` for
/// [`cross`](crate::verifier::cross) and the table `EXPORTS`, to be added to [`TABLES`].
///
/// ```ignore
/// exports! {
///     "ntoskrnl.exe";
///     KeSetEvent: PASSIVE..=DISPATCH,
/// }
/// ```
#[allow(unused_macros, reason = "used by the files of this module")]
macro_rules! exports {
    ($module:literal; $($name:ident : $low:ident ..= $high:ident),* $(,)?) => {
        $( const _: ndis_sys::imports::sig::$name = $name; )*
        $crate::exports::exports_unchecked! { $module; $($name : $low ..= $high),* }
    };
}

/// As [`exports!`] for functions whose signature cannot be stated in Rust.
#[allow(unused_macros, reason = "used by the files of this module")]
macro_rules! exports_unchecked {
    ($module:literal; $($name:ident : $low:ident ..= $high:ident),* $(,)?) => {
        /// The functions of this file and their IRQL limits.
        #[allow(non_upper_case_globals, reason = "named as the functions are")]
        pub(crate) mod functions {
            #[allow(unused_imports, reason = "not every table uses every level")]
            use $crate::world::processor::{APC, DEVICE, DISPATCH, HIGH, PASSIVE};
            use $crate::verifier::Function;
            $( pub(crate) static $name: Function =
                Function::export($module, stringify!($name), $low..=$high); )*
        }
        /// The functions of this file and where they are.
        pub(crate) static EXPORTS: &[$crate::exports::Export] = &[
            $( $crate::exports::Export {
                function: &functions::$name,
                address: $name as *const (),
            } ),*
        ];
    };
}

#[allow(unused_imports, reason = "used by the files of this module")]
pub(crate) use {exports, exports_unchecked};

// Functions and parameters have the names of the documentation.
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod ndis_data;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod ndis_device;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod ndis_driver;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod ndis_misc;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod netio;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod wdfldr;
#[allow(non_snake_case, reason = "named as the documentation names them")]
pub(crate) mod wsk;

/// Every table.
#[used]
pub static TABLES: &[&[Export]] = &[
    ndis_data::EXPORTS,
    ndis_device::EXPORTS,
    ndis_driver::EXPORTS,
    ndis_misc::EXPORTS,
    ndis_misc::variadic::EXPORTS,
    netio::EXPORTS,
    wdfldr::EXPORTS,
    wsk::EXPORTS,
];

/// The export of that name. Modules are not told apart: names are unique among them.
#[must_use]
pub fn find(name: &str) -> Option<&'static Export> {
    TABLES
        .iter()
        .flat_map(|table| table.iter())
        .find(|export| export.function.name == name)
}
