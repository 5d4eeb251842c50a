//! Work items, the event log, debug output, strings.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use common::{broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::{DISPATCH_LEVEL, KernelMode, NTSTATUS};
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

fn device() -> *mut DEVICE_OBJECT {
    ptr::without_provenance_mut(0x1000)
}

unsafe extern "efiapi" fn sleep_and_set(device_object: *mut DEVICE_OBJECT, context: *mut c_void) {
    assert_eq!(device_object, device());
    // SAFETY: the context is an event.
    unsafe {
        assert_eq!(KeGetCurrentIrql(), 0);
        let mut interval = -30_000;
        KeDelayExecutionThread(KernelMode, 0, &mut interval);
        KeSetEvent(context.cast(), 0, 0);
    }
}

unsafe extern "efiapi" fn free_itself(
    _object: *mut c_void,
    context: *mut c_void,
    item: *mut IO_WORKITEM,
) {
    // SAFETY: the context is an event; the item is not queued while its routine runs.
    unsafe {
        IoFreeWorkItem(item);
        KeSetEvent(context.cast(), 0, 0);
    }
}

#[test]
fn work_items_run_at_passive_level_and_may_wait() {
    let (mut world, a) = suspects();
    world.call(a, || {
        let mut event = KEVENT::ZEROED;
        let event = &raw mut event;
        // SAFETY: on this stack, which stays until the routines have run.
        unsafe {
            KeInitializeEvent(event, SynchronizationEvent, 0);
            let item = IoAllocateWorkItem(device());
            let old = KfRaiseIrql(2);
            IoQueueWorkItem(item, sleep_and_set, DelayedWorkQueue, event.cast());
            KeLowerIrql(old);
            KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, ptr::null_mut());
            IoQueueWorkItemEx(item, free_itself, DelayedWorkQueue, event.cast());
            KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, ptr::null_mut());
        }
    });
    assert_eq!(world.now(), Duration::from_millis(3));
    assert_eq!(world.pool_stats(a).driver_blocks, 0);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn work_items_used_wrongly() {
    let (mut world, a) = suspects();
    world.call(a, || {
        let mut event = KEVENT::ZEROED;
        let event = &raw mut event;
        // SAFETY: on this stack, which stays until the routine has run.
        unsafe {
            KeInitializeEvent(event, SynchronizationEvent, 0);
            let item = IoAllocateWorkItem(device());
            IoQueueWorkItem(item, sleep_and_set, DelayedWorkQueue, event.cast());
            IoQueueWorkItem(item, sleep_and_set, DelayedWorkQueue, event.cast());
            IoFreeWorkItem(item);
            IoFreeWorkItem(item);
            KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, ptr::null_mut());
        }
    });
    assert_eq!(broken(&mut world), [rules::WORK_ITEM; 3]);
}

unsafe extern "efiapi" fn hasty_entry(
    _object: *mut DRIVER_OBJECT,
    _path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: needs nothing.
    assert!(!unsafe { IoAllocateWorkItem(device()) }.is_null());
    STATUS_SUCCESS
}

#[test]
fn a_driver_that_goes_and_leaves_a_work_item() {
    let (mut world, a) = suspects();
    let driver = world
        .load_driver(a, "hasty", hasty_entry)
        .expect("it loads");
    world.unload_driver(driver);
    assert_eq!(
        broken(&mut world),
        [rules::WORK_ITEM_AT_UNLOAD, rules::POOL_LEAK]
    );
}

unsafe extern "efiapi" fn failing_entry(
    _object: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: a string of the kernel.
    let length = unsafe { (*path).Length };
    assert_eq!(
        usize::from(length),
        2 * r"\Registry\Machine\System\CurrentControlSet\Services\failing".len()
    );
    -5
}

#[test]
fn a_driver_that_does_not_start() {
    let (mut world, a) = suspects();
    assert_eq!(world.load_driver(a, "failing", failing_entry), Err(-5));
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn the_event_log_keeps_what_drivers_write() {
    let (mut world, a) = suspects();
    world.run_for(Duration::from_millis(1));
    world.call(a, || {
        let text: Vec<u16> = "port\0down\0".encode_utf16().collect();
        let strings_at = 56;
        // SAFETY: the entry has that many bytes.
        unsafe {
            let size = strings_at + text.len() * 2;
            let entry = IoAllocateErrorLogEntry(device().cast(), size as u8);
            let packet = entry.cast::<IO_ERROR_LOG_PACKET>();
            (*packet).ErrorCode = 0xc004_1234_u32.cast_signed();
            (*packet).DumpDataSize = 8;
            (*packet).NumberOfStrings = 2;
            (*packet).StringOffset = strings_at as u16;
            let dump = (&raw mut (*packet).DumpData).cast::<u32>();
            dump.write(7);
            dump.add(1).write(8);
            entry
                .byte_add(strings_at)
                .cast::<u16>()
                .copy_from_nonoverlapping(text.as_ptr(), text.len());
            IoWriteErrorLogEntry(entry);
            assert!(IoAllocateErrorLogEntry(device().cast(), 255).is_null());
            let unused = IoAllocateErrorLogEntry(device().cast(), 64);
            IoFreeErrorLogEntry(unused);
        }
    });
    let log = world.event_log(a);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].time, 1_000_000);
    assert_eq!(log[0].code, 0xc004_1234);
    assert_eq!(log[0].strings, ["port", "down"]);
    assert_eq!(log[0].data, [7, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn debug_output_takes_any_number_of_arguments() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: the arguments are what the formats say.
        unsafe {
            DbgPrintEx(DPFLTR_IHVDRIVER_ID, 0, c"none\n".as_ptr().cast());
            DbgPrintEx(
                DPFLTR_IHVDRIVER_ID,
                3,
                c"%d %u %s %x %I64d %p %c|%5d\n".as_ptr().cast(),
                -1i32,
                2u32,
                c"three".as_ptr(),
                0xfu32,
                -5i64,
                ptr::null::<u8>(),
                u32::from(b'7'),
                8i32,
            );
        }
    });
    assert_eq!(
        world.debug_log(),
        [
            "[A] none\n",
            "[A] -1 2 three f -5 0000000000000000 7|    8\n"
        ]
    );
}

#[test]
fn debug_output_has_a_level() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: the format wants no arguments.
        unsafe {
            DbgPrint(c"plain".as_ptr().cast());
            DbgPrintEx(
                DPFLTR_IHVDRIVER_ID,
                DPFLTR_WARNING_LEVEL,
                c"so".as_ptr().cast(),
            );
        }
    });
    let lines = world.debug_lines(0);
    let levels: Vec<u32> = lines.iter().map(|line| line.level).collect();
    assert_eq!(levels, [DPFLTR_INFO_LEVEL, DPFLTR_WARNING_LEVEL]);
}

#[test]
fn unicode_is_printed_at_passive_level_only() {
    let wide: Vec<u16> = "wide\0".encode_utf16().collect();
    let string = UNICODE_STRING {
        Length: 8,
        MaximumLength: 10,
        Buffer: wide.as_ptr().cast_mut(),
    };
    let all = || {
        // SAFETY: the arguments are what the formats say.
        unsafe {
            DbgPrint(c"%wZ".as_ptr().cast(), &raw const string);
            DbgPrint(c"%ws".as_ptr().cast(), wide.as_ptr());
            DbgPrint(c"%ls".as_ptr().cast(), wide.as_ptr());
            DbgPrint(c"%S".as_ptr().cast(), wide.as_ptr());
            DbgPrintEx(
                DPFLTR_IHVDRIVER_ID,
                0,
                c"%wc".as_ptr().cast(),
                u32::from(b'c'),
            );
            // What is not Unicode.
            let (narrow, n) = (c"narrow".as_ptr(), 7i64);
            DbgPrint(c"%s %hs %c %lld".as_ptr().cast(), narrow, narrow, 99u32, n);
        }
    };
    let (mut world, a) = suspects();
    world.call(a, all);
    assert_eq!(broken(&mut world), [""; 0]);
    world.call_on(a, 0, DISPATCH_LEVEL, all);
    assert_eq!(broken(&mut world), [rules::IRQL; 5]);
}

#[test]
fn strings() {
    let (mut world, a) = suspects();
    world.call(a, || {
        let text: Vec<u16> = "Vroce\0".encode_utf16().collect();
        let other: Vec<u16> = "vROCE!\0".encode_utf16().collect();
        let (mut x, mut y) = (UNICODE_STRING::ZEROED, UNICODE_STRING::ZEROED);
        let mut buffer = [0xffffu16; 4];
        let mut short = UNICODE_STRING {
            MaximumLength: 8,
            Buffer: buffer.as_mut_ptr(),
            ..UNICODE_STRING::ZEROED
        };
        // SAFETY: terminated, and on this stack.
        unsafe {
            RtlInitUnicodeString(&mut x, text.as_ptr());
            RtlInitUnicodeString(&mut y, other.as_ptr());
            assert_eq!((x.Length, x.MaximumLength), (10, 12));
            assert_eq!(RtlEqualUnicodeString(&x, &y, 1), 0);
            assert!(RtlCompareUnicodeString(&x, &y, 1) < 0);
            y.Length = 10;
            assert_eq!(RtlEqualUnicodeString(&x, &y, 1), 1);
            assert_eq!(RtlEqualUnicodeString(&x, &y, 0), 0);
            RtlCopyUnicodeString(&mut short, &x);
            assert_eq!(short.Length, 8);
            assert_eq!(buffer, text[..4]);
            assert_eq!(
                RtlCompareMemory(c"abcd".as_ptr().cast(), c"abxd".as_ptr().cast(), 4),
                2
            );
            let (mut seed, mut same) = (9, 9);
            let first = RtlRandomEx(&mut seed);
            assert_eq!(first, RtlRandomEx(&mut same));
            assert_ne!(first, RtlRandomEx(&mut seed));
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}
