//! What `wdk-sys` would have been made from the WDK's headers, from Microsoft's metadata of the same headers instead (`windows-sys`): no
//! prototype is written here, and no layout but the packing of four structures.
//!
//! It differs from the real one where nobody who uses it may look: fields of unnamed unions have other names, enumerations are not
//! modules, functions have `extern "system"` instead of `extern "C"`, and what the headers have inline may be a function.
#![no_std]
#![allow(
    ambiguous_glob_reexports,
    non_camel_case_types,
    non_snake_case,
    reason = "the names of the headers, all in one place as in the real one"
)]

pub use windows_sys::Wdk::Foundation::*;
pub use windows_sys::Wdk::System::SystemServices::*;
pub use windows_sys::Win32::Foundation::*;
pub use windows_sys::Win32::System::Kernel::*;
pub use windows_sys::Win32::System::SystemInformation::GROUP_AFFINITY;

pub type CHAR = core::ffi::c_char;
pub type SIZE_T = usize;
pub type ULONG = core::ffi::c_ulong;

/// wdm.h; the metadata do not have it.
pub const POOL_FLAG_NON_PAGED: u64 = 0x40;

/// Lists of resources are packed in the headers (pshpack4.h), which the metadata do not say; their fields are the metadata's.
macro_rules! packed {
    ($(struct $name:ident { $($field:ident: $ty:ty,)* })*) => { $(
        #[repr(C, packed(4))]
        #[derive(Clone, Copy)]
        pub struct $name {
            $(pub $field: $ty,)*
        }
    )* };
}

packed! {
    struct CM_RESOURCE_LIST {
        Count: u32,
        List: [CM_FULL_RESOURCE_DESCRIPTOR; 1],
    }
    struct CM_FULL_RESOURCE_DESCRIPTOR {
        InterfaceType: INTERFACE_TYPE,
        BusNumber: u32,
        PartialResourceList: CM_PARTIAL_RESOURCE_LIST,
    }
    struct CM_PARTIAL_RESOURCE_LIST {
        Version: u16,
        Revision: u16,
        Count: u32,
        PartialDescriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR; 1],
    }
    struct CM_PARTIAL_RESOURCE_DESCRIPTOR {
        Type: u8,
        ShareDisposition: u8,
        Flags: u16,
        u: CM_PARTIAL_RESOURCE_DESCRIPTOR_0,
    }
}

/// As the real one, which is written in Rust.
#[must_use]
pub const fn NT_SUCCESS(status: NTSTATUS) -> bool {
    status >= 0
}

/// As the real one.
#[macro_export]
macro_rules! PAGED_CODE {
    () => {
        debug_assert!(unsafe { $crate::ntddk::KeGetCurrentIrql() <= $crate::APC_LEVEL as u8 });
    };
}

/// The functions of ntddk.h.
pub mod ntddk {
    pub use windows_sys::Wdk::System::SystemServices::*;
}
