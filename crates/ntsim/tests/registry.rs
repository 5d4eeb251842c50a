//! The registry, as drivers read it.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ptr::null_mut;

use common::{broken, suspects};
use ndis_sys::imports::{RtlInitUnicodeString, ZwClose, ZwOpenKey, ZwQueryValueKey};
use ndis_sys::status::*;
use ndis_sys::types::HANDLE;
use ndis_sys::wdm::*;
use ntsim::pnp::registry::Value;
use ntsim::verifier::rules;

fn name(units: &[u16]) -> UNICODE_STRING {
    let mut name = UNICODE_STRING::ZEROED;
    // SAFETY: terminated by `wide`.
    unsafe { RtlInitUnicodeString(&mut name, units.as_ptr()) };
    name
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn open(root: HANDLE, path: &str) -> Result<HANDLE, i32> {
    let path = wide(path);
    let (mut path, mut key) = (name(&path), null_mut());
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root,
        ObjectName: &mut path,
        ..OBJECT_ATTRIBUTES::ZEROED
    };
    // SAFETY: everything lies on this stack.
    match unsafe { ZwOpenKey(&mut key, 0x20019, &mut attributes) } {
        STATUS_SUCCESS => Ok(key),
        status => Err(status),
    }
}

/// Status, length told, and as many bytes as there was room for.
fn query(key: HANDLE, value: &str, class: i32, room: usize) -> (i32, u32, Vec<u8>) {
    let value = wide(value);
    let (mut value, mut bytes, mut length) = (name(&value), vec![0xaa; room], 0);
    // SAFETY: the buffer has the length that is told.
    let status = unsafe {
        let buffer = bytes.as_mut_ptr().cast();
        ZwQueryValueKey(key, &mut value, class, buffer, room as u32, &mut length)
    };
    (status, length, bytes)
}

const SERVICE: &str = r"\Registry\Machine\System\CurrentControlSet\Services\tiny";

#[test]
fn a_driver_reads_its_parameters() {
    let (mut world, a) = suspects();
    world.registry(a, |registry| {
        let key = registry.create(r"SYSTEM\CurrentControlSet\Services\Tiny\Parameters");
        key.set("Depth", 0x1234);
        key.set("Name", "ab");
        key.set("Names", Value::MultiSz(vec!["x".into(), "y".into()]));
    });
    world.call(a, || {
        let service = open(null_mut(), SERVICE).unwrap();
        let key = open(service, "parameters").unwrap();
        let partial = |kind: u8, data: &[u8]| {
            let mut bytes = vec![0, 0, 0, 0, kind, 0, 0, 0, data.len() as u8, 0, 0, 0];
            bytes.extend(data);
            bytes
        };
        let depth = partial(4, &[0x34, 0x12, 0, 0]);
        assert_eq!(
            query(key, "depth", KeyValuePartialInformation, 16),
            (STATUS_SUCCESS, 16, depth)
        );
        let text = partial(1, b"a\0b\0\0\0");
        assert_eq!(
            query(key, "Name", KeyValuePartialInformation, 18),
            (STATUS_SUCCESS, 18, text)
        );
        let texts = partial(7, b"x\0\0\0y\0\0\0\0\0");
        assert_eq!(
            query(key, "Names", KeyValuePartialInformation, 22),
            (STATUS_SUCCESS, 22, texts)
        );
        // As much as fits, or nothing if not even the fixed part does.
        let (status, length, bytes) = query(key, "Name", KeyValuePartialInformation, 14);
        assert_eq!(
            (status, length, &bytes[12..]),
            (STATUS_BUFFER_OVERFLOW, 18, &b"a\0"[..])
        );
        let (status, length, bytes) = query(key, "Name", KeyValuePartialInformation, 11);
        assert_eq!(
            (status, length, bytes),
            (STATUS_BUFFER_TOO_SMALL, 18, vec![0xaa; 11])
        );
        let (status, _, bytes) = query(key, "Depth", KeyValueFullInformation, 36);
        assert_eq!(
            (status, bytes[8], &bytes[20..30], &bytes[32..]),
            (
                STATUS_SUCCESS,
                32,
                &b"D\0e\0p\0t\0h\0"[..],
                &[0x34, 0x12, 0, 0][..]
            )
        );
        let (status, ..) = query(key, "Width", KeyValuePartialInformation, 64);
        assert_eq!(status, STATUS_OBJECT_NAME_NOT_FOUND);
        for (root, path) in [
            (service, "Nothing"),
            (null_mut(), r"\Registry\User\x"),
            (null_mut(), "x"),
        ] {
            assert_eq!(
                open(root, path),
                Err(STATUS_OBJECT_NAME_NOT_FOUND),
                "{path}"
            );
        }
        // SAFETY: open handles.
        unsafe {
            assert_eq!(
                (ZwClose(key), ZwClose(service)),
                (STATUS_SUCCESS, STATUS_SUCCESS)
            )
        };
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn a_closed_key_is_none() {
    let (mut world, a) = suspects();
    world.registry(a, |registry| {
        registry.create(r"System\CurrentControlSet\Services\tiny");
    });
    world.call(a, || {
        let key = open(null_mut(), SERVICE).unwrap();
        // SAFETY: an open handle.
        unsafe { ZwClose(key) };
        assert_eq!(
            query(key, "x", KeyValuePartialInformation, 64).0,
            STATUS_INVALID_HANDLE
        );
    });
    assert_eq!(broken(&mut world), [rules::REFERENCE]);
}

unsafe extern "efiapi" fn forgetful(_object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> i32 {
    let mut key = null_mut();
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        ObjectName: path,
        ..OBJECT_ATTRIBUTES::ZEROED
    };
    // SAFETY: everything lies on this stack, or is the kernel's.
    unsafe { ZwOpenKey(&mut key, 0x20019, &mut attributes) }
}

#[test]
fn the_key_of_a_service_is_there_and_one_that_stays_open_is_told_of() {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "tiny", forgetful).unwrap();
    world.unload_driver(driver);
    let found = world.take_violations();
    assert_eq!(found[0].rule, rules::HANDLE_AT_UNLOAD);
    assert!(
        found[0].text.contains(r"Services\tiny"),
        "{}",
        found[0].text
    );
}

#[test]
fn what_windows_has_and_the_simulator_has_not_is_told_as_that() {
    /// `KeyValueFullInformationAlign64`.
    const ALIGNED: i32 = 3;
    let (mut world, a) = suspects();
    world.registry(a, |registry| {
        let key = registry.create(r"System\CurrentControlSet\Services\tiny");
        key.set("Depth", 1);
    });
    world.call(a, || {
        let key = open(null_mut(), SERVICE).unwrap();
        let (status, ..) = query(key, "Depth", ALIGNED, 64);
        assert_eq!(status, STATUS_NOT_SUPPORTED);
        // SAFETY: an open handle.
        unsafe { ZwClose(key) };
    });
    let found = world.take_violations();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, rules::NOT_SIMULATED);
    assert_eq!(found[0].culprit, "", "nobody is to blame");
    assert!(found[0].to_string().starts_with("not simulated: ZwQuery"));
}
