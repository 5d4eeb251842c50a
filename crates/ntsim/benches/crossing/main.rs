//! What the boundary costs: nanoseconds of the host per call.
#![allow(unsafe_code, reason = "calls exports as drivers do")]

mod datapath;
mod miniport;
mod provider;

use std::ffi::c_void;
use std::hint::black_box;
use std::process::ExitCode;
use std::ptr;
use std::time::{Duration, Instant};

use ndis_sys::imports::*;
use ndis_sys::wdm::*;
use ntsim::{MachineConfig, Verify, World};

const CALLS: u32 = 1_000_000;

/// What is measured, and its nanoseconds. What crosses more than once says how often, callbacks included.
type Rows = Vec<(&'static str, f64)>;

/// Whether a row is wanted: one that is named on the command line by a part of its name, or any.
fn is_wanted(what: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let first = names.next();
    first.is_none_or(|first| what.contains(&first)) || names.any(|name| what.contains(&name))
}

fn measure(rows: &mut Rows, what: &'static str, mut f: impl FnMut()) {
    if !is_wanted(what) {
        return;
    }
    let start = Instant::now();
    for _ in 0..CALLS {
        f();
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS);
    // The list is the host's, also where this is kernel code.
    let _books = ntsim::ndk::bookkeeping();
    rows.push((what, each));
}

/// What is called with a scatter/gather list keeps it.
unsafe extern "efiapi" fn take_list(
    _: *mut DEVICE_OBJECT,
    _: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    context: *mut c_void,
) {
    // SAFETY: the context is where the list is wanted.
    unsafe { *context.cast::<*mut SCATTER_GATHER_LIST>() = list };
}

/// An MDL, and a device that is told where its memory is. IRQL: PASSIVE_LEVEL, as code of a driver.
fn dma(measure: &mut dyn FnMut(&'static str, &mut dyn FnMut())) {
    const LENGTH: u32 = 4096;
    let mut description = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION,
        Master: 1,
        ScatterGather: 1,
        Dma64BitAddresses: 1,
        MaximumLength: 1 << 20,
        ..DEVICE_DESCRIPTION::ZEROED
    };
    let mut registers = 0;
    // SAFETY: all objects are on this stack or live until they are given back below; the device object is only a name.
    unsafe {
        let device = ptr::without_provenance_mut(0x1000);
        let adapter = IoGetDmaAdapter(device, &mut description, &mut registers);
        assert!(!adapter.is_null());
        let operations = &*(*adapter).DmaOperations;
        let get = operations.GetScatterGatherList.expect("an entry");
        let put = operations.PutScatterGatherList.expect("an entry");
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, LENGTH as usize, 7);
        assert!(!block.is_null());
        let make = || {
            let mdl = IoAllocateMdl(block, LENGTH, 0, 0, ptr::null_mut());
            MmBuildMdlForNonPagedPool(mdl);
            mdl
        };
        measure("MDL allocated, built and freed, 3 calls", &mut || {
            IoFreeMdl(make())
        });
        let mdl = make();
        let old = KfRaiseIrql(2);
        measure("scatter/gather list got and put, 3 calls", &mut || {
            let mut list = ptr::null_mut::<SCATTER_GATHER_LIST>();
            let out = (&raw mut list).cast();
            let none = ptr::null_mut();
            let status = get(adapter, none, mdl, block, LENGTH, take_list, out, 1);
            assert_eq!(status, 0);
            put(adapter, list, 1);
        });
        KeLowerIrql(old);
        IoFreeMdl(mdl);
        ExFreePool(block);
        operations.PutDmaAdapter.expect("an entry")(adapter);
    }
}

unsafe extern "efiapi" fn nothing(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

/// The kernel's rows, with a verifier that looks at so much and finds nothing.
fn kernel(verify: Verify) -> Rows {
    let mut rows = Rows::new();
    let mut world = World::builder().verify(verify).ignore_environment().build();
    let a = world.add_machine(MachineConfig::named("A"));
    world.call(a, || {
        let mut measure = |what, f: &mut dyn FnMut()| measure(&mut rows, what, f);
        dma(&mut measure);
        let mut lock = 0usize;
        let (mut dpc, mut timer) = (KDPC::ZEROED, KTIMER::ZEROED);
        let mut stamp = 0;
        // SAFETY: all objects are on this stack and not in use when it goes; blocks are freed once.
        unsafe {
            KeInitializeDpc(&mut dpc, nothing, ptr::null_mut());
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            measure("KeGetCurrentIrql", &mut || {
                KeGetCurrentIrql();
            });
            measure("spin lock taken and released, 2 calls", &mut || {
                let old = KeAcquireSpinLockRaiseToDpc(&mut lock);
                KeReleaseSpinLock(&mut lock, old);
            });
            measure("KeQueryInterruptTimePrecise", &mut || {
                KeQueryInterruptTimePrecise(&mut stamp);
            });
            measure("KeInsertQueueDpc and the DPC, 2 calls", &mut || {
                KeInsertQueueDpc(&mut dpc, ptr::null_mut(), ptr::null_mut());
            });
            measure("KeSetTimer, set again", &mut || {
                KeSetTimer(&mut timer, -10_000_000, ptr::null_mut());
            });
            KeCancelTimer(&mut timer);
            measure("pool, 100 bytes and back, 2 calls", &mut || {
                ExFreePool(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 7));
            });
            measure("pool, 4096 bytes and back, 2 calls", &mut || {
                ExFreePool(ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 7));
            });
            // What of the above, with all rules, are system calls: a page is made inaccessible when it is freed, and accessible again.
            let page = libc::mmap(
                ptr::null_mut(),
                3 * 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(page, libc::MAP_FAILED);
            page.write_bytes(1, 3 * 4096);
            let middle = page.byte_add(4096);
            measure("mprotect of a page, there and back", &mut || {
                libc::mprotect(middle, 4096, libc::PROT_NONE);
                libc::mprotect(middle, 4096, libc::PROT_READ | libc::PROT_WRITE);
                middle.cast::<u8>().write_volatile(1);
            });
            libc::munmap(page, 3 * 4096);
            measure("Box, 64 bytes and back", &mut || {
                drop(black_box(Box::new([0u8; 64])));
            });
        }
    });
    measure(&mut rows, "World::call", || world.call(a, || ()));
    measure(&mut rows, "World::run_for, nothing to do", || {
        world.run_for(Duration::ZERO);
    });
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    rows
}

fn main() -> ExitCode {
    let mut measured = 0;
    println!("{:>40} {:>8} {:>8}", "ns per row", "cheap", "full");
    for rows in [kernel, datapath::rows] {
        for ((what, cheap), (_, full)) in rows(Verify::Cheap).into_iter().zip(rows(Verify::Full)) {
            println!("{what:>40} {cheap:8.1} {full:8.1}");
            measured += 1;
        }
    }
    if measured == 0 {
        eprintln!("no row has such a name; without names all are measured");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
