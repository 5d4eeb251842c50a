//! What the boundary costs: nanoseconds of the host per call.
#![allow(unsafe_code, reason = "calls exports as drivers do")]

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::time::{Duration, Instant};

use ndis_sys::imports::*;
use ndis_sys::wdm::*;
use ntsim::{MachineConfig, World};

const CALLS: u32 = 1_000_000;

fn measure(what: &str, mut f: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..CALLS {
        f();
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS);
    println!("{what:>34} {each:8.1} ns");
}

unsafe extern "efiapi" fn nothing(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

fn main() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    world.call(a, || {
        let mut lock = 0usize;
        let (mut dpc, mut timer) = (KDPC::ZEROED, KTIMER::ZEROED);
        let mut stamp = 0;
        // SAFETY: all objects are on this stack and not in use when it goes; blocks are freed once.
        unsafe {
            KeInitializeDpc(&mut dpc, nothing, ptr::null_mut());
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            measure("KeGetCurrentIrql", || {
                KeGetCurrentIrql();
            });
            measure("spin lock, taken and released", || {
                let old = KeAcquireSpinLockRaiseToDpc(&mut lock);
                KeReleaseSpinLock(&mut lock, old);
            });
            measure("KeQueryInterruptTimePrecise", || {
                KeQueryInterruptTimePrecise(&mut stamp);
            });
            measure("KeInsertQueueDpc, which runs it", || {
                KeInsertQueueDpc(&mut dpc, ptr::null_mut(), ptr::null_mut());
            });
            measure("KeSetTimer, set again", || {
                KeSetTimer(&mut timer, -10_000_000, ptr::null_mut());
            });
            KeCancelTimer(&mut timer);
            measure("pool, 100 bytes and back", || {
                ExFreePool(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 7));
            });
            measure("pool, 4096 bytes and back", || {
                ExFreePool(ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 7));
            });
            measure("Box, 64 bytes and back", || {
                drop(black_box(Box::new([0u8; 64])));
            });
        }
    });
    measure("World::call", || world.call(a, || ()));
    measure("World::run_for, nothing to do", || {
        world.run_for(Duration::ZERO);
    });
}
