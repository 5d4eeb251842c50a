//! What the driver writes to the system event log.
#![allow(unsafe_code, reason = "entries name a device object")]

use nt::eventlog::{self, Entry};
use nt::sys::wdm::DEVICE_OBJECT;

/// Values that tell places in the driver apart.
pub mod unique {
    /// A keyword has a value that is not used.
    pub const BAD_KEYWORD: u32 = 1;
    /// The active path MTU is not the configured one.
    pub const PATH_MTU: u32 = 2;
    /// The device cannot be started.
    pub const NO_DEVICE: u32 = 3;
    /// The device stopped working.
    pub const FAULT: u32 = 4;
    /// There is no memory for NDK to begin anew after a failure.
    pub const NDK_MEMORY: u32 = 5;
}

/// The event log, writing about one device.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    device: *mut DEVICE_OBJECT,
}

// SAFETY: the device object may be named from any processor.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// # Safety
    /// `device` is the functional device object of the adapter and outlives this.
    pub unsafe fn new(device: *mut DEVICE_OBJECT) -> Self {
        Self { device }
    }

    /// Writes an entry. IRQL: <= DISPATCH_LEVEL.
    pub fn write(&self, entry: &Entry<'_>) {
        // SAFETY: the device is the promise given to `new`.
        unsafe { eventlog::write(self.device, entry) }
    }
}
