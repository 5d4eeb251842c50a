//! Events.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::time::Duration;

use crate::boxed::try_box;
use crate::irql::Passive;
use crate::status::NoMemory;
use crate::sys;
use crate::sys::status::STATUS_TIMEOUT;
use crate::sys::types::{BOOLEAN, FALSE, KernelMode};
use crate::sys::wdm::{
    EVENT_TYPE, Executive, IO_NO_INCREMENT, KEVENT, NotificationEvent, SynchronizationEvent,
};

/// Whether an event stays set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Stays set until it is cleared, and lets every waiter go.
    Notification,
    /// Lets one waiter go and is clear again.
    Synchronization,
}

/// A kernel event, at an address of its own.
#[derive(Debug)]
pub struct Event {
    raw: Box<UnsafeCell<KEVENT>>,
}

// SAFETY: a KEVENT is made to be used from any processor; the kernel locks it.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// A new event. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(kind: EventKind, set: bool) -> Result<Self, NoMemory> {
        let raw = try_box(UnsafeCell::new(KEVENT::ZEROED))?;
        let kind: EVENT_TYPE = match kind {
            EventKind::Notification => NotificationEvent,
            EventKind::Synchronization => SynchronizationEvent,
        };
        // SAFETY: the event is at its final address, in non-paged memory.
        unsafe { sys::KeInitializeEvent(raw.get(), kind, BOOLEAN::from(set)) };
        Ok(Self { raw })
    }

    /// Sets the event. The event may be freed by the thread this wakes. IRQL: <= DISPATCH_LEVEL.
    pub fn set(&self) {
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeSetEvent(self.raw.get(), IO_NO_INCREMENT, FALSE) };
    }

    /// Clears the event. IRQL: <= DISPATCH_LEVEL.
    pub fn clear(&self) {
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeClearEvent(self.raw.get()) };
    }

    /// Whether it is set. IRQL: <= DISPATCH_LEVEL.
    pub fn is_set(&self) -> bool {
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeReadStateEvent(self.raw.get()) != 0 }
    }

    /// Waits until the event is set.
    pub fn wait(&self, passive: Passive) {
        self.wait_for(passive, None);
    }

    /// Waits until the event is set, at most so long (100 ns units): true if it was set.
    pub fn wait_timeout(&self, passive: Passive, timeout: Duration) -> bool {
        self.wait_for(passive, Some(timeout))
    }

    fn wait_for(&self, _: Passive, timeout: Option<Duration>) -> bool {
        let mut due = timeout.map(crate::time::relative_due);
        let due = due
            .as_mut()
            .map_or(core::ptr::null_mut(), core::ptr::from_mut);
        let object = self.raw.get().cast::<c_void>();
        // SAFETY: initialised by `try_new`; the token says that waiting is allowed here; `due` outlives the call.
        let status =
            unsafe { sys::KeWaitForSingleObject(object, Executive, KernelMode, FALSE, due) };
        status != STATUS_TIMEOUT
    }
}
