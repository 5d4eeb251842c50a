//! Special pool: who accesses what lies behind a block, or one that was freed, is caught in the act.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::hint::black_box;

use common::TAG;
use ndis_sys::imports::{ExAllocatePool2, ExFreePoolWithTag, MmGetPhysicalAddress};
use ndis_sys::wdm::{POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED};
use ntsim::verifier::rules;
use ntsim::{MachineConfig, MachineId, Verify, Violation, World};

const PAGE: usize = 4096;

fn world(level: Verify, ram: usize) -> (World, MachineId) {
    let mut world = World::builder()
        .ignore_environment()
        .verify(level)
        .collect_violations()
        .build();
    let config = MachineConfig {
        ram,
        ..MachineConfig::named("A")
    };
    let machine = world.add_machine(config);
    (world, machine)
}

/// Gives a block of so many bytes to driver code; the violations, and whether the code came to its end.
fn with_block(level: Verify, size: usize, f: impl FnOnce(*mut u8)) -> (Vec<Violation>, bool) {
    let (mut world, a) = world(level, 64 << 20);
    let ended = world.try_call(a, || f(allocate(size))).is_some();
    if ended {
        world.check_pool(a);
    }
    (world.take_violations(), ended)
}

fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG) };
    assert!(!block.is_null(), "{size} bytes");
    block.cast()
}

fn free(block: *mut u8) {
    // SAFETY: each test frees a block of its own once.
    unsafe { ExFreePoolWithTag(block.cast(), TAG) };
}

fn read(at: *mut u8) {
    // SAFETY: none; the simulator stops what goes wrong.
    black_box(unsafe { at.read_volatile() });
}

fn write(at: *mut u8) {
    // SAFETY: as above.
    unsafe { at.write_volatile(1) };
}

#[track_caller]
fn caught(violations: &[Violation], rule: &str, text: &str) {
    let [violation] = violations else {
        panic!("{violations:?}")
    };
    assert_eq!(violation.rule, rule, "{violation}");
    assert!(violation.text.contains(text), "{violation}");
}

#[test]
fn behind_a_block_nobody_may_write_or_read() {
    for access in [read, write] {
        for (size, behind) in [(24, 8), (4000, 0), (4096, 0), (5000, 3192)] {
            let (violations, ended) = with_block(Verify::Full, size, |block| {
                access(block.wrapping_add(size + behind))
            });
            assert!(!ended, "{size}");
            let text = format!("{behind} bytes behind the block of {size} bytes");
            caught(&violations, rules::POOL_GUARD, &text);
        }
    }
}

#[test]
fn what_is_cheap_finds_that_later_and_reads_never() {
    let (violations, ended) = with_block(Verify::Cheap, 24, |block| write(block.wrapping_add(24)));
    assert!(ended);
    caught(&violations, rules::POOL_GUARD, "0 bytes behind");
    let (violations, ended) = with_block(Verify::Cheap, 24, |block| read(block.wrapping_add(24)));
    assert!(ended && violations.is_empty(), "{violations:?}");
}

#[test]
fn what_is_written_within_the_last_sixteen_bytes_or_before_a_block_is_found_when_it_is_freed() {
    for (at, text) in [(24, "0 bytes behind"), (usize::MAX, "1 bytes before")] {
        let (violations, ended) = with_block(Verify::Full, 24, |block| {
            write(block.wrapping_add(at));
            free(block);
        });
        assert!(ended);
        caught(&violations, rules::POOL_GUARD, text);
    }
}

#[test]
fn a_freed_block_nobody_may_read() {
    for size in [8, 100, 3000, 9000] {
        let (violations, ended) = with_block(Verify::Full, size, |block| {
            free(block);
            read(block.wrapping_add(size / 2));
        });
        assert!(!ended, "{size}");
        let text = format!("offset {} of the block of {size} bytes", size / 2);
        caught(&violations, rules::POOL_USE_AFTER_FREE, &text);
    }
}

#[test]
fn blocks_are_aligned_and_zeroed_as_ever_also_when_their_place_was_used_before() {
    let (violations, ended) = with_block(Verify::Full, 1, |first| {
        free(first);
        for round in 0..3 {
            let mut blocks = Vec::new();
            for size in [1, 15, 16, 17, 100, 2000, 4095, 4096, 10_000] {
                let block = allocate(size);
                assert_eq!(block.addr() % if size < PAGE { 16 } else { PAGE }, 0);
                // SAFETY: the block is ours.
                let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
                assert!(bytes.iter().all(|b| *b == 0), "{size}, round {round}");
                bytes.fill(0xee);
                blocks.push(block);
            }
            // SAFETY: needs nothing.
            let line =
                unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 40, TAG) };
            assert_eq!(line.addr() % 64, 0);
            blocks.push(line.cast());
            blocks.into_iter().for_each(free);
            // More than what is kept back.
            for _ in 0..1100 {
                free(allocate(33));
            }
        }
    });
    assert!(ended && violations.is_empty(), "{violations:?}");
}

/// Driver Verifier does the same. Then guards are what finds it.
#[test]
fn without_room_blocks_are_ordinary_ones() {
    let (mut world, a) = world(Verify::Full, 1 << 20);
    let mut blocks = [std::ptr::null_mut(); 500];
    world.call(a, || blocks.iter_mut().for_each(|b| *b = allocate(64)));
    let stats = world.pool_stats(a);
    assert_eq!(stats.driver_blocks, 500);
    assert!((470..500).contains(&stats.unguarded), "{stats:?}");
    world.call(a, || {
        write(blocks[499].wrapping_add(64));
        blocks.into_iter().for_each(free);
    });
    caught(
        &world.take_violations(),
        rules::POOL_GUARD,
        "0 bytes behind the block of 64 bytes",
    );
}

#[test]
fn room_that_nobody_uses_any_more_is_there_for_who_needs_it() {
    let (mut world, a) = world(Verify::Full, 1 << 20);
    world.call(a, || {
        // Of 176, too many for any to be left between.
        let most = 170 * PAGE;
        free(allocate(most));
        for _ in 0..15 {
            free(allocate(64));
        }
        free(allocate(most));
        free(allocate(64));
    });
    assert_eq!(world.pool_stats(a).driver_allocations, 18);
    assert!(world.take_violations().is_empty());
}

/// Whether a byte may be read: asked of the system, so that the simulator does not hear of it.
fn is_accessible(byte: *const u8) -> bool {
    let mut ends = [0; 2];
    // SAFETY: files of our own; the system says if it cannot read the byte.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let written = libc::write(ends[1], byte.cast(), 1);
        for end in ends {
            libc::close(end);
        }
        written == 1
    }
}

/// A block, its size, what all of it holds.
type Held = (*mut u8, usize, u8);

#[track_caller]
fn check(held: &[Held], freed: &[(*mut u8, usize)], step: u32) {
    for (block, size, byte) in held {
        // SAFETY: a block that was not freed.
        let bytes = unsafe { std::slice::from_raw_parts(*block, *size) };
        assert!(bytes.iter().all(|b| b == byte), "{size} bytes, step {step}");
        let end = size.next_multiple_of(if *size < PAGE { 16 } else { PAGE });
        assert!(
            !is_accessible(block.wrapping_add(end)),
            "{size} bytes, step {step}"
        );
    }
    // Those freed last: places of others may be in use again.
    for (block, size) in freed.iter().rev().take(15) {
        assert!(!is_accessible(*block), "{size} bytes, step {step}");
    }
}

/// In an order that looks like none, so that slots that are inaccessible and slots that are not lie between one another.
#[test]
fn whatever_the_order_what_is_held_is_accessible_and_what_was_just_freed_and_guards_are_not() {
    let (mut world, a) = world(Verify::Full, 64 << 20);
    let mut held: [Held; 700] = [(std::ptr::null_mut(), 0, 0); 700];
    let mut freed = [(std::ptr::null_mut(), 0); 8000];
    world.call(a, || {
        let (mut count, mut gone, mut state) = (0, 0, 1u32);
        let mut next = |below: usize| {
            state = state.wrapping_mul(0x19660d).wrapping_add(0x3c6e_f35f);
            (state >> 8) as usize % below
        };
        for step in 0..16_000 {
            if count == held.len() || count > 0 && next(2) == 0 {
                let (block, size, _) = held[next(count)];
                let at = held[..count]
                    .iter()
                    .position(|h| h.0 == block)
                    .expect("held");
                free(block);
                count -= 1;
                held.swap(at, count);
                if gone < freed.len() {
                    freed[gone] = (block, size);
                    gone += 1;
                }
            } else {
                let size =
                    [1, 40, 700, 4095, 4096, 4097, 8192, 9000][next(8)].min(1 + next(12_000));
                let (block, byte) = (allocate(size), step as u8);
                // SAFETY: the block is ours.
                unsafe { block.write_bytes(byte, size) };
                held[count] = (block, size, byte);
                count += 1;
            }
            if step % 1000 == 0 {
                check(&held[..count], &freed[..gone], step);
            }
        }
        held[..count].iter().for_each(|h| free(h.0));
    });
    assert!(world.take_violations().is_empty());
    assert_eq!(world.pool_stats(a).unguarded, 0);
}

/// Slots are as good as it gets: who frees and allocates has them all, and the one freed last is the last to be had again.
#[test]
fn a_slot_is_had_again_when_all_others_were() {
    let (mut world, a) = world(Verify::Full, 64 << 20);
    world.call(a, || {
        for size in [40, 5000] {
            let first = allocate(size);
            free(first);
            let mut others = 0;
            while {
                let block = allocate(size);
                free(block);
                block != first
            } {
                others += 1;
                assert!(!is_accessible(first), "after {others}");
            }
            assert!(others > 100, "{others}");
        }
    });
    assert!(world.take_violations().is_empty());
    assert_eq!(world.pool_stats(a).unguarded, 0);
}

/// A driver that gives a device one address for a block of two pages is to be found out.
#[test]
fn to_devices_two_pages_are_not_always_one_piece() {
    let (mut world, a) = world(Verify::Full, 64 << 20);
    world.call(a, || {
        let mut in_two = 0;
        for _ in 0..100 {
            let block = allocate(8192);
            // SAFETY: pages of the block.
            let [first, second] =
                [0, PAGE].map(|at| unsafe { MmGetPhysicalAddress(block.add(at).cast()) });
            in_two += u32::from(second != first + PAGE as i64);
            free(block);
        }
        assert!((5..50).contains(&in_two), "{in_two} of 100");
    });
    assert!(world.take_violations().is_empty());
}

/// Nobody can access the block itself any more, but a device knows another way.
#[test]
fn what_a_device_writes_to_a_freed_block_is_found() {
    for (size, all_over) in [(100, false), (5000, false), (100, true)] {
        let (mut world, a) = world(Verify::Full, 64 << 20);
        let ram = world.ram(a);
        let mut block = std::ptr::null_mut();
        world.call(a, || {
            block = allocate(size);
            free(block);
        });
        let physical = ram.physical(block.addr()).expect("memory");
        let seen = ram.device_ptr(ram.logical(physical), 8).expect("memory");
        // SAFETY: memory of the machine, which the device has not been told to leave alone.
        unsafe { seen.add(4).write(1) };
        if all_over {
            // Whoever gets the place next is not to blame.
            world.call(a, || (0..1100).for_each(|_| free(allocate(200))));
        } else {
            world.check_pool(a);
            assert!(!is_accessible(block), "as before");
        }
        let text = format!("at offset 4 of the block of {size} bytes");
        caught(&world.take_violations(), rules::POOL_USE_AFTER_FREE, &text);
    }
}

/// The next block there would have that in its guards, and be found to be another's doing.
#[test]
fn what_a_device_writes_around_a_freed_block_is_found_before_its_place_is_anothers() {
    for (size, at, all_over, place) in [
        (100, 104, false, "4 bytes behind"),
        (100, 104, true, "4 bytes behind"),
        (100, -8, false, "8 bytes before"),
        (100, -8, true, "8 bytes before"),
        (5000, 5003, false, "3 bytes behind"),
        (9000, 9001, false, "1 bytes behind"),
    ] {
        let (mut world, a) = world(Verify::Full, 64 << 20);
        let ram = world.ram(a);
        let mut block = std::ptr::null_mut();
        world.call(a, || {
            block = allocate(size);
            free(block);
        });
        let beside = block.addr().wrapping_add_signed(at);
        let physical = ram.physical(beside).expect("memory");
        let seen = ram.device_ptr(ram.logical(physical), 1).expect("memory");
        // SAFETY: memory of the machine, which the device has not been told to leave alone.
        unsafe { seen.write(1) };
        if all_over {
            world.call(a, || (0..1100).for_each(|_| free(allocate(200))));
        } else {
            world.check_pool(a);
            assert!(!is_accessible(block), "as before");
        }
        let violations = world.take_violations();
        let text = format!("{place} the block of {size} bytes");
        caught(&violations, rules::POOL_GUARD, &text);
        let by = "found by a look at what was freed";
        assert!(violations[0].text.contains(by), "{violations:?}");
    }
}

/// Which addresses of slots follow each other must be the machine's own doing, or a seed would not repeat a run.
#[test]
fn addresses_are_the_same_whether_there_was_a_machine_before_or_not() {
    let addresses = || {
        let (mut world, a) = world(Verify::Full, 64 << 20);
        let mut all = [0_usize; 3000];
        world.call(a, || {
            let mut held = [std::ptr::null_mut::<u8>(); 7];
            for (at, n) in all.iter_mut().zip(0..) {
                let (place, size) = (n % held.len(), [40, 300, 5000][n % 3]);
                if !held[place].is_null() {
                    free(held[place]);
                }
                held[place] = allocate(size);
                *at = held[place].addr();
            }
            held.into_iter().for_each(free);
        });
        assert!(world.finish().is_clean());
        let base = all[0];
        all.map(|at| at.wrapping_sub(base))
    };
    let first = addresses();
    // Its memory, with so many slots, is kept for the next.
    let (mut world, a) = self::world(Verify::Full, 64 << 20);
    world.call(a, || {
        let mut held = [std::ptr::null_mut::<u8>(); 800];
        held.iter_mut().for_each(|block| *block = allocate(40));
        held.into_iter().for_each(free);
    });
    assert!(world.finish().is_clean());
    assert!((0..3).all(|_| addresses() == first));
}

#[test]
fn the_report_says_how_many_blocks_were_not_guarded() {
    for (count, said) in [(10, None), (500, Some("allocation(s) were not guarded"))] {
        let (mut world, a) = world(Verify::Full, 1 << 20);
        world.call(a, || {
            let mut blocks = [std::ptr::null_mut(); 500];
            blocks[..count].iter_mut().for_each(|b| *b = allocate(64));
            blocks[..count].iter().for_each(|b| free(*b));
        });
        let unguarded = world.pool_stats(a).unguarded;
        let report = world.finish();
        assert_eq!(report.unguarded, unguarded);
        assert_eq!(unguarded > 0, said.is_some(), "{report}");
        let line = said.map(|text| format!("{unguarded} {text}"));
        let text = report.to_string();
        assert!(line.is_none_or(|line| text.contains(&line)), "{text}");
    }
}
