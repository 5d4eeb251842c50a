//! Scalar types.

pub use core::ffi::c_void;

/// Result of an NT function. Negative: failure (error 0xC..., warning 0x8...).
pub type NTSTATUS = i32;
/// Result of an NDIS function: the same numbers as [`NTSTATUS`], plus NDIS's own.
pub type NDIS_STATUS = i32;
/// Opaque handle given out by NDIS, or a context of the driver.
pub type NDIS_HANDLE = *mut c_void;
/// Handle to an object of the kernel's handle table.
pub type HANDLE = *mut c_void;
/// Interrupt request level, 0 to 15 on x64.
pub type KIRQL = u8;
/// Zero or one.
pub type BOOLEAN = u8;
/// A spin lock's word. Zero: free.
pub type KSPIN_LOCK = usize;
/// A set of processors within one group, one bit each.
pub type KAFFINITY = usize;
/// Priority boost given to a thread that an event wakes.
pub type KPRIORITY = i32;
/// KernelMode or UserMode.
pub type KPROCESSOR_MODE = i8;
/// A 64-bit signed value: in C a union, passed and returned as one 64-bit integer.
pub type LARGE_INTEGER = i64;
/// A physical address.
pub type PHYSICAL_ADDRESS = LARGE_INTEGER;
/// A physical address.
pub type NDIS_PHYSICAL_ADDRESS = PHYSICAL_ADDRESS;
/// Object identifier of an OID request.
pub type NDIS_OID = u32;
/// Port of a miniport adapter.
pub type NDIS_PORT_NUMBER = u32;
/// Interface index, as in the IP helper functions.
pub type NET_IFINDEX = u32;
/// Interface type: an `ifType` number of IANA.
pub type NET_IFTYPE = u16;
/// A UTF-16 string's unit.
pub type WCHAR = u16;
/// Compartment of the network stack; 1 is the default one.
pub type NET_IF_COMPARTMENT_ID = u32;
/// NIC switch of an adapter.
pub type NDIS_NIC_SWITCH_ID = u32;
/// Port of a NIC switch.
pub type NDIS_NIC_SWITCH_VPORT_ID = u32;

constants! {
    /// Booleans.
    BOOLEAN {
        TRUE = 1;
        FALSE = 0;
    }
    /// Largest unsigned long.
    u32 {
        MAXULONG = 0xffff_ffff;
    }
    /// Interrupt request levels of x64.
    KIRQL {
        PASSIVE_LEVEL = 0;
        LOW_LEVEL = 0;
        APC_LEVEL = 1;
        DISPATCH_LEVEL = 2;
        CMCI_LEVEL = 5;
        CLOCK_LEVEL = 0xd;
        IPI_LEVEL = 0xe;
        DRS_LEVEL = 0xe;
        POWER_LEVEL = 0xe;
        PROFILE_LEVEL = 0xf;
        HIGH_LEVEL = 0xf;
    }
    /// Size of a page, bytes.
    usize {
        PAGE_SIZE = 0x1000;
    }
    /// Binary logarithm of the size of a page.
    u32 {
        PAGE_SHIFT = 0xc;
    }
    /// Processor mode of a request.
    KPROCESSOR_MODE {
        KernelMode = 0;
        UserMode = 1;
        MaximumMode = 2;
    }
}
