//! `Rtl*`: strings, memory, random numbers.

use std::ffi::c_void;

use ndis_sys::types::BOOLEAN;
use ndis_sys::wdm::UNICODE_STRING;

use crate::verifier::{self, cross, rules};

exports! {
    "ntoskrnl.exe";
    RtlInitUnicodeString: PASSIVE..=DISPATCH,
    RtlCopyUnicodeString: PASSIVE..=HIGH,
    RtlEqualUnicodeString: PASSIVE..=PASSIVE,
    RtlCompareUnicodeString: PASSIVE..=PASSIVE,
    RtlCompareMemory: PASSIVE..=HIGH,
    RtlRandomEx: PASSIVE..=APC,
}

/// The units of a terminated string, without the terminator.
///
/// # Safety
/// `string` must point at units up to a zero.
pub(crate) unsafe fn terminated<'a>(string: *const u16) -> &'a [u16] {
    let mut len = 0;
    // SAFETY: promised by the caller.
    unsafe {
        while *string.add(len) != 0 {
            len += 1;
        }
        std::slice::from_raw_parts(string, len)
    }
}

/// The units of a counted string.
///
/// # Safety
/// `string` must be null or point at a counted string.
pub(crate) unsafe fn counted<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: promised by the caller.
    match unsafe { string.as_ref() } {
        Some(string) if !string.Buffer.is_null() => {
            // SAFETY: promised by the caller.
            unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length) / 2) }
        }
        _ => &[],
    }
}

/// Makes a counted string of a terminated one.
///
/// # Safety
/// `DestinationString` must be valid for a write, `SourceString` null or terminated.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlInitUnicodeString(
    DestinationString: *mut UNICODE_STRING,
    SourceString: *const u16,
) {
    let _crossing = cross(&functions::RtlInitUnicodeString);
    let bytes = if SourceString.is_null() {
        None
    } else {
        // SAFETY: promised by the caller. Longer strings than a length field can say are cut, as on Windows.
        let bytes = unsafe { terminated(SourceString) }.len() * 2;
        Some(u16::try_from(bytes).unwrap_or(0xfffc).min(0xfffc))
    };
    // SAFETY: promised by the caller.
    unsafe {
        DestinationString.write(UNICODE_STRING {
            Length: bytes.unwrap_or(0),
            MaximumLength: bytes.map_or(0, |b| b + 2),
            Buffer: SourceString.cast_mut(),
        });
    }
}

/// Copies as much as fits.
///
/// # Safety
/// `DestinationString` must point at a string with a buffer, `SourceString` at a string or be null.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlCopyUnicodeString(
    DestinationString: *mut UNICODE_STRING,
    SourceString: *const UNICODE_STRING,
) {
    let _crossing = cross(&functions::RtlCopyUnicodeString);
    // SAFETY: promised by the caller.
    unsafe {
        let source = counted(SourceString);
        let destination = &mut *DestinationString;
        let room = usize::from(destination.MaximumLength) / 2;
        let units = source.len().min(room);
        std::ptr::copy(source.as_ptr(), destination.Buffer, units);
        destination.Length = (units * 2) as u16;
        if units < room {
            destination.Buffer.add(units).write(0);
        }
    }
}

fn upper(unit: u16) -> u16 {
    let Some(c) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(u), None) => u16::try_from(u32::from(u)).unwrap_or(unit),
        _ => unit,
    }
}

fn compare(a: &[u16], b: &[u16], ignore_case: bool) -> i32 {
    let fold = |unit: &u16| if ignore_case { upper(*unit) } else { *unit };
    for (a, b) in a.iter().zip(b) {
        let difference = i32::from(fold(a)) - i32::from(fold(b));
        if difference != 0 {
            return difference;
        }
    }
    a.len() as i32 - b.len() as i32
}

/// Whether two strings are equal.
///
/// # Safety
/// Both must point at strings.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlEqualUnicodeString(
    String1: *const UNICODE_STRING,
    String2: *const UNICODE_STRING,
    CaseInSensitive: BOOLEAN,
) -> BOOLEAN {
    let _crossing = cross(&functions::RtlEqualUnicodeString);
    // SAFETY: promised by the caller.
    let (a, b) = unsafe { (counted(String1), counted(String2)) };
    BOOLEAN::from(compare(a, b, CaseInSensitive != 0) == 0)
}

/// Orders two strings.
///
/// # Safety
/// Both must point at strings.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlCompareUnicodeString(
    String1: *const UNICODE_STRING,
    String2: *const UNICODE_STRING,
    CaseInSensitive: BOOLEAN,
) -> i32 {
    let _crossing = cross(&functions::RtlCompareUnicodeString);
    // SAFETY: promised by the caller.
    let (a, b) = unsafe { (counted(String1), counted(String2)) };
    compare(a, b, CaseInSensitive != 0)
}

/// How many leading bytes are equal.
///
/// # Safety
/// Both sources must have that many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlCompareMemory(
    Source1: *const c_void,
    Source2: *const c_void,
    Length: usize,
) -> usize {
    let _crossing = cross(&functions::RtlCompareMemory);
    // SAFETY: promised by the caller.
    let (a, b) = unsafe {
        (
            std::slice::from_raw_parts(Source1.cast::<u8>(), Length),
            std::slice::from_raw_parts(Source2.cast::<u8>(), Length),
        )
    };
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A pseudo-random number below 2^31 - 1, and the next seed.
///
/// # Safety
/// `Seed` must point at a number.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn RtlRandomEx(Seed: *mut u32) -> u32 {
    let _crossing = cross(&functions::RtlRandomEx);
    if Seed.is_null() {
        verifier::bugcheck(
            rules::BAD_ADDRESS,
            "RtlRandomEx: the seed's address is null",
        );
    }
    // A Lehmer generator: the documentation promises a uniform distribution and no particular sequence.
    // SAFETY: promised by the caller.
    let seed = u64::from(unsafe { *Seed }) % 0x7fff_ffff;
    let next = ((seed.max(1) * 48_271) % 0x7fff_ffff) as u32;
    // SAFETY: promised by the caller.
    unsafe { *Seed = next };
    next
}
