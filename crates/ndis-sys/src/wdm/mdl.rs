//! Memory descriptor lists.

use crate::types::*;

/// Cache attribute of a mapping.
pub type MEMORY_CACHING_TYPE = i32;
/// What a lock of pages is for.
pub type LOCK_OPERATION = i32;

layouts! {
    /// Describes a virtually contiguous buffer by its physical pages: an array of page frame numbers (`PFN_NUMBER`, 64 bits) follows
    /// the structure.
    pub struct MDL(48) {
        /// Next buffer of a chain.
        0x00 Next: *mut MDL,
        /// Size of this structure with its page array, bytes.
        0x08 Size: i16,
        /// `MDL_*`.
        0x0a MdlFlags: i16,
        0x10 Process: *mut c_void,
        /// Valid only with `MDL_MAPPED_TO_SYSTEM_VA` or `MDL_SOURCE_IS_NONPAGED_POOL`.
        0x18 MappedSystemVa: *mut c_void,
        /// Page the buffer begins in.
        0x20 StartVa: *mut c_void,
        /// Bytes.
        0x28 ByteCount: u32,
        /// Offset of the buffer's first byte in its first page.
        0x2c ByteOffset: u32,
    }
}

constants! {
    /// Flags of an MDL.
    i16 {
        MDL_ALLOCATED_FIXED_SIZE = 8;
        MDL_ALLOCATED_MUST_SUCCEED = 0x4000;
        MDL_CACHE = 0x1f4;
        MDL_DESCRIBES_AWE = 0x400;
        MDL_FREE_EXTRA_PTES = 0x200;
        MDL_INTERNAL = 0x8000_u16 as i16;
        MDL_IO_PAGE_READ = 0x40;
        MDL_IO_SPACE = 0x800;
        MDL_LOCKED_PAGE_TABLES = 0x100;
        MDL_MAPPED_TO_SYSTEM_VA = 1;
        MDL_MAPPING_CAN_FAIL = 0x2000;
        MDL_NETWORK_HEADER = 0x1000;
        MDL_PAGES_LOCKED = 2;
        MDL_PAGE_CONTENTS_INVARIANT = 0x4000;
        MDL_PARENT_MAPPED_SYSTEM_VA = 0x100;
        MDL_PARTIAL = 0x10;
        MDL_PARTIAL_HAS_BEEN_MAPPED = 0x20;
        MDL_SOURCE_IS_NONPAGED_POOL = 4;
        MDL_WRITE_OPERATION = 0x80;
    }
    /// Cache attributes.
    MEMORY_CACHING_TYPE {
        MmNonCached = 0;
        MmCached = 1;
        MmWriteCombined = 2;
        MmHardwareCoherentCached = 3;
        MmNonCachedUnordered = 4;
        MmUSWCCached = 5;
        MmMaximumCacheType = 6;
        MmNotMapped = -1;
    }
    /// Access that pages are locked for.
    LOCK_OPERATION {
        IoReadAccess = 0;
        IoWriteAccess = 1;
        IoModifyAccess = 2;
    }
    /// Priority of a mapping, and flags that go with it.
    u32 {
        LowPagePriority = 0;
        NormalPagePriority = 0x10;
        HighPagePriority = 0x20;
    }
    /// Kind of a mapping: bits or-ed to its priority.
    u32 {
        MdlMappingNoWrite = 0x8000_0000;
        MdlMappingNoExecute = 0x4000_0000;
    }
    /// Protection of an I/O mapping (`MmMapIoSpaceEx`).
    u32 {
        PAGE_READONLY = 0x02;
        PAGE_READWRITE = 0x04;
        PAGE_NOCACHE = 0x200;
        PAGE_WRITECOMBINE = 0x400;
    }
}
