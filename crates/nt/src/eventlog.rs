//! Entries of the system event log.

use core::ptr::NonNull;

use crate::sys;
use crate::sys::types::NTSTATUS;
use crate::sys::wdm::{DEVICE_OBJECT, ERROR_LOG_MAXIMUM_SIZE, IO_ERROR_LOG_PACKET};

/// What to log.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Message identifier: the text comes from the message file the INF names.
    pub code: NTSTATUS,
    /// Tells places in the driver apart that log the same code.
    pub unique: u32,
    /// The status that made it worth logging.
    pub status: NTSTATUS,
    /// ASCII texts for the message's insertions (%2 and up; %1 is the device's name). What does not fit is left out.
    pub strings: &'a [&'a str],
}

/// Writes an entry about a device. The log may be out of memory: then nothing is written. IRQL: <= DISPATCH_LEVEL.
///
/// # Safety
/// `device` is a device object of this driver.
pub unsafe fn write(device: *mut DEVICE_OBJECT, entry: &Entry<'_>) {
    let strings_at = size_of::<IO_ERROR_LOG_PACKET>();
    let mut end = strings_at;
    let mut count = 0;
    for string in entry.strings {
        let next = end + (string.len() + 1) * 2;
        if next > ERROR_LOG_MAXIMUM_SIZE {
            break;
        }
        end = next;
        count += 1;
    }
    let Ok(size) = u8::try_from(end) else { return };
    // SAFETY: the device is the caller's promise, the size within the limit.
    let memory = unsafe { sys::IoAllocateErrorLogEntry(device.cast(), size) };
    let Some(memory) = NonNull::new(memory.cast::<u8>()) else {
        return;
    };
    let packet = IO_ERROR_LOG_PACKET {
        NumberOfStrings: count,
        StringOffset: strings_at as u16,
        ErrorCode: entry.code,
        UniqueErrorValue: entry.unique,
        FinalStatus: entry.status,
        ..IO_ERROR_LOG_PACKET::ZEROED
    };
    // SAFETY: `size` bytes, aligned as pool is: the packet first, then the strings counted above, each with its terminator.
    unsafe {
        memory.cast::<IO_ERROR_LOG_PACKET>().write(packet);
        let mut unit = memory.add(strings_at).cast::<u16>();
        for string in entry.strings.iter().take(usize::from(count)) {
            for byte in string.bytes() {
                unit.write(u16::from(byte));
                unit = unit.add(1);
            }
            unit.write(0);
            unit = unit.add(1);
        }
        sys::IoWriteErrorLogEntry(memory.as_ptr().cast());
    }
}
