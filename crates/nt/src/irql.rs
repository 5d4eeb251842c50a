//! Interrupt request levels.

use core::marker::PhantomData;

use crate::sys;
use crate::sys::types::{DISPATCH_LEVEL, KIRQL, PASSIVE_LEVEL};

/// An interrupt request level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Irql(pub KIRQL);

impl Irql {
    /// Threads run here and may wait.
    pub const PASSIVE: Irql = Irql(PASSIVE_LEVEL);
    /// DPCs run here, and so does whoever holds a spin lock.
    pub const DISPATCH: Irql = Irql(DISPATCH_LEVEL);

    /// The level of this processor. IRQL: any.
    pub fn current() -> Self {
        // SAFETY: no conditions.
        Irql(unsafe { sys::KeGetCurrentIrql() })
    }
}

/// Says that this code runs at PASSIVE_LEVEL, with no spin lock held: it may wait.
///
/// It is not proof against raising the level afterwards and keeping the token; it makes the caller say what he relies on.
#[derive(Clone, Copy, Debug)]
pub struct Passive(PhantomData<*const ()>);

impl Passive {
    /// The token, if this is PASSIVE_LEVEL. IRQL: any.
    pub fn current() -> Option<Self> {
        (Irql::current() == Irql::PASSIVE).then_some(Passive(PhantomData))
    }

    /// The token, on the caller's word.
    ///
    /// # Safety
    /// The function this stands in is documented to be called at PASSIVE_LEVEL, holds no lock, and lets the token go no further than
    /// calls it makes at that level.
    pub unsafe fn assume() -> Self {
        Passive(PhantomData)
    }
}

/// Number of this processor, over all groups. IRQL: any; below DISPATCH_LEVEL it may be another one by the time it is used.
pub fn processor() -> u32 {
    // SAFETY: the group is not asked for.
    unsafe { sys::KeGetCurrentProcessorNumberEx(core::ptr::null_mut()) }
}

/// Runs `f` at DISPATCH_LEVEL: what must be called at exactly that level (building a scatter/gather list, for one), or what must not
/// be interrupted by this processor's DPCs. IRQL: <= DISPATCH_LEVEL.
pub fn at_dispatch<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(KIRQL);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: back to the level that the raise below left, in reverse order of any raise since.
            unsafe { sys::KeLowerIrql(self.0) }
        }
    }
    // SAFETY: the caller is at or below DISPATCH_LEVEL.
    let _restore = Restore(unsafe { sys::KfRaiseIrql(DISPATCH_LEVEL) });
    f()
}
