//! Functions of the kernel: how many parameters, and the size of each and of the result.
//!
//! Both sides name pointers by types of their own, so there is nothing more that Rust could compare.

use nt::sys;
use wdk_sys::ntddk;

/// Asserts that a call with so many arguments is one for both declarations, with arguments and result of the same sizes. `$agree` is
/// defined for that number of arguments, which have one name for each side.
macro_rules! agree {
    ($agree:ident($($ours:ident $theirs:ident)*)) => {
        const fn $agree<$($ours,)* R, $($theirs,)* S>(
            _: impl FnOnce($($ours),*) -> R + Copy,
            _: impl FnOnce($($theirs),*) -> S + Copy,
        ) -> bool {
            size_of::<R>() == size_of::<S>() $( && size_of::<$ours>() == size_of::<$theirs>() )*
        }
    };
}

agree!(agree0());
agree!(agree1(A X));
agree!(agree2(A X B Y));
agree!(agree3(A X B Y C Z));
agree!(agree4(A X B Y C Z D W));
agree!(agree5(A X B Y C Z D W E V));
agree!(agree6(A X B Y C Z D W E V F U));

macro_rules! same_function {
    ($( $agree:ident $name:ident($($argument:ident)*); )*) => { $(
        const _: () = assert!(
            $agree(
                // SAFETY: nobody calls it.
                |$($argument),*| unsafe { sys::$name($($argument),*) },
                // SAFETY: nobody calls it.
                |$($argument),*| unsafe { ntddk::$name($($argument),*) },
            ),
            concat!("the WDK has another prototype for ", stringify!($name))
        );
    )* };
}

same_function! {
    agree3 DbgPrintEx(a b c);
    agree3 ExAllocatePool2(a b c);
    agree2 ExFreePoolWithTag(a b);
    agree4 IoAllocateDriverObjectExtension(a b c d);
    agree2 IoAllocateErrorLogEntry(a b);
    agree5 IoAllocateMdl(a b c d e);
    agree4 IoBuildPartialMdl(a b c d);
    agree1 IoFreeMdl(a);
    agree2 IoGetDriverObjectExtension(a b);
    agree1 IoWriteErrorLogEntry(a);
    agree1 KeCancelTimer(a);
    agree1 KeClearEvent(a);
    agree3 KeDelayExecutionThread(a b c);
    agree0 KeFlushQueuedDpcs();
    agree1 KeGetCurrentProcessorNumberEx(a);
    agree3 KeInitializeDpc(a b c);
    agree3 KeInitializeEvent(a b c);
    agree2 KeInitializeTimerEx(a b);
    agree3 KeInsertQueueDpc(a b c);
    agree1 KeQueryInterruptTimePrecise(a);
    agree1 KeQuerySystemTimePrecise(a);
    agree0 KeQueryTimeIncrement();
    agree1 KeRemoveQueueDpc(a);
    agree3 KeSetEvent(a b c);
    agree3 KeSetTimer(a b c);
    agree5 KeWaitForSingleObject(a b c d e);
    agree3 MmMapIoSpaceEx(a b c);
    agree6 MmMapLockedPagesSpecifyCache(a b c d e f);
    agree2 MmUnmapIoSpace(a b);
}
