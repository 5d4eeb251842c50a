//! What a driver may not leave behind when it is unloaded, beside memory.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{TAG, broken, start, suspects};
use ndis_sys::imports::*;
use ndis_sys::netioapi::{MIB_IPFORWARD_ROW2, MIB_IPNET_ROW2};
use ndis_sys::socket::{AF_UNSPEC, SOCKADDR_INET};
use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use ndis_sys::types::{HANDLE, KernelMode, NTSTATUS};
use ndis_sys::wdm::*;
use ndis_sys::wsk::{WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_REGISTRATION};
use ntsim::verifier::rules;

type Entry =
    unsafe extern "efiapi" fn(object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS;

/// Loads and unloads a driver; the rules it broke.
fn accused(entry: Entry) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "untidy", entry).expect("it loads");
    world.unload_driver(driver);
    broken(&mut world)
}

unsafe extern "efiapi" fn brief(_context: *mut c_void) {}

unsafe extern "efiapi" fn sleepy(_context: *mut c_void) {
    let mut interval = -10_000_000;
    // SAFETY: a time on this stack.
    unsafe { KeDelayExecutionThread(KernelMode, 0, &mut interval) };
}

unsafe fn object(handle: HANDLE) -> *mut c_void {
    let mut object = ptr::null_mut();
    // SAFETY: an open handle.
    unsafe {
        ObReferenceObjectByHandle(
            handle,
            0,
            ptr::null_mut(),
            KernelMode,
            &mut object,
            ptr::null_mut(),
        )
    };
    object
}

/// Starts a thread, waits for its end if told to, and closes and dereferences only what it is told to.
unsafe fn thread(routine: KSTART_ROUTINE, wait: bool, close: bool, dereference: bool) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe {
        let handle = start(routine, ptr::null_mut()).expect("a thread");
        let thread = object(handle);
        if wait {
            KeWaitForSingleObject(thread, Executive, KernelMode, 0, ptr::null_mut());
        }
        if close {
            ZwClose(handle);
        }
        if dereference {
            ObfDereferenceObject(thread);
        }
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn tidy(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { thread(brief, true, true, true) }
}

unsafe extern "efiapi" fn runs_on(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { thread(sleepy, false, true, true) }
}

unsafe extern "efiapi" fn unclosed(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { thread(brief, true, false, true) }
}

unsafe extern "efiapi" fn referenced(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { thread(brief, true, true, false) }
}

#[test]
fn threads_handles_and_references() {
    assert_eq!(accused(tidy), [""; 0]);
    assert_eq!(accused(runs_on), [rules::THREAD_AT_UNLOAD]);
    assert_eq!(accused(unclosed), [rules::HANDLE_AT_UNLOAD]);
    assert_eq!(accused(referenced), [rules::REFERENCE]);
}

struct Client(WSK_CLIENT_DISPATCH);

// SAFETY: a constant table without callbacks.
unsafe impl Sync for Client {}

static CLIENT: Client = Client(WSK_CLIENT_DISPATCH {
    Version: 0x0100,
    ..WSK_CLIENT_DISPATCH::ZEROED
});

unsafe fn register(end: bool) -> NTSTATUS {
    let mut npi = WSK_CLIENT_NPI {
        ClientContext: ptr::null_mut(),
        Dispatch: &raw const CLIENT.0,
    };
    let mut registration = WSK_REGISTRATION::ZEROED;
    // SAFETY: calls as documented; nobody looks at a registration that is not ended.
    unsafe {
        let status = WskRegister(&mut npi, &mut registration);
        if end {
            WskDeregister(&mut registration);
        }
        status
    }
}

unsafe extern "efiapi" fn deregisters(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { register(true) }
}

unsafe extern "efiapi" fn registered(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { register(false) }
}

#[test]
fn registrations_with_wsk() {
    assert_eq!(accused(deregisters), [""; 0]);
    assert_eq!(accused(registered), [ntsim::ndis::rules::NETIO]);
}

unsafe extern "efiapi" fn route_changed(
    _context: *mut c_void,
    _row: *mut ndis_sys::netioapi::MIB_IPFORWARD_ROW2,
    _kind: i32,
) {
}

unsafe fn subscribe() -> HANDLE {
    let mut handle = ptr::null_mut();
    // SAFETY: calls as documented.
    let status =
        unsafe { NotifyRouteChange2(AF_UNSPEC, route_changed, ptr::null_mut(), 0, &mut handle) };
    assert_eq!(status, STATUS_SUCCESS);
    handle
}

unsafe extern "efiapi" fn cancels(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { CancelMibChangeNotify2(subscribe()) }
}

unsafe extern "efiapi" fn subscribed(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    unsafe { subscribe() };
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn cancels_twice(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the second time is the point.
    unsafe {
        let handle = subscribe();
        CancelMibChangeNotify2(handle);
        CancelMibChangeNotify2(handle);
    }
    STATUS_SUCCESS
}

#[test]
fn notifications_of_route_changes() {
    assert_eq!(accused(cancels), [""; 0]);
    assert_eq!(accused(subscribed), [ntsim::ndis::rules::NETIO]);
    assert_eq!(accused(cancels_twice), [ntsim::ndis::rules::NETIO]);
}

/// What a function answers when it is told to fail: whether that says so.
fn fails(name: &'static str, call: impl FnOnce() -> bool) {
    let (mut world, a) = suspects();
    world.fail_allocations(a, Some(0), false);
    assert!(world.call(a, call), "{name} did not fail");
    assert_eq!(world.take_failed_functions(a), [name]);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn functions_fail_when_told_to() {
    fails("PsCreateSystemThread", || {
        // SAFETY: calls as documented.
        unsafe { start(brief, ptr::null_mut()) }.is_err()
    });
    fails("NotifyRouteChange2", || {
        let mut handle = ptr::null_mut();
        // SAFETY: calls as documented.
        let status = unsafe {
            NotifyRouteChange2(AF_UNSPEC, route_changed, ptr::null_mut(), 0, &mut handle)
        };
        status != STATUS_SUCCESS
    });
    let mut row = MIB_IPNET_ROW2::ZEROED;
    // SAFETY: a row on this stack.
    fails("GetIpNetEntry2", || unsafe {
        GetIpNetEntry2(&mut row) == STATUS_INSUFFICIENT_RESOURCES
    });
    // SAFETY: as above.
    fails("ResolveIpNetEntry2", || unsafe {
        ResolveIpNetEntry2(&mut row, ptr::null()) == STATUS_INSUFFICIENT_RESOURCES
    });
    fails("GetBestRoute2", || {
        let mut route = MIB_IPFORWARD_ROW2::ZEROED;
        let mut source = SOCKADDR_INET::ZEROED;
        let none = ptr::null();
        // SAFETY: both on this stack.
        let status = unsafe {
            GetBestRoute2(
                none,
                0,
                ptr::null(),
                none.cast(),
                0,
                &mut route,
                &mut source,
            )
        };
        status == STATUS_INSUFFICIENT_RESOURCES
    });
    fails("IoGetDeviceProperty", || {
        let (mut value, mut length) = (0u32, 0);
        let device = ptr::without_provenance_mut(0x1000);
        let buffer = (&raw mut value).cast();
        // SAFETY: the buffer has four bytes.
        let status =
            unsafe { IoGetDeviceProperty(device, DevicePropertyBusNumber, 4, buffer, &mut length) };
        status == STATUS_INSUFFICIENT_RESOURCES
    });
    // SAFETY: calls as documented.
    fails("ExAllocatePool2", || unsafe {
        ExAllocatePool2(POOL_FLAG_NON_PAGED, 8, TAG).is_null()
    });
}
