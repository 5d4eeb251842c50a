//! Lookaside lists and resources of the executive.

use super::string::LIST_ENTRY;
use crate::types::*;

/// Kind of pool, as functions older than `POOL_FLAGS` name it.
pub type POOL_TYPE = i32;

callbacks! {
    /// Allocates an entry of a lookaside list in a way of the driver's own. IRQL: that of the caller.
    fn ALLOCATE_FUNCTION_EX(
        PoolType: POOL_TYPE,
        NumberOfBytes: usize,
        Tag: u32,
        Lookaside: *mut LOOKASIDE_LIST_EX,
    ) -> *mut c_void;

    /// Frees what `ALLOCATE_FUNCTION_EX` allocated. IRQL: that of the caller.
    fn FREE_FUNCTION_EX(Buffer: *mut c_void, Lookaside: *mut LOOKASIDE_LIST_EX);
}

layouts! {
    /// A list of blocks of one size. Opaque to drivers. It begins with an `SLIST_HEADER`, which x64 exchanges as 16 bytes at once.
    #[repr(align(16))]
    pub struct LOOKASIDE_LIST_EX(96) {
        0x00 L: [usize; 12],
    }

    /// A lock that has one owner or is shared by several. Opaque to drivers.
    pub struct ERESOURCE(104) {
        0x00 SystemResourcesList: LIST_ENTRY,
        0x10 OwnerTable: *mut c_void,
        0x18 ActiveCount: i16,
        0x1a Flag: u16,
        0x20 SharedWaiters: *mut c_void,
        0x28 ExclusiveWaiters: *mut c_void,
        0x30 OwnerEntry: [usize; 2],
        0x40 ActiveEntries: u32,
        0x44 ContentionCount: u32,
        0x48 NumberOfSharedWaiters: u32,
        0x4c NumberOfExclusiveWaiters: u32,
        0x50 Reserved2: *mut c_void,
        0x58 Address: *mut c_void,
        0x60 SpinLock: KSPIN_LOCK,
    }
}
