//! Event tracing: what providers and sessions see of each other, and what the verifier says of mistakes.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

use common::{TAG, broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::*;
use ndis_sys::types::{DISPATCH_LEVEL, NTSTATUS};
use ndis_sys::wdm::*;
use ntsim::MachineId;
use ntsim::World;
use ntsim::etw::{TraceConfig, Value, rules};
use ntsim::verifier::rules as kernel;

const ID: GUID = GUID {
    Data1: 7,
    ..GUID::ZEROED
};
const PROVIDER: &[u8] = b"\x07\0Tiny\0";
const EVENT: &[u8] = b"\x09\0\0Hi\0n\0\x04\x00";
/// Says what `EVENT` is to be: its last byte is not part of it.
const HI: &[u8] = EVENT.split_at(9).0;

/// The level of sessions for which the callback does not lower the IRQL that it raises.
const RAISES: u8 = 1;

/// Source given or not, code, level, any, all.
type Told = (bool, u32, u8, u64, u64);

thread_local! {
    static HANDLE: Cell<REGHANDLE> = const { Cell::new(0) };
    /// The last call of the callback, since this was last looked at.
    static TOLD: Cell<Option<Told>> = const { Cell::new(None) };
}

unsafe extern "efiapi" fn told(
    source: *const GUID,
    code: u32,
    level: u8,
    any: u64,
    all: u64,
    _filter: *mut c_void,
    context: *mut c_void,
) {
    assert_eq!(context as usize, 77);
    if level == RAISES {
        // SAFETY: wrong, and noticed.
        unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    }
    TOLD.set(Some((!source.is_null(), code, level, any, all)));
}

unsafe fn register() -> NTSTATUS {
    let mut handle = 0;
    // SAFETY: calls as documented.
    unsafe {
        let status = EtwRegister(&ID, Some(told), 77 as *mut c_void, &mut handle);
        if status == STATUS_SUCCESS {
            let traits = PROVIDER.as_ptr().cast_mut().cast();
            let length = PROVIDER.len() as u32;
            EtwSetInformation(handle, EventProviderSetTraits, traits, length);
            HANDLE.set(handle);
        }
        status
    }
}

fn handle() -> REGHANDLE {
    HANDLE.get()
}

unsafe extern "efiapi" fn unload(_object: *mut DRIVER_OBJECT) {
    // SAFETY: a call as documented.
    assert_eq!(unsafe { EtwUnregister(handle()) }, STATUS_SUCCESS);
}

unsafe extern "efiapi" fn tidy(object: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's object.
    unsafe {
        (*object).DriverUnload = Some(unload);
        register()
    }
}

unsafe extern "efiapi" fn untidy(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: none needed.
    unsafe { register() }
}

fn piece(bytes: &[u8], kind: u8) -> EVENT_DATA_DESCRIPTOR {
    EVENT_DATA_DESCRIPTOR {
        Ptr: bytes.as_ptr() as u64,
        Size: bytes.len() as u32,
        Type: kind,
        ..EVENT_DATA_DESCRIPTOR::ZEROED
    }
}

/// Writes an event of that level and keyword with that description and data. Kernel code.
fn write_as(level: u8, keyword: u64, description: &[u8], data: &[u8]) -> NTSTATUS {
    let event = EVENT_DESCRIPTOR {
        Channel: WINEVENT_CHANNEL_TRACELOGGING,
        Level: level,
        Keyword: keyword,
        ..EVENT_DESCRIPTOR::ZEROED
    };
    let mut pieces = [
        piece(PROVIDER, EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA),
        piece(description, EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA),
        piece(data, EVENT_DATA_DESCRIPTOR_TYPE_NONE),
    ];
    // SAFETY: all of it is here.
    unsafe { EtwWriteTransfer(handle(), &event, null(), null(), 3, pieces.as_mut_ptr()) }
}

fn write(n: u8) -> NTSTATUS {
    write_as(TRACE_LEVEL_INFORMATION, 1, HI, &[n])
}

fn told_so_far() -> Option<Told> {
    TOLD.take()
}

fn with_provider() -> (World, MachineId, ntsim::DriverId) {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "tiny", tidy).expect("it loads");
    (world, a, driver)
}

#[test]
fn a_session_hears_what_it_asked_for_and_the_provider_is_told_what_that_is() {
    let (mut world, a, driver) = with_provider();
    assert_eq!(told_so_far(), None, "nobody listens");
    world.call(a, || assert_eq!(write(1), STATUS_SUCCESS));
    let config = TraceConfig {
        level: TRACE_LEVEL_INFORMATION,
        any: 6,
        all: 4,
        ..TraceConfig::all(ID)
    };
    world.start_trace(a, config);
    let enabled = (true, EVENT_CONTROL_CODE_ENABLE_PROVIDER, 4, 6, 4);
    assert_eq!(told_so_far(), Some(enabled));
    world.call_on(a, 0, DISPATCH_LEVEL, || {
        let levels = [TRACE_LEVEL_WARNING, TRACE_LEVEL_VERBOSE];
        for (n, keyword) in [0, 1, 2, 4, 6].into_iter().enumerate() {
            for level in levels {
                write_as(level, keyword, HI, &[10 * level + n as u8]);
            }
        }
    });
    let events = world.traced(a);
    let numbers: Vec<u64> = events.iter().map(|event| event.number("n")).collect();
    assert_eq!(numbers, [30, 33, 34], "no keyword; all of 4, one of 6");
    assert_eq!((events[1].level, events[1].keyword), (3, 4));
    assert_eq!((&*events[0].machine, &*events[0].provider), ("A", "Tiny"));
    assert_eq!(events[0].get("n"), Some(&Value::Number(30)));
    assert_eq!(events[2].to_string(), "Hi n=34");

    world.stop_trace(a, ID);
    let disabled = (true, EVENT_CONTROL_CODE_DISABLE_PROVIDER, 0, 0, 0);
    assert_eq!(told_so_far(), Some(disabled));
    world.call(a, || write(2));
    assert_eq!(world.traced(a).len(), 3);
    world.unload_driver(driver);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn a_session_that_was_there_first_is_told_of_within_the_registration() {
    let (mut world, a) = suspects();
    world.start_trace(a, TraceConfig::all(ID));
    assert_eq!(told_so_far(), None);
    let driver = world.load_driver(a, "tiny", tidy).expect("it loads");
    let all = (false, EVENT_CONTROL_CODE_ENABLE_PROVIDER, 255, 0, 0);
    assert_eq!(told_so_far(), Some(all));
    world.call(a, || write(5));
    assert_eq!(world.traced(a)[0].number("n"), 5);
    world.unload_driver(driver);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn who_goes_and_stays_registered_is_accused() {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "untidy", untidy).expect("it loads");
    world.unload_driver(driver);
    assert_eq!(broken(&mut world), [rules::AT_UNLOAD]);
    // Nothing is called that is gone.
    world.start_trace(a, TraceConfig::all(ID));
    assert_eq!(told_so_far(), None);
}

#[test]
fn who_writes_after_the_registration_ended_is_accused() {
    let (mut world, a, driver) = with_provider();
    world.unload_driver(driver);
    assert_eq!(broken(&mut world), [""; 0]);
    let statuses = world.call(a, || {
        // SAFETY: a stale handle is what is tested.
        [write(1), unsafe { EtwUnregister(handle()) }]
    });
    assert_eq!(statuses, [STATUS_INVALID_HANDLE; 2]);
    assert_eq!(broken(&mut world), [rules::NOT_REGISTERED; 2]);
}

#[test]
fn an_event_must_be_what_it_says() {
    let (mut world, a, driver) = with_provider();
    let bad = [
        (HI, &[][..]),
        (HI, &[1, 2]),
        (EVENT, &[1]),
        (&HI[..8], &[1]),
    ];
    // Nobody looks at an event that nobody wants.
    world.call(a, || {
        bad.map(|(description, data)| write_as(4, 1, description, data))
    });
    assert_eq!(broken(&mut world), [""; 0]);
    world.start_trace(a, TraceConfig::all(ID));
    world.call(a, || {
        bad.map(|(description, data)| write_as(4, 1, description, data))
    });
    assert_eq!(broken(&mut world), [rules::DESCRIPTION; 4]);
    let too_many = world.call(a, || {
        let event = EVENT_DESCRIPTOR::ZEROED;
        // SAFETY: more pieces than there may be are not looked at.
        unsafe { EtwWriteTransfer(handle(), &event, null(), null(), 129, null_mut()) }
    });
    assert_eq!(too_many, STATUS_INVALID_PARAMETER);
    assert_eq!(broken(&mut world), [rules::DESCRIPTION]);
    assert_eq!(world.traced(a), []);
    world.unload_driver(driver);
}

#[test]
fn an_event_describes_itself_only_if_its_provider_has_set_its_traits() {
    let (mut world, a) = suspects();
    world.start_trace(a, TraceConfig::all(ID));
    world.call(a, || {
        let mut handle = 0;
        // SAFETY: calls as documented.
        unsafe { EtwRegister(&ID, None, null_mut(), &mut handle) };
        HANDLE.set(handle);
        write(1)
    });
    assert_eq!(broken(&mut world), [rules::DESCRIPTION]);
    assert_eq!(world.traced(a), []);
    world.call(a, || {
        let traits = PROVIDER.as_ptr().cast_mut().cast();
        let length = PROVIDER.len() as u32;
        // SAFETY: as above.
        unsafe { EtwSetInformation(handle(), EventProviderSetTraits, traits, length) };
        write(2);
        // SAFETY: as above.
        unsafe { EtwUnregister(handle()) };
    });
    assert_eq!(world.traced(a)[0].number("n"), 2);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn levels_and_paged_memory() {
    let (mut world, a, driver) = with_provider();
    world.start_trace(a, TraceConfig::all(ID));
    world.call_on(a, 0, DISPATCH_LEVEL, || {
        let mut handle = 0;
        // SAFETY: at the wrong level, which is what is tested.
        unsafe {
            EtwRegister(&ID, None, null_mut(), &mut handle);
            EtwUnregister(handle);
        }
    });
    assert_eq!(broken(&mut world), [kernel::IRQL; 2]);
    let paged = world.call(a, || {
        // SAFETY: a call as documented.
        unsafe { ExAllocatePool2(POOL_FLAG_PAGED, 16, TAG) as usize }
    });
    let from = move || {
        // SAFETY: a byte of the block above.
        let byte = unsafe { std::slice::from_raw_parts(paged as *const u8, 1) };
        write_as(4, 1, HI, byte)
    };
    world.call(a, from);
    assert_eq!(broken(&mut world), [""; 0]);
    world.stop_trace(a, ID);
    world.call_on(a, 0, DISPATCH_LEVEL, from);
    assert_eq!(broken(&mut world), [kernel::PAGED_ACCESS]);
    // SAFETY: allocated above.
    world.call(a, || unsafe { ExFreePool(paged as *mut c_void) });
    world.unload_driver(driver);
}

#[test]
fn what_a_callback_does_wrong_is_its_drivers() {
    let (mut world, a, driver) = with_provider();
    let config = TraceConfig {
        level: RAISES,
        ..TraceConfig::all(ID)
    };
    world.start_trace(a, config);
    let violations = world.take_violations();
    let [violation] = &violations[..] else {
        panic!("{violations:?}");
    };
    assert_eq!(violation.rule, kernel::IRQL_AT_RETURN);
    assert_eq!(violation.culprit, "driver tiny");
    let crossed = violation.history.iter().rev().take(2);
    let crossed: Vec<_> = crossed.map(|c| (c.function, c.driver.as_deref())).collect();
    let tiny = Some("tiny");
    assert_eq!(
        crossed,
        [("KfRaiseIrql", tiny), ("EtwEnableCallback", tiny)]
    );
    world.unload_driver(driver);
}
