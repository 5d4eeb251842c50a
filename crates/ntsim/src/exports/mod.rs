//! What the simulated kernel exports: one file per family of functions.
//!
//! Each file has one table (see [`exports!`]) that names its functions and the IRQLs at which they may be called.
//! Linked drivers find the functions by their symbols, loaded images by [`find`].
#![allow(
    non_snake_case,
    reason = "functions and parameters are named as Windows names them"
)]

use crate::verifier::Function;

/// An exported function.
pub struct Export {
    /// What is known of it.
    pub function: &'static Function,
    /// Where it is. Its convention is `extern "efiapi"`: on x86-64 that of Windows.
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
macro_rules! exports {
    ($module:literal; $($name:ident : $low:ident ..= $high:ident),* $(,)?) => {
        $( const _: ndis_sys::imports::sig::$name = $name; )*
        $crate::exports::exports_unchecked! { $module; $($name : $low ..= $high),* }
    };
}

/// As [`exports!`] for functions whose signature cannot be stated in Rust.
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

pub(crate) use {exports, exports_unchecked};

pub mod dbg;
pub(crate) mod dma;
mod dma_buffer;
mod dma_wait;
pub(crate) use dma_wait::lists_wait;
mod etw;
pub(crate) mod ex;
pub(crate) mod io;
pub(crate) mod ke;
pub(crate) mod lookaside;
pub(crate) mod mm;
pub(crate) mod ndis_data;
pub(crate) mod ndis_device;
pub(crate) mod ndis_driver;
pub(crate) mod ndis_event;
pub(crate) mod ndis_misc;
pub(crate) mod netio;
pub(crate) mod ob;
pub(crate) mod registry;
pub(crate) mod resource;
pub(crate) mod rtl;
pub(crate) mod wdfldr;
pub(crate) mod wsk;

/// Every table.
#[used]
pub static TABLES: &[&[Export]] = &[
    dbg::EXPORTS,
    dma::EXPORTS,
    etw::EXPORTS,
    ex::EXPORTS,
    io::EXPORTS,
    ke::dpc::EXPORTS,
    ke::processor::EXPORTS,
    ke::queued::EXPORTS,
    ke::spin::EXPORTS,
    ke::time::EXPORTS,
    ke::timer::EXPORTS,
    ke::wait::EXPORTS,
    ke::wait_many::EXPORTS,
    lookaside::EXPORTS,
    mm::EXPORTS,
    ndis_data::EXPORTS,
    ndis_device::EXPORTS,
    ndis_driver::EXPORTS,
    ndis_event::EXPORTS,
    ndis_misc::EXPORTS,
    ndis_misc::variadic::EXPORTS,
    netio::EXPORTS,
    ob::EXPORTS,
    registry::EXPORTS,
    resource::EXPORTS,
    rtl::EXPORTS,
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
