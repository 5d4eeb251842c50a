//! Dispatcher objects, DPCs, timers, events, rundown protection.

use super::string::{LIST_ENTRY, SINGLE_LIST_ENTRY};
use crate::types::*;

/// Urgency of a DPC.
pub type KDPC_IMPORTANCE = i32;
/// Whether a timer stays signalled.
pub type TIMER_TYPE = i32;
/// Whether an event stays signalled.
pub type EVENT_TYPE = i32;
/// Why a thread waits; drivers say `Executive`.
pub type KWAIT_REASON = i32;
/// Whether one object of several ends a wait, or all must be signalled.
pub type WAIT_TYPE = i32;

callbacks! {
    /// Routine of a DPC. IRQL: DISPATCH_LEVEL.
    fn KDEFERRED_ROUTINE(
        Dpc: *mut KDPC,
        DeferredContext: *mut c_void,
        SystemArgument1: *mut c_void,
        SystemArgument2: *mut c_void,
    );

    /// First routine of a system thread. IRQL: PASSIVE_LEVEL.
    fn KSTART_ROUTINE(StartContext: *mut c_void);

    /// Routine of a timer of `ExAllocateTimer`. IRQL: DISPATCH_LEVEL.
    fn EXT_CALLBACK(Timer: *mut EX_TIMER, Context: *mut c_void);

    /// Told that a timer is deleted. IRQL: DISPATCH_LEVEL.
    fn EXT_DELETE_CALLBACK(Context: *mut c_void);
}

/// A timer of `ExAllocateTimer`: opaque.
#[repr(C)]
pub struct EX_TIMER {
    _opaque: [u8; 0],
}

/// What `KeWaitForMultipleObjects` keeps of a wait for many objects: opaque.
#[repr(C)]
pub struct KWAIT_BLOCK {
    _opaque: [u8; 0],
}

layouts! {
    /// Head of every object a thread can wait for. The first word has one meaning per kind of object; only the fields common to
    /// all are named here.
    pub struct DISPATCHER_HEADER(24) {
        /// A `KOBJECTS` number.
        0x00 Type: u8,
        0x01 Signalling: u8,
        0x02 Size: u8,
        0x03 Reserved1: u8,
        /// Greater than zero: signalled.
        0x04 SignalState: i32,
        0x08 WaitListHead: LIST_ENTRY,
    }

    /// A deferred procedure call. Opaque to drivers.
    pub struct KDPC(64) {
        0x00 Type: u8,
        0x01 Importance: u8,
        /// Target processor.
        0x02 Number: u16,
        0x08 DpcListEntry: SINGLE_LIST_ENTRY,
        0x10 ProcessorHistory: KAFFINITY,
        0x18 DeferredRoutine: Option<KDEFERRED_ROUTINE>,
        0x20 DeferredContext: *mut c_void,
        0x28 SystemArgument1: *mut c_void,
        0x30 SystemArgument2: *mut c_void,
        /// Not null while the DPC is queued.
        0x38 DpcData: *mut c_void,
    }

    /// A timer. Opaque to drivers.
    pub struct KTIMER(64) {
        0x00 Header: DISPATCHER_HEADER,
        /// Interrupt time, 100 ns.
        0x18 DueTime: u64,
        0x20 TimerListEntry: LIST_ENTRY,
        0x30 Dpc: *mut KDPC,
        0x38 Processor: u16,
        0x3a TimerType: u16,
        /// Milliseconds; zero: one-shot.
        0x3c Period: u32,
    }

    /// An event. Opaque to drivers.
    pub struct KEVENT(24) {
        0x00 Header: DISPATCHER_HEADER,
    }

    /// A semaphore. Opaque to drivers.
    pub struct KSEMAPHORE(32) {
        0x00 Header: DISPATCHER_HEADER,
        0x18 Limit: i32,
    }

    /// Rundown protection: counts users of something until its owner waits for the last.
    pub struct EX_RUNDOWN_REF(8) {
        0x00 Count: usize,
    }

    /// A queued spin lock's place in the queue.
    pub struct KSPIN_LOCK_QUEUE(16) {
        0x00 Next: *mut KSPIN_LOCK_QUEUE,
        0x08 Lock: *mut KSPIN_LOCK,
    }

    /// What a caller of the in-stack queued spin lock functions keeps on its stack.
    pub struct KLOCK_QUEUE_HANDLE(24) {
        0x00 LockQueue: KSPIN_LOCK_QUEUE,
        0x10 OldIrql: KIRQL,
    }

    /// Optional parameters of `ExSetTimer`.
    pub struct EXT_SET_PARAMETERS_V0(16) {
        /// Zero.
        0x00 Version: u32,
        0x04 Reserved: u32,
        /// How late a timer that does not wake the system may be, 100 ns.
        0x08 NoWakeTolerance: i64,
    }

    /// Optional parameters of `ExDeleteTimer`.
    pub struct EXT_DELETE_PARAMETERS(24) {
        0x00 Version: u32,
        0x04 Reserved: u32,
        0x08 DeleteCallback: Option<EXT_DELETE_CALLBACK>,
        0x10 DeleteContext: *mut c_void,
    }

    /// A thread, by the handles of its process and its own.
    pub struct CLIENT_ID(16) {
        0x00 UniqueProcess: HANDLE,
        0x08 UniqueThread: HANDLE,
    }

    /// A mutex for IRQL <= APC_LEVEL.
    pub struct FAST_MUTEX(56) {
        0x00 Count: i32,
        0x08 Owner: *mut c_void,
        0x10 Contention: u32,
        0x18 Event: KEVENT,
        0x30 OldIrql: u32,
    }
}

constants! {
    /// Importance of a DPC: where in the queue it goes, whether the processor is interrupted at once.
    KDPC_IMPORTANCE {
        LowImportance = 0;
        MediumImportance = 1;
        HighImportance = 2;
        MediumHighImportance = 3;
    }
    /// Kind of a timer.
    TIMER_TYPE {
        NotificationTimer = 0;
        SynchronizationTimer = 1;
    }
    /// Kind of an event.
    EVENT_TYPE {
        NotificationEvent = 0;
        SynchronizationEvent = 1;
    }
    /// Reason of a wait.
    KWAIT_REASON {
        Executive = 0;
        UserRequest = 6;
    }
    /// Kind of a wait for several objects.
    WAIT_TYPE {
        WaitAll = 0;
        WaitAny = 1;
    }
    /// Most objects in one wait, with an array of wait blocks and without.
    u32 {
        MAXIMUM_WAIT_OBJECTS = 0x40;
        THREAD_WAIT_OBJECTS = 3;
    }
    /// Priority increment when setting an event.
    KPRIORITY {
        IO_NO_INCREMENT = 0;
        IO_NETWORK_INCREMENT = 2;
    }
    /// Attributes of a timer of `ExAllocateTimer`.
    u32 {
        EX_TIMER_HIGH_RESOLUTION = 4;
        EX_TIMER_NO_WAKE = 8;
        EX_TIMER_NOTIFICATION = 0x80000000;
    }
    /// Rundown protection: the bit that says it has begun, and one user.
    usize {
        EX_RUNDOWN_ACTIVE = 1;
        EX_RUNDOWN_COUNT_INC = 2;
    }
}
