//! Ordinary pool: what the verifier accuses of, and what it does not. Special pool: `special_pool.rs`.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::hint::black_box;

use common::{TAG, broken, suspects_of_the_ordinary_pool as suspects};
use ndis_sys::imports::{
    ExAllocatePool2, ExFreePool, ExFreePoolWithTag, KeAcquireSpinLockRaiseToDpc,
    MmGetPhysicalAddress,
};
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{
    DRIVER_OBJECT, POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED,
    POOL_FLAG_UNINITIALIZED, UNICODE_STRING,
};
use ntsim::verifier::rules;
use ntsim::{MachineConfig, Verify, World};

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    world.check_pool(a);
    broken(&mut world)
}

unsafe fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG).cast() }
}

unsafe fn free(block: *mut u8) {
    // SAFETY: promised by the caller.
    unsafe { ExFreePoolWithTag(block.cast(), TAG) };
}

#[test]
fn blocks_are_zeroed_aligned_and_apart() {
    let rules = accused(|| {
        let mut blocks = Vec::new();
        // SAFETY: each block is used within its size and freed once.
        unsafe {
            for size in [
                1usize, 15, 16, 17, 100, 1000, 2000, 2017, 4000, 4095, 4096, 5000, 70_000,
            ] {
                let block = allocate(size);
                assert!(!block.is_null(), "{size} bytes");
                assert_eq!(block.addr() % 16, 0);
                if size >= 4096 {
                    assert_eq!(block.addr() % 4096, 0, "{size} bytes begin a page");
                } else {
                    let last = block.add(size - 1);
                    assert_eq!(
                        block.addr() / 4096,
                        last.addr() / 4096,
                        "{size} bytes in one page"
                    );
                }
                let bytes = std::slice::from_raw_parts_mut(block, size);
                assert!(bytes.iter().all(|b| *b == 0));
                bytes.fill(0xee);
                blocks.push(block);
            }
            for block in blocks {
                free(block);
            }
            let dirty = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, 64, TAG);
            assert_ne!(*dirty.cast::<u64>(), 0);
            ExFreePool(dirty);
            let aligned = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 24, TAG);
            assert_eq!(aligned.addr() % 64, 0);
            ExFreePool(aligned);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn what_is_contiguous_for_the_processor_is_not_for_devices() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: within the block.
        unsafe {
            let block = allocate(256 << 10);
            let physical: Vec<i64> = (0..64)
                .map(|page| MmGetPhysicalAddress(block.add(page * 4096).cast()))
                .collect();
            assert!(physical.iter().all(|p| *p > 1 << 32), "above 4 GiB");
            let jumps = physical.windows(2).filter(|w| w[0] + 4096 != w[1]).count();
            assert!(jumps >= 2, "{jumps} jumps");
            free(block);
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn freeing_twice() {
    assert_eq!(
        accused(|| {
            // SAFETY: the second time is the point.
            unsafe {
                let block = allocate(40);
                free(block);
                free(block);
            }
        }),
        [rules::POOL_DOUBLE_FREE]
    );
}

#[test]
fn freeing_what_was_never_allocated() {
    let rules = accused(|| {
        // SAFETY: that is the point.
        unsafe {
            let block = allocate(40);
            free(block.add(16));
            free(std::ptr::null_mut());
            let mut local = 0u64;
            free((&raw mut local).cast());
            free(block);
        }
    });
    assert_eq!(rules, [rules::POOL_BAD_FREE; 3]);
}

#[test]
fn freeing_with_another_tag() {
    assert_eq!(
        accused(|| {
            // SAFETY: freed once.
            unsafe { ExFreePoolWithTag(allocate(40).cast(), TAG + 1) };
        }),
        [rules::POOL_TAG]
    );
}

#[test]
fn writing_behind_and_before_a_block() {
    for (size, at) in [
        (40usize, 40isize),
        (40, -1),
        (3000, 3000),
        (4096, 4096),
        (5000, 5001),
    ] {
        let (mut world, a) = suspects();
        // Behind whole pages nobody may write at all: the driver does not get further.
        _ = world.try_call(a, || {
            // SAFETY: outside the block, but inside the pool.
            unsafe {
                let block = allocate(size);
                *block.offset(at) = 1;
                free(block);
            }
        });
        let violations = world.take_violations();
        let rules: Vec<_> = violations.iter().map(|v| v.rule).collect();
        assert_eq!(rules, [rules::POOL_GUARD], "{size} bytes, offset {at}");
        assert!(violations[0].text.contains("'Test'"), "{}", violations[0]);
    }
}

#[test]
fn writing_to_freed_memory() {
    assert_eq!(
        accused(|| {
            // SAFETY: pool memory stays mapped.
            unsafe {
                let block = allocate(100);
                free(block);
                *block.add(8) = 1;
            }
        }),
        [rules::POOL_USE_AFTER_FREE]
    );
}

#[test]
fn who_wrote_to_freed_memory_is_told_when_the_world_ends_at_the_latest() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: small blocks stay accessible.
        unsafe {
            let block = allocate(100);
            free(block);
            *block.add(8) = 1;
            let live = allocate(100);
            *live.add(100) = 1;
        }
    });
    assert_eq!(broken(&mut world), [""; 0], "nobody has looked yet");
    let report = world.finish();
    let mut rules: Vec<_> = report.violations.iter().map(|v| v.rule).collect();
    rules.sort_unstable();
    assert_eq!(rules, [rules::POOL_GUARD, rules::POOL_USE_AFTER_FREE]);
    // A world that is dropped fails its test likewise.
    let mut world = World::builder()
        .ignore_environment()
        .verify(Verify::Cheap)
        .build();
    let a = world.add_machine(MachineConfig::named("A"));
    world.call(a, || {
        // SAFETY: small blocks stay accessible.
        unsafe {
            let block = allocate(100);
            free(block);
            *block.add(8) = 1;
        }
    });
    let dropped = std::panic::AssertUnwindSafe(|| drop(world));
    let payload = std::panic::catch_unwind(dropped).expect_err("a broken rule fails the run");
    let text = payload.downcast_ref::<String>().expect("a report");
    assert!(text.contains("pool-use-after-free"), "{text}");
}

unsafe extern "efiapi" fn careless_entry(
    object: *mut DRIVER_OBJECT,
    _path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the object is the driver's; small blocks stay accessible.
    unsafe {
        (*object).DriverUnload = Some(leaky_unload);
        let block = allocate(100);
        free(block);
        *block.add(99) = 1;
    }
    STATUS_SUCCESS
}

#[test]
fn who_wrote_to_freed_memory_is_told_when_the_driver_goes() {
    let (mut world, a) = suspects();
    let driver = world
        .load_driver(a, "careless", careless_entry)
        .expect("it loads");
    assert_eq!(broken(&mut world), [""; 0]);
    world.unload_driver(driver);
    assert_eq!(broken(&mut world), [rules::POOL_USE_AFTER_FREE]);
    world.check_pool(a);
    assert_eq!(broken(&mut world), [""; 0], "once is enough");
}

#[test]
fn large_freed_memory_is_not_even_read() {
    for (size, write) in [(5000, false), (5000, true), (2048, false)] {
        let (mut world, a) = suspects();
        let read = world.try_call(a, || {
            // SAFETY: freed, on purpose.
            unsafe {
                let block = allocate(size);
                free(block);
                if write {
                    block.write_volatile(1);
                }
                block.read_volatile()
            }
        });
        assert_eq!(read, None, "the driver does not get that far");
        let violations = world.take_violations();
        assert_eq!(violations[0].rule, rules::POOL_USE_AFTER_FREE);
        let told = format!("the block of {size} bytes");
        assert!(violations[0].text.contains(&told), "{}", violations[0]);
    }
    // What comes there next is memory like any other.
    let (mut world, a) = suspects();
    world.call(a, || {
        for _ in 0..2000 {
            // SAFETY: within the block.
            unsafe {
                let block = allocate(5000);
                block.write_bytes(7, 5000);
                free(block);
            }
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn freeing_a_held_lock() {
    let rules = accused(|| {
        // SAFETY: a zeroed word is a free lock.
        unsafe {
            let block = allocate(64);
            KeAcquireSpinLockRaiseToDpc(block.cast());
            free(block);
        }
    });
    assert_eq!(
        rules,
        [
            rules::FREED_IN_USE,
            rules::IRQL_AT_RETURN,
            rules::LOCK_AT_RETURN
        ]
    );
}

#[test]
fn senseless_requests() {
    let rules = accused(|| {
        // SAFETY: need nothing.
        unsafe {
            assert!(ExAllocatePool2(POOL_FLAG_NON_PAGED, 0, TAG).is_null());
            assert!(ExAllocatePool2(POOL_FLAG_NON_PAGED, 8, 0).is_null());
            assert!(ExAllocatePool2(0, 8, TAG).is_null());
            assert!(ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_PAGED, 8, TAG).is_null());
        }
    });
    assert_eq!(rules, [rules::POOL_ARGUMENT; 4]);
}

#[test]
fn paged_pool_at_dispatch_level() {
    let (mut world, a) = suspects();
    world.call_on(a, 0, 2, || {
        // SAFETY: freed once.
        unsafe { ExFreePool(ExAllocatePool2(POOL_FLAG_PAGED, 8, TAG)) };
    });
    assert_eq!(broken(&mut world), [rules::IRQL, rules::IRQL]);
}

#[test]
fn rust_allocations_above_dispatch_level() {
    let (mut world, a) = suspects();
    world.call_on(a, 0, 5, || {
        let held = black_box(Box::new(5u64));
        std::mem::forget(held);
    });
    assert_eq!(broken(&mut world), [rules::IRQL]);
}

#[test]
fn running_out_of_memory_is_an_answer() {
    let mut world = World::builder().seed(3).build();
    let a = world.add_machine(MachineConfig::named("small").ram(2 << 20));
    world.call(a, || {
        let mut blocks: Vec<*mut c_void> = Vec::with_capacity(64);
        // SAFETY: freed once.
        unsafe {
            loop {
                let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100_000, TAG);
                if block.is_null() {
                    break;
                }
                blocks.push(block);
            }
            assert!(blocks.len() > 10);
            for block in &blocks {
                ExFreePool(*block);
            }
            // What was freed can be had again.
            let again = ExAllocatePool2(POOL_FLAG_NON_PAGED, 1_000_000, TAG);
            assert!(!again.is_null());
            ExFreePool(again);
        }
        let too_much = Vec::<u8>::new().try_reserve_exact(4 << 20);
        assert!(too_much.is_err());
    });
}

#[test]
fn allocations_fail_when_told_to() {
    let mut world = World::builder().seed(3).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let outcome = |world: &mut World| {
        world.call(a, || {
            // SAFETY: freed once.
            unsafe {
                let blocks = [(); 4].map(|()| allocate(8));
                let got = blocks.map(|b| !b.is_null());
                for block in blocks.into_iter().filter(|b| !b.is_null()) {
                    free(block);
                }
                got
            }
        })
    };
    world.fail_allocations(a, Some(1), false);
    assert!(world.allocation_failure_pending(a));
    assert_eq!(outcome(&mut world), [true, false, true, true]);
    assert!(!world.allocation_failure_pending(a));
    world.fail_allocations(a, Some(2), true);
    assert_eq!(outcome(&mut world), [true, true, false, false]);
    world.fail_allocations(a, None, false);
    assert_eq!(outcome(&mut world), [true; 4]);
}

unsafe extern "efiapi" fn leaky_entry(
    object: *mut DRIVER_OBJECT,
    _path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the object is the driver's.
    unsafe { (*object).DriverUnload = Some(leaky_unload) };
    // SAFETY: needs nothing. One block too many.
    let blocks = unsafe { [allocate(10), allocate(20), allocate(30)] };
    // SAFETY: freed once.
    unsafe { free(blocks[1]) };
    std::mem::forget(black_box(vec![1u8; 7]));
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn leaky_unload(_object: *mut DRIVER_OBJECT) {}

#[test]
fn what_a_driver_leaves_behind_is_listed() {
    let (mut world, a) = suspects();
    let driver = world
        .load_driver(a, "leaky", leaky_entry)
        .expect("it loads");
    assert_eq!(world.pool_stats(a).driver_blocks, 3);
    world.unload_driver(driver);
    let violations = world.take_violations();
    let mut texts: Vec<_> = violations.iter().map(|v| v.text.as_str()).collect();
    texts.sort_unstable();
    assert!(violations.iter().all(|v| v.rule == rules::POOL_LEAK));
    assert_eq!(
        texts,
        [
            "after DriverUnload: A: leaky has 1 block(s), 7 bytes, tag 'vroc', from ExAllocatePool2",
            "after DriverUnload: A: leaky has 2 block(s), 40 bytes, tag 'Test', from ExAllocatePool2",
        ]
    );
}

#[test]
fn the_report_names_rule_history_and_seed() {
    let mut world = World::builder().seed(77).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.call(a, || {
            // SAFETY: the second time is the point.
            unsafe {
                let block = allocate(40);
                free(block);
                free(block);
            }
        });
    }));
    let payload = failed.expect_err("a broken rule fails the run");
    let text = payload.downcast_ref::<String>().expect("a report");
    for part in [
        "pool-double-free",
        "ExFreePoolWithTag",
        "NTSIM_SEED=77 NTSIM_INTERLEAVE=0",
        "on A cpu 0 irql 0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_report_names_the_culprit_and_what_the_rule_says() {
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("server A"));
    world.call(a, || {
        // SAFETY: the second time is the point.
        unsafe {
            let block = allocate(40);
            free(block);
            free(block);
        }
    });
    let violations = world.take_violations();
    let text = violations[0].to_string();
    for part in [
        "rule pool-double-free broken by code of the test: ",
        "that is: Memory was freed twice.",
        "ns  server A cpu 0 irql  0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_report_tells_what_came_before_once_and_ends_with_a_line_for_each() {
    let (mut world, a) = suspects();
    world.try_call(a, || {
        // SAFETY: the pool finds out what is wrong here, and touches nothing.
        unsafe {
            let block = allocate(8);
            free(block);
            free(block);
            ExFreePoolWithTag(allocate(16).cast(), TAG + 1);
        }
    });
    let report = world.finish().to_string();
    let crossings = |function: &str| report.matches(&format!("<- {function}\n")).count();
    assert_eq!(crossings("ExAllocatePool2"), 2, "{report}");
    assert_eq!(crossings("ExFreePoolWithTag"), 3, "{report}");
    let (_, summary) = report.split_once("the 2 violations:\n").expect("a summary");
    let lines: Vec<_> = summary.lines().collect();
    for (line, rule) in lines.iter().zip([rules::POOL_DOUBLE_FREE, rules::POOL_TAG]) {
        let begins = format!("  0 ns: {rule} by code of the test: ExFreePoolWithTag frees 0x");
        assert!(line.starts_with(&begins), "{line}");
    }
    assert_eq!(lines.len(), 2, "{report}");
}
