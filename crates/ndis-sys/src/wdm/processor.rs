//! Processors and sets of them.

use crate::types::KAFFINITY;

layouts! {
    /// A set of processors in one group.
    pub struct GROUP_AFFINITY(16) {
        0x00 Mask: KAFFINITY,
        0x08 Group: u16,
        0x0a Reserved: [u16; 3],
    }

    /// A processor: its group and its number within the group.
    #[derive(Debug, PartialEq, Eq)]
    pub struct PROCESSOR_NUMBER(4) {
        0x00 Group: u16,
        0x02 Number: u8,
        0x03 Reserved: u8,
    }
}

constants! {
    /// All groups, where a group number is asked for.
    u16 {
        ALL_PROCESSOR_GROUPS = 0xffff;
    }
    /// Processors in a group at most.
    u32 {
        MAXIMUM_PROC_PER_GROUP = 0x40;
    }
}
