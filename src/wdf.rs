//! The framework, bound to by hand: the driver is linked without the framework's client library, whose entry point would do it.
//!
//! An NDIS miniport uses the framework in its miniport mode: NDIS keeps the dispatch routines, the framework gives a driver and a
//! device object to hang framework objects on.
#![allow(
    unsafe_code,
    reason = "the framework's functions are entries of a table"
)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::null_mut;

use nt::boxed::try_box;
use nt::string::{UnicodeString, units};
use nt::sys::wdf::{
    PFN_WDFDEVICEMINIPORTCREATE, PFN_WDFDRIVERCREATE, PFN_WDFDRIVERMINIPORTUNLOAD,
    PFN_WDFOBJECTDELETE, WDF_BIND_INFO, WDF_DRIVER_CONFIG, WDF_DRIVER_GLOBALS,
    WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15, WDF_VERSION, WDFDEVICE, WDFDRIVER, WDFFUNC,
    WdfDeviceMiniportCreateTableIndex, WdfDriverCreateTableIndex, WdfDriverInitNoDispatchOverride,
    WdfDriverMiniportUnloadTableIndex, WdfObjectDeleteTableIndex,
};
use nt::sys::wdm::{DEVICE_OBJECT, DRIVER_OBJECT, UNICODE_STRING};
use nt::{NoMemory, Passive, Status, sys, utf16};

/// The version the driver is written for; any later 1.x serves.
const VERSION: WDF_VERSION = WDF_VERSION {
    Major: 1,
    Minor: 15,
    Build: 0,
};

/// What the framework keeps pointers to while the driver is bound.
struct Binding {
    info: WDF_BIND_INFO,
    /// Where the framework stores the address of its function table.
    table: *mut WDFFUNC,
    globals: *mut WDF_DRIVER_GLOBALS,
    path: Vec<u16>,
}

/// The driver bound to the framework. Unbound when dropped (IRQL: PASSIVE_LEVEL).
struct Bound(Box<UnsafeCell<Binding>>);

impl Bound {
    /// # Safety
    /// Both are the arguments of DriverEntry. IRQL: PASSIVE_LEVEL.
    unsafe fn try_new(
        driver: *mut DRIVER_OBJECT,
        registry_path: *const UNICODE_STRING,
    ) -> Result<Self, Status> {
        // SAFETY: DriverEntry's argument.
        let units = unsafe { units(&*registry_path) };
        let mut path = Vec::new();
        path.try_reserve_exact(units.len().saturating_add(1))
            .map_err(|_| NoMemory)?;
        path.extend_from_slice(units);
        path.push(0);
        let binding = try_box(UnsafeCell::new(Binding {
            info: WDF_BIND_INFO {
                Size: size_of::<WDF_BIND_INFO>() as u32,
                Component: utf16!("KmdfLibrary").as_ptr().cast_mut(),
                Version: VERSION,
                FuncCount: WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15,
                FuncTable: null_mut(),
                Module: null_mut(),
            },
            table: null_mut(),
            globals: null_mut(),
            path,
        }))?;
        let raw = binding.get();
        // SAFETY: the binding stays where it is until it is unbound in `drop`; nobody else has a pointer to it.
        let status = unsafe {
            (*raw).info.FuncTable = &raw mut (*raw).table;
            let mut path = UnicodeString::new(&(*raw).path);
            let globals = (&raw mut (*raw).globals).cast();
            sys::WdfVersionBind(driver, path.as_mut_ptr(), &raw mut (*raw).info, globals)
        };
        // If it failed, the box goes and nothing is unbound.
        Status(status).ok()?;
        Ok(Self(binding))
    }

    fn globals(&self) -> *mut WDF_DRIVER_GLOBALS {
        // SAFETY: written by the loader while it bound, and not since.
        unsafe { (*self.0.get()).globals }
    }

    /// An entry of the function table.
    ///
    /// # Safety
    /// `F` is the type of the function with this index.
    unsafe fn function<F: Copy>(&self, index: usize) -> F {
        const { assert!(size_of::<F>() == size_of::<WDFFUNC>()) }
        // SAFETY: the loader stored the address of a table with at least as many entries as were asked for, and every index used is
        // below that; the type is the caller's promise.
        unsafe { (*self.0.get()).table.add(index).cast::<F>().read() }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let raw = self.0.get();
        // SAFETY: bound by `try_new`, with these arguments.
        unsafe {
            let mut path = UnicodeString::new(&(*raw).path);
            sys::WdfVersionUnbind(
                path.as_mut_ptr(),
                &raw mut (*raw).info,
                (*raw).globals.cast(),
            );
        }
    }
}

/// The framework with a driver object of ours, in miniport mode. Unloaded and unbound when dropped (IRQL: PASSIVE_LEVEL).
pub struct Framework {
    bound: Bound,
    driver: WDFDRIVER,
}

// SAFETY: the framework's objects may be used from any processor; the rest does not change.
unsafe impl Send for Framework {}
// SAFETY: as above.
unsafe impl Sync for Framework {}

impl Framework {
    /// Binds to the framework and makes the driver object.
    ///
    /// # Safety
    /// Both are the arguments of DriverEntry.
    ///
    /// # Errors
    /// What the loader and the framework answer.
    pub unsafe fn bind(
        driver_object: *mut DRIVER_OBJECT,
        registry_path: *const UNICODE_STRING,
        _: Passive,
    ) -> Result<Self, Status> {
        // SAFETY: the caller's promise.
        let bound = unsafe { Bound::try_new(driver_object, registry_path)? };
        let mut config = WDF_DRIVER_CONFIG {
            Size: size_of::<WDF_DRIVER_CONFIG>() as u32,
            EvtDriverDeviceAdd: None,
            EvtDriverUnload: None,
            // NDIS keeps the dispatch routines of the driver object.
            DriverInitFlags: WdfDriverInitNoDispatchOverride,
            DriverPoolTag: nt::pool::TAG,
        };
        let mut driver = null_mut();
        // SAFETY: the index is WdfDriverCreate's; the arguments are DriverEntry's and locals.
        let status = unsafe {
            let create: PFN_WDFDRIVERCREATE = bound.function(WdfDriverCreateTableIndex);
            create(
                bound.globals(),
                driver_object,
                registry_path,
                null_mut(),
                &raw mut config,
                &raw mut driver,
            )
        };
        Status(status).ok()?;
        Ok(Self { bound, driver })
    }

    /// Makes the framework's device object for an adapter.
    ///
    /// # Safety
    /// The device objects are those NDIS names for an adapter that is being initialised.
    ///
    /// # Errors
    /// What the framework answers.
    pub unsafe fn create_device(
        &self,
        device: *mut DEVICE_OBJECT,
        next: *mut DEVICE_OBJECT,
        pdo: *mut DEVICE_OBJECT,
        _: Passive,
    ) -> Result<Device, Status> {
        let mut handle = null_mut();
        // SAFETY: the index is WdfDeviceMiniportCreate's; the device objects are the caller's promise.
        let status = unsafe {
            let create: PFN_WDFDEVICEMINIPORTCREATE =
                self.bound.function(WdfDeviceMiniportCreateTableIndex);
            create(
                self.bound.globals(),
                self.driver,
                null_mut(),
                device,
                next,
                pdo,
                &raw mut handle,
            )
        };
        Status(status).ok()?;
        Ok(Device {
            handle,
            globals: self.bound.globals(),
            // SAFETY: the index is WdfObjectDelete's.
            delete: unsafe { self.bound.function(WdfObjectDeleteTableIndex) },
        })
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        // SAFETY: the index is WdfDriverMiniportUnload's; every device object is gone. Unbinding follows.
        unsafe {
            let unload: PFN_WDFDRIVERMINIPORTUNLOAD =
                self.bound.function(WdfDriverMiniportUnloadTableIndex);
            unload(self.bound.globals(), self.driver);
        }
    }
}

/// The framework's device object of an adapter. Deleted when dropped (IRQL: PASSIVE_LEVEL), before the framework is.
#[derive(Debug)]
pub struct Device {
    handle: WDFDEVICE,
    globals: *mut WDF_DRIVER_GLOBALS,
    delete: PFN_WDFOBJECTDELETE,
}

// SAFETY: the framework's objects may be used from any processor.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by `create_device`; the driver is still bound, because adapters go before it.
        unsafe { (self.delete)(self.globals, self.handle) }
    }
}
