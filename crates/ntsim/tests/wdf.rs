//! The framework's loader and the functions a miniport uses of the framework, called as a driver's stub calls them.
#![allow(unsafe_code, reason = "driver code")]

use std::cell::Cell;
use std::ptr::null_mut;

use ndis_sys::imports::{WdfVersionBind, WdfVersionUnbind};
use ndis_sys::status::*;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdf::*;
use ndis_sys::wdm::*;
use ntsim::{MachineConfig, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Version,
    Count,
    Component,
    NoUnbind,
    NoMiniportUnload,
    DeviceLeft,
    UnknownFunction,
    DeviceWithoutFlag,
    CreateTwice,
    DeleteTwice,
    DeleteDriver,
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static TABLE: Cell<*mut WDFFUNC> = const { Cell::new(null_mut()) };
    static GLOBALS: Cell<*mut WDF_DRIVER_GLOBALS> = const { Cell::new(null_mut()) };
    static CLEANED: Cell<u32> = const { Cell::new(0) };
}

fn is(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// An entry of the function table, as its type.
unsafe fn function<F: Copy>(index: usize) -> F {
    // SAFETY: the caller names the type that belongs to the index.
    unsafe { std::mem::transmute_copy(&*TABLE.get().add(index)) }
}

const KMDF: [u16; 12] = {
    let bytes = b"KmdfLibrary";
    let mut units = [0u16; 12];
    let mut i = 0;
    while i < bytes.len() {
        units[i] = bytes[i] as u16;
        i += 1;
    }
    units
};

fn bind_info(slot: *mut *mut WDFFUNC) -> WDF_BIND_INFO {
    WDF_BIND_INFO {
        Size: size_of::<WDF_BIND_INFO>() as u32,
        Component: if is(Fault::Component) {
            KMDF[1..].as_ptr()
        } else {
            KMDF.as_ptr()
        }
        .cast_mut(),
        Version: WDF_VERSION {
            Major: 1,
            Minor: if is(Fault::Version) { 99 } else { 15 },
            Build: 0,
        },
        FuncCount: if is(Fault::Count) {
            10
        } else {
            WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15
        },
        FuncTable: slot,
        Module: null_mut(),
    }
}

unsafe extern "efiapi" fn cleanup(_object: WDFOBJECT) {
    CLEANED.set(CLEANED.get() + 1);
}

unsafe extern "efiapi" fn entry(driver: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        (*driver).DriverUnload = Some(unload);
        let mut table: *mut WDFFUNC = null_mut();
        let mut info = bind_info(&raw mut table);
        let mut globals: PWDF_COMPONENT_GLOBALS = null_mut();
        let status = WdfVersionBind(driver, path, &raw mut info, &raw mut globals);
        if status != STATUS_SUCCESS {
            return status;
        }
        TABLE.set(table);
        GLOBALS.set(globals.cast());
        let create: PFN_WDFDRIVERCREATE = function(WdfDriverCreateTableIndex);
        let flags = if is(Fault::DeviceWithoutFlag) {
            0
        } else {
            WdfDriverInitNoDispatchOverride
        };
        let mut config = WDF_DRIVER_CONFIG {
            Size: size_of::<WDF_DRIVER_CONFIG>() as u32,
            DriverInitFlags: flags,
            ..Default::default()
        };
        let mut framework_driver = null_mut();
        let times = if is(Fault::CreateTwice) { 2 } else { 1 };
        for _ in 0..times {
            create(
                GLOBALS.get(),
                driver,
                path,
                null_mut(),
                &raw mut config,
                &raw mut framework_driver,
            );
        }
        assert_eq!((*GLOBALS.get()).Driver, framework_driver);
        device(framework_driver, driver);
        STATUS_SUCCESS
    }
}

/// Creates and deletes a framework device with a context.
unsafe fn device(framework_driver: WDFDRIVER, driver: *mut DRIVER_OBJECT) {
    let info = WDF_OBJECT_CONTEXT_TYPE_INFO {
        Size: size_of::<WDF_OBJECT_CONTEXT_TYPE_INFO>() as u32,
        ContextSize: 64,
        ..Default::default()
    };
    let mut attributes = WDF_OBJECT_ATTRIBUTES {
        Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as u32,
        EvtCleanupCallback: Some(cleanup),
        ContextTypeInfo: &raw const info,
        ..Default::default()
    };
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        let create: PFN_WDFDEVICEMINIPORTCREATE = function(WdfDeviceMiniportCreateTableIndex);
        let mut device = null_mut();
        let globals = GLOBALS.get();
        let wdm: *mut DEVICE_OBJECT = driver.cast();
        let status = create(
            globals,
            framework_driver,
            &raw mut attributes,
            wdm,
            wdm,
            wdm,
            &raw mut device,
        );
        if status != STATUS_SUCCESS {
            return;
        }
        let context: PFN_WDFOBJECTGETTYPEDCONTEXTWORKER =
            function(WdfObjectGetTypedContextWorkerTableIndex);
        let memory = context(globals, device, &raw const info);
        assert!(!memory.is_null());
        memory.cast::<u8>().write_bytes(0xff, 64);
        let get: PFN_WDFDEVICEWDMGETPHYSICALDEVICE =
            function(WdfDeviceWdmGetPhysicalDeviceTableIndex);
        assert_eq!(get(globals, device), wdm);
        let delete: PFN_WDFOBJECTDELETE = function(WdfObjectDeleteTableIndex);
        if is(Fault::UnknownFunction) {
            let dpc: unsafe extern "efiapi" fn(*mut WDF_DRIVER_GLOBALS) =
                function(WdfDpcCreateTableIndex);
            dpc(globals);
        }
        if is(Fault::DeleteDriver) {
            delete(globals, framework_driver);
        }
        if !is(Fault::DeviceLeft) {
            delete(globals, device);
            assert_eq!(CLEANED.replace(0), 1);
        }
        if is(Fault::DeleteTwice) {
            delete(globals, device);
        }
    }
}

unsafe extern "efiapi" fn unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        let globals = GLOBALS.get();
        if !is(Fault::NoMiniportUnload) {
            let unload: PFN_WDFDRIVERMINIPORTUNLOAD = function(WdfDriverMiniportUnloadTableIndex);
            unload(globals, (*globals).Driver);
        }
        if !is(Fault::NoUnbind) {
            let mut table: *mut WDFFUNC = null_mut();
            let mut info = bind_info(&raw mut table);
            WdfVersionUnbind(null_mut(), &raw mut info, globals.cast());
        }
    }
}

fn run(fault: Fault) -> Vec<ntsim::Violation> {
    FAULT.set(fault);
    CLEANED.set(0);
    let mut world = World::builder().seed(3).collect_violations().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    if let Ok(driver) = world.load_driver(machine, "wdf", entry) {
        world.unload_driver(driver);
    }
    world.take_violations()
}

#[test]
fn a_framework_client_comes_and_goes() {
    let violations = run(Fault::None);
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn every_misuse_of_the_framework_is_accused() {
    for fault in [
        Fault::Version,
        Fault::Count,
        Fault::Component,
        Fault::NoUnbind,
        Fault::NoMiniportUnload,
        Fault::DeviceLeft,
        Fault::UnknownFunction,
        Fault::DeviceWithoutFlag,
        Fault::CreateTwice,
        Fault::DeleteTwice,
        Fault::DeleteDriver,
    ] {
        let violations = run(fault);
        assert!(
            violations.iter().any(|v| v.rule == ntsim::ndis::rules::WDF),
            "{fault:?}: {violations:?}"
        );
    }
}
