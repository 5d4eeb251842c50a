//! NDIS's own timers, events, work items, locks.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::KEVENT;

callbacks! {
    /// Routine of a timer object. IRQL: DISPATCH_LEVEL.
    fn NDIS_TIMER_FUNCTION(
        SystemSpecific1: *mut c_void,
        FunctionContext: *mut c_void,
        SystemSpecific2: *mut c_void,
        SystemSpecific3: *mut c_void,
    );

    /// Routine of a work item. IRQL: PASSIVE_LEVEL.
    fn NDIS_IO_WORKITEM_FUNCTION(WorkItemContext: *mut c_void, NdisIoWorkItemHandle: NDIS_HANDLE);
}

layouts! {
    /// A timer to be allocated with `NdisAllocateTimerObject`.
    pub struct NDIS_TIMER_CHARACTERISTICS(24) {
        /// `NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 AllocationTag: u32,
        0x08 TimerFunction: Option<NDIS_TIMER_FUNCTION>,
        0x10 FunctionContext: *mut c_void,
    }

    /// An event.
    pub struct NDIS_EVENT(24) {
        0x00 Event: KEVENT,
    }

    /// A spin lock together with the IRQL to return to.
    pub struct NDIS_SPIN_LOCK(16) {
        0x00 SpinLock: KSPIN_LOCK,
        0x08 OldIrql: KIRQL,
    }
}

constants! {
    /// Revision of the timer characteristics.
    u8 {
        NDIS_TIMER_CHARACTERISTICS_REVISION_1 = 1;
    }
    /// Size of the timer characteristics, for their header.
    u16 {
        NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1 = 0x18;
    }
}
