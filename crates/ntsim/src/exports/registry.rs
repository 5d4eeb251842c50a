//! `Zw*Key`: the registry, as drivers read it.

use std::ffi::c_void;

use ndis_sys::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use ndis_sys::types::{HANDLE, NTSTATUS};
use ndis_sys::wdm::{
    KEY_VALUE_INFORMATION_CLASS, KeyValueBasicInformation, KeyValueFullInformation,
    KeyValuePartialInformation, OBJECT_ATTRIBUTES, REG_BINARY, REG_DWORD, REG_EXPAND_SZ,
    REG_MULTI_SZ, REG_NONE, REG_QWORD, REG_SZ, UNICODE_STRING,
};

use super::ob::Objects;
use super::rtl;
use crate::pnp::MachineRegistry;
use crate::pnp::registry::Value;
use crate::verifier::{self, cross, rules};
use crate::world::context;

exports! {
    "ntoskrnl.exe";
    ZwOpenKey: PASSIVE..=PASSIVE,
    ZwQueryValueKey: PASSIVE..=PASSIVE,
}

/// How paths in the Object Manager's name space begin that lead to `HKEY_LOCAL_MACHINE`.
const LOCAL_MACHINE: &str = "\\registry\\machine";

/// Bytes of a key object: nobody looks into it.
const KEY_OBJECT: usize = 16;

/// The path below `HKEY_LOCAL_MACHINE`, if a path leads there.
pub(crate) fn below_local_machine(path: &str) -> Option<&str> {
    let head = path.get(..LOCAL_MACHINE.len())?;
    let rest = &path[LOCAL_MACHINE.len()..];
    let ends = rest.is_empty() || rest.starts_with('\\');
    (head.eq_ignore_ascii_case(LOCAL_MACHINE) && ends).then(|| rest.trim_matches('\\'))
}

/// Opens a key.
///
/// # Safety
/// `KeyHandle` must be valid for a write, `ObjectAttributes` point at attributes whose name is a string.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ZwOpenKey(
    KeyHandle: *mut HANDLE,
    DesiredAccess: u32,
    ObjectAttributes: *mut OBJECT_ATTRIBUTES,
) -> NTSTATUS {
    let crossing = cross(&functions::ZwOpenKey);
    let _ = DesiredAccess;
    // SAFETY: promised by the caller. What lies behind the length is there only if the length says so.
    let (attributes, name) = unsafe {
        if (&raw const (*ObjectAttributes).Length).read() as usize != size_of::<OBJECT_ATTRIBUTES>()
        {
            return STATUS_INVALID_PARAMETER;
        }
        let attributes = &*ObjectAttributes;
        (
            attributes,
            String::from_utf16_lossy(rtl::counted(attributes.ObjectName)),
        )
    };
    let machine = context::machine();
    let objects = machine.ext::<Objects>();
    let path = if attributes.RootDirectory.is_null() {
        let Some(path) = below_local_machine(&name) else {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        };
        path.to_owned()
    } else {
        let Some(root) = objects.key(attributes.RootDirectory) else {
            return STATUS_INVALID_HANDLE;
        };
        format!("{root}\\{name}")
    };
    let registry = machine.ext::<MachineRegistry>();
    if registry.0.borrow().open(&path).is_none() {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if crossing.is_from_driver() && machine.faults.strikes("ZwOpenKey") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(object) = machine.kernel_alloc(KEY_OBJECT, "ZwOpenKey") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let handle = objects.open_key(object, machine.owner(&crossing), path);
    // SAFETY: promised by the caller.
    unsafe { KeyHandle.write(handle) };
    STATUS_SUCCESS
}

/// Type and bytes of a value, as the configuration manager keeps them.
fn raw(value: &Value) -> (u32, Vec<u8>) {
    let units = |text: &str| -> Vec<u8> {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    match value {
        Value::None(bytes) => (REG_NONE, bytes.clone()),
        Value::Sz(text) => (REG_SZ, units(text)),
        Value::ExpandSz(text) => (REG_EXPAND_SZ, units(text)),
        Value::Binary(bytes) => (REG_BINARY, bytes.clone()),
        Value::Dword(number) => (REG_DWORD, number.to_le_bytes().to_vec()),
        Value::MultiSz(texts) => {
            let mut bytes: Vec<u8> = texts.iter().flat_map(|text| units(text)).collect();
            bytes.extend([0, 0]);
            (REG_MULTI_SZ, bytes)
        }
        Value::Qword(number) => (REG_QWORD, number.to_le_bytes().to_vec()),
    }
}

/// A value in the form that a class asks for, and how many bytes of it are fixed.
fn information(
    class: KEY_VALUE_INFORMATION_CLASS,
    name: &str,
    value: &Value,
) -> Option<(Vec<u8>, usize)> {
    let (kind, data) = raw(value);
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bytes = Vec::new();
    let mut put = |words: &[u32]| bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    let (length, name_length) = (data.len() as u32, name.len() as u32);
    // Title index, type, and what else the class has.
    if class == KeyValuePartialInformation {
        put(&[0, kind, length]);
        let fixed = bytes.len();
        bytes.extend(data);
        Some((bytes, fixed))
    } else if class == KeyValueBasicInformation {
        put(&[0, kind, name_length]);
        let fixed = bytes.len();
        bytes.extend(name);
        Some((bytes, fixed))
    } else if class == KeyValueFullInformation {
        let offset = (20 + name_length).next_multiple_of(8);
        put(&[0, kind, offset, length, name_length]);
        let fixed = bytes.len();
        bytes.extend(name);
        bytes.resize(offset as usize, 0);
        bytes.extend(data);
        Some((bytes, fixed))
    } else {
        None
    }
}

/// Tells a key's value.
///
/// # Safety
/// `ValueName` must point at a string, `KeyValueInformation` at `Length` bytes, `ResultLength` at a number.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ZwQueryValueKey(
    KeyHandle: HANDLE,
    ValueName: *mut UNICODE_STRING,
    KeyValueInformationClass: KEY_VALUE_INFORMATION_CLASS,
    KeyValueInformation: *mut c_void,
    Length: u32,
    ResultLength: *mut u32,
) -> NTSTATUS {
    let crossing = cross(&functions::ZwQueryValueKey);
    let machine = context::machine();
    let Some(path) = machine.ext::<Objects>().key(KeyHandle) else {
        verifier::violation(
            rules::REFERENCE,
            format!("ZwQueryValueKey: {KeyHandle:p} is not an open handle of a key"),
        );
        return STATUS_INVALID_HANDLE;
    };
    // SAFETY: promised by the caller.
    let name = String::from_utf16_lossy(unsafe { rtl::counted(ValueName) });
    let registry = machine.ext::<MachineRegistry>();
    let registry = registry.0.borrow();
    let Some(value) = registry.open(&path).and_then(|key| key.value(&name)) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let Some((bytes, fixed)) = information(KeyValueInformationClass, &name, value) else {
        verifier::violation(
            rules::NOT_SIMULATED,
            format!("ZwQueryValueKey with the information class {KeyValueInformationClass}"),
        );
        return STATUS_NOT_SUPPORTED;
    };
    if crossing.is_from_driver() && machine.faults.strikes("ZwQueryValueKey") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let room = Length as usize;
    // SAFETY: promised by the caller.
    unsafe {
        ResultLength.write(bytes.len() as u32);
        if room < fixed {
            return STATUS_BUFFER_TOO_SMALL;
        }
        let fits = room.min(bytes.len());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), KeyValueInformation.cast(), fits);
        if fits < bytes.len() {
            return STATUS_BUFFER_OVERFLOW;
        }
    }
    STATUS_SUCCESS
}
