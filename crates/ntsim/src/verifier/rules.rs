//! The rules whose breach the verifier reports. Parts of the simulator that watch more have their rules with them.

crate::verifier::law::stated! {

/// A function was called at an IRQL at which it must not be called.
pub const IRQL: &str = "irql";
/// A handler or callback returned at another IRQL than it was called at.
pub const IRQL_AT_RETURN: &str = "irql-at-return";
/// `KeRaiseIrql` to a lower or `KeLowerIrql` to a higher IRQL.
pub const IRQL_DIRECTION: &str = "irql-direction";
/// A handler or callback returned with other spin locks held, or more fast mutexes and resources owned, than when it was called.
pub const LOCK_AT_RETURN: &str = "lock-at-return";
/// A spin lock or fast mutex was acquired by code that holds it already, or a resource exclusively by a thread that shares it.
pub const LOCK_RECURSIVE: &str = "lock-recursive";
/// A spin lock was released that is not held, or a fast mutex that nobody or another thread owns.
pub const LOCK_NOT_HELD: &str = "lock-not-held";
/// A spin lock was released at the wrong IRQL, to the wrong IRQL, or by the other kind of function.
pub const LOCK_IRQL: &str = "lock-irql";
/// One spin lock is acquired as a queued one here and as an ordinary one there.
pub const LOCK_MIXED: &str = "lock-mixed";
/// Two locks (spin locks, fast mutexes, resources) are acquired in both orders, even if a third one that is held both times keeps them
/// apart today.
pub const LOCK_ORDER: &str = "lock-order";
/// A spin lock is held where none may be: while calling out to somebody else's callback, for instance.
pub const LOCK_HELD: &str = "lock-held";
/// A wait at DISPATCH_LEVEL or above.
pub const WAIT_AT_DISPATCH: &str = "wait-at-dispatch";
/// A wait while holding a spin lock.
pub const WAIT_WITH_LOCK: &str = "wait-with-lock";
/// A function was told that a wait follows at once (`KeSetEvent` and `KeReleaseSemaphore` with `Wait`), and none follows.
pub const SET_AND_WAIT: &str = "set-and-wait";
/// A wait that nothing can ever end.
pub const DEADLOCK: &str = "deadlock";
/// DPCs that queue themselves for ever.
pub const DPC_STORM: &str = "dpc-storm";
/// A dispatcher object, DPC or timer was used before it was initialised.
pub const UNINITIALIZED: &str = "uninitialized-object";
/// A DPC, timer or event was initialised while the kernel uses it.
pub const OBJECT_IN_USE: &str = "object-in-use";
/// The processor was kept busy too long.
pub const STALL: &str = "stall";
/// Memory was freed twice.
pub const POOL_DOUBLE_FREE: &str = "pool-double-free";
/// Memory was freed that the pool never gave out.
pub const POOL_BAD_FREE: &str = "pool-bad-free";
/// Memory was freed with another tag than it was allocated with.
pub const POOL_TAG: &str = "pool-tag";
/// Memory was written outside an allocation, or read behind one in special pool.
pub const POOL_GUARD: &str = "pool-guard";
/// Memory was written after it was freed, or read if it had pages of its own: in special pool, or larger than half a page.
pub const POOL_USE_AFTER_FREE: &str = "pool-use-after-free";
/// Memory was allocated wrongly: no bytes, no tag, undefined flags; or a lookaside list was made so, or at an address that is not aligned.
pub const POOL_ARGUMENT: &str = "pool-argument";
/// A driver went away and left memory behind.
pub const POOL_LEAK: &str = "pool-leak";
/// Memory was freed in which an object lies that the kernel still uses: a queued DPC, a running timer, a held lock; or it is the stack of a
/// function that has returned.
pub const FREED_IN_USE: &str = "freed-in-use";
/// Memory was freed that a device may still access.
pub const DMA_FREED_MAPPED: &str = "dma-freed-while-mapped";
/// A device was told to access memory that is not mapped for it.
pub const DMA_UNMAPPED: &str = "dma-unmapped";
/// A DMA adapter function was used wrongly, or somebody wrote behind a common buffer.
pub const DMA_MISUSE: &str = "dma-misuse";
/// A driver went away with DMA mappings, common buffers or adapters left.
pub const DMA_LEAK: &str = "dma-leak";
/// A driver went away with device memory mapped.
pub const IO_MAPPING_LEAK: &str = "io-mapping-leak";
/// An MDL was used in a state in which that cannot be done, or was changed while it describes pages.
pub const MDL_STATE: &str = "mdl-state";
/// Data that somebody else has meanwhile was changed: that of a list that a miniport is to send, or has indicated and not got back, by the
/// driver or its device.
pub const MDL_INVARIANT: &str = "mdl-invariant";
/// An address was given that is not the kind of address it must be.
pub const BAD_ADDRESS: &str = "bad-address";
/// A driver went away with a timer running.
pub const TIMER_AT_UNLOAD: &str = "timer-at-unload";
/// A driver went away with a DPC queued.
pub const DPC_AT_UNLOAD: &str = "dpc-at-unload";
/// A driver went away with a work item queued or not freed.
pub const WORK_ITEM_AT_UNLOAD: &str = "work-item-at-unload";
/// A driver went away while a system thread that it created runs in its code.
pub const THREAD_AT_UNLOAD: &str = "thread-at-unload";
/// A driver went away with a handle open.
pub const HANDLE_AT_UNLOAD: &str = "handle-at-unload";
/// A work item was used wrongly: queued twice, freed while queued.
pub const WORK_ITEM: &str = "work-item";
/// Rundown protection was released more often than acquired, or used after completion.
pub const RUNDOWN: &str = "rundown";
/// A resource (`ERESOURCE`) was acquired outside a critical region, released by a thread that does not own it, or deleted while it was
/// owned; its owner left the critical region, or ended; or a critical region was left that was not entered, or not left at a thread's end.
pub const RESOURCE: &str = "resource";
/// A driver went away with a resource or a lookaside list that it has not deleted.
pub const EXECUTIVE_AT_UNLOAD: &str = "executive-at-unload";
/// An object's reference was released more often than acquired.
pub const REFERENCE: &str = "reference";
/// Memory was accessed that is not there.
pub const ACCESS_VIOLATION: &str = "access-violation";
/// Paged pool or a pageable section of an image was accessed, or used for what the kernel accesses, at DISPATCH_LEVEL or above; or what a wait needs lies on the stack of
/// a thread that waits in UserMode, which may be paged out.
pub const PAGED_ACCESS: &str = "paged-access";
/// A function of an image is called through a pointer, or given for that, and the image's table of control flow guard lacks it: bug check
/// 0x139, parameter 10, where the guard is enforced.
pub const GUARD_TARGET: &str = "guard-target";
/// A register was accessed by an instruction that is no plain load or store of up to 8 bytes.
pub const REGISTER_INSTRUCTION: &str = "register-instruction";
/// More of a kernel thread's stack was used than any driver may: by code of images, more than Windows has to give them.
pub const STACK_DEPTH: &str = "stack-depth";
/// A kernel thread's stack was used up.
pub const STACK_OVERFLOW: &str = "stack-overflow";
/// Driver code ran without end.
pub const HANG: &str = "hang";
/// Windows has what was asked for, the simulator has not. No rule is broken; the run ends here because what follows would
/// prove nothing.
pub const NOT_SIMULATED: &str = "not-simulated";
/// `KeBugCheckEx`.
pub const BUGCHECK: &str = "bugcheck";

}
