//! The driver: entered once, unloaded once. Its state hangs off the driver object; there are no mutable statics.
#![allow(unsafe_code, reason = "called by the kernel with its pointers")]

use alloc::boxed::Box;
use core::ffi::c_void;
use core::ptr::null_mut;

use nt::boxed::try_box;
use nt::sys::types::{NDIS_HANDLE, NTSTATUS};
use nt::sys::wdm::{DRIVER_OBJECT, UNICODE_STRING};
use nt::trace::Provider;
use nt::{Once, Passive, Shared, Status, debug_print, sys};

use crate::miniport;
use crate::trace::{self, Trace};
use crate::wdf::Framework;

/// The driver as a whole: the context of NDIS's driver-wide calls.
pub struct Driver {
    framework: Framework,
    ndis: Once<Ndis>,
    /// Registered for as long as the driver is there.
    provider: Shared<Provider>,
}

/// The driver's registration with NDIS.
struct Ndis(NDIS_HANDLE);

// SAFETY: the handle may be used from any processor.
unsafe impl Send for Ndis {}
// SAFETY: as above.
unsafe impl Sync for Ndis {}

impl Driver {
    /// The framework the driver is bound to.
    pub fn framework(&self) -> &Framework {
        &self.framework
    }

    /// What tells event tracing of an adapter.
    pub fn trace(&self, luid: u64) -> Trace {
        Trace::new(self.provider.clone(), luid)
    }
}

/// Its address names the driver's part of a driver object's extension.
static EXTENSION: u8 = 0;

fn extension_id() -> *mut c_void {
    (&raw const EXTENSION).cast_mut().cast()
}

/// DriverEntry.
///
/// # Safety
/// The arguments of DriverEntry. IRQL: PASSIVE_LEVEL.
pub unsafe fn enter(object: *mut DRIVER_OBJECT, registry_path: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the caller's promise.
    match unsafe { try_enter(object, registry_path) } {
        Ok(()) => sys::status::STATUS_SUCCESS,
        Err(status) => {
            debug_print!(Error, "driver does not load: {status}");
            status.0
        }
    }
}

/// # Safety
/// As of [`enter`].
unsafe fn try_enter(
    object: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> Result<(), Status> {
    let mut extension = null_mut();
    let size = size_of::<*mut Driver>() as u32;
    // SAFETY: the driver's own object; the extension goes with it.
    let status = unsafe {
        sys::IoAllocateDriverObjectExtension(object, extension_id(), size, &raw mut extension)
    };
    Status(status).ok()?;
    // SAFETY: DriverEntry runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    let provider = trace::register(passive)?;
    // SAFETY: with DriverEntry's arguments.
    let framework = unsafe { Framework::bind(object, registry_path, passive)? };
    let driver = Box::into_raw(try_box(Driver {
        framework,
        ndis: Once::new(),
        provider,
    })?);
    let mut characteristics = miniport::characteristics();
    let mut handle = null_mut();
    // SAFETY: the extension has room for a pointer. The driver stays at its address until `unload`, or until registration has failed.
    let status = unsafe {
        extension.cast::<*mut Driver>().write(driver);
        sys::NdisMRegisterMiniportDriver(
            object,
            registry_path.cast_mut(),
            driver.cast(),
            &raw mut characteristics,
            &raw mut handle,
        )
    };
    if let Err(status) = Status(status).ok() {
        // SAFETY: NDIS did not keep the context.
        drop(unsafe { Box::from_raw(driver) });
        return Err(status);
    }
    // SAFETY: the driver lives. Adapters may be initialised already, and share it.
    unsafe { (*driver).ndis.set(Ndis(handle)) };
    Ok(())
}

/// MiniportDriverUnload. IRQL: PASSIVE_LEVEL.
pub unsafe extern "efiapi" fn unload(object: *mut DRIVER_OBJECT) {
    // SAFETY: called once, after `enter` succeeded; every adapter is halted.
    unsafe {
        let extension =
            sys::IoGetDriverObjectExtension(object, extension_id()).cast::<*mut Driver>();
        let Some(&driver) = extension.as_ref() else {
            return;
        };
        let driver = Box::from_raw(driver);
        if let Some(ndis) = driver.ndis.get() {
            sys::NdisMDeregisterMiniportDriver(ndis.0);
        }
        // The framework is unloaded and unbound after that, as `driver` goes.
        drop(driver);
    }
}
