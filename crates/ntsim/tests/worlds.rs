//! What worlds hold of the host's system is given back when they are dropped, however they ended, but for the memory of a machine, which
//! the next one gets. One test: others in the same process would hold some of it too.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{start, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;

/// Open files and mapped bytes of machines' memory, and mapped stacks.
fn held() -> (usize, usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd")
        .expect("open files")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.to_string_lossy().contains("ntsim-ram"))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    let mapped = maps.lines().filter(|l| l.contains("ntsim-ram")).count();
    // A kernel thread's stack: so many bytes that can be written.
    let stacks = maps
        .lines()
        .filter_map(|line| {
            let (from, to) = line.split_whitespace().next()?.split_once('-')?;
            let size =
                usize::from_str_radix(to, 16).ok()? - usize::from_str_radix(from, 16).ok()?;
            (line.contains("rw-p") && size == 1 << 20).then_some(())
        })
        .count();
    (files, mapped, stacks)
}

unsafe extern "efiapi" fn terminates(_context: *mut c_void) {
    // SAFETY: a system thread, whose stack holds nothing.
    unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

#[test]
fn worlds_leave_nothing_behind() {
    let bugcheck = || {
        let (mut world, a) = suspects();
        // SAFETY: that is the point.
        let returned = world.try_call(a, || unsafe { KeBugCheckEx(0xdead, 1, 2, 3, 4) });
        assert!(returned.is_none());
    };
    let deadlock = || {
        let (mut world, a) = suspects();
        let returned = world.try_call(a, || {
            let mut event = KEVENT::ZEROED;
            // SAFETY: an event on this stack.
            unsafe {
                KeInitializeEvent(&raw mut event, NotificationEvent, 0);
                let event = (&raw mut event).cast();
                KeWaitForSingleObject(event, Executive, KernelMode, 0, ptr::null_mut());
            }
        });
        assert!(returned.is_none());
    };
    let threads = || {
        let (mut world, a) = suspects();
        for _ in 0..20 {
            world.call(a, || {
                // SAFETY: a routine that needs no context.
                unsafe {
                    let handle = start(terminates, ptr::null_mut()).expect("a thread");
                    ZwClose(handle);
                }
            });
            world.run_until_idle();
            assert!(held().2 <= 3, "a stack for each thread that has ended");
        }
    };
    bugcheck();
    let before = held();
    for _ in 0..20 {
        bugcheck();
        deadlock();
    }
    threads();
    assert_eq!(held(), before);
    let kept =
        "one machine's memory: the contiguous zone, the pool, slots of two sizes, what devices see";
    assert_eq!((before.0, before.1), (1, 5), "{kept}");
}
