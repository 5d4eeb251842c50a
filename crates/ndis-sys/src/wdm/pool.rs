//! Pool memory.

/// Flags of `ExAllocatePool2`.
pub type POOL_FLAGS = u64;
/// How urgently memory is wanted.
pub type EX_POOL_PRIORITY = i32;

constants! {
    /// Flags of `ExAllocatePool2`. Memory is zeroed unless `POOL_FLAG_UNINITIALIZED` is given.
    POOL_FLAGS {
        POOL_FLAG_CACHE_ALIGNED = 8;
        POOL_FLAG_LAST_KNOWN_REQUIRED = 0x400;
        POOL_FLAG_NON_PAGED = 0x40;
        POOL_FLAG_NON_PAGED_EXECUTE = 0x80;
        POOL_FLAG_OPTIONAL_END = 0x8000000000000000;
        POOL_FLAG_OPTIONAL_START = 0x100000000;
        POOL_FLAG_PAGED = 0x100;
        POOL_FLAG_RAISE_ON_FAILURE = 0x20;
        POOL_FLAG_REQUIRED_END = 0x80000000;
        POOL_FLAG_REQUIRED_MASK = 0xffffffff;
        POOL_FLAG_REQUIRED_START = 1;
        POOL_FLAG_RESERVED1 = 0x10;
        POOL_FLAG_RESERVED2 = 0x200;
        POOL_FLAG_RESERVED3 = 0x400;
        POOL_FLAG_SESSION = 4;
        POOL_FLAG_SPECIAL_POOL = 0x100000000;
        POOL_FLAG_UNINITIALIZED = 2;
        POOL_FLAG_UNUSED_REQUIRED_BITS = 0xfffff800;
        POOL_FLAG_USE_QUOTA = 1;
    }
    /// Priority of an allocation.
    EX_POOL_PRIORITY {
        LowPoolPriority = 0;
        NormalPoolPriority = 0x10;
        HighPoolPriority = 0x20;
    }
}
