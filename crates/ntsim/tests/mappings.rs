//! A process may have only so many mappings, and special pool takes two for each block: it takes no more than are to be had, however many
//! machines there are. One test: others in the same process would have some, too.
#![allow(unsafe_code, reason = "a tiny driver")]

use ndis_sys::imports::{ExAllocatePool2, ExFreePool};
use ndis_sys::wdm::{POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED};
use ntsim::{MachineConfig, MachineId, World};

const TAG: u32 = u32::from_le_bytes(*b"Test");

/// Mappings of machines' memory.
fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    maps.lines().filter(|l| l.contains("ntsim-ram")).count()
}

/// What the system allows.
fn allowed() -> usize {
    let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a limit");
    allowed.trim().parse().expect("a number")
}

fn world() -> World {
    World::builder().ignore_environment().build()
}

fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG) };
    assert!(!block.is_null(), "{size} bytes");
    block.cast()
}

fn allocate_paged(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, size, TAG) };
    assert!(!block.is_null(), "{size} bytes");
    block.cast()
}

fn free(block: *mut u8) {
    // SAFETY: each block is freed once.
    unsafe { ExFreePool(block.cast()) };
}

/// Allocates and frees blocks of one page and of two, one after the other.
fn pass_through(world: &mut World, machine: MachineId) {
    world.call(machine, || {
        for _ in 0..3000 {
            free(allocate(40));
            free(allocate(5000));
        }
    });
}

#[test]
fn there_are_as_many_as_blocks_are_held_and_never_too_many() {
    // What was freed is kept back, but not without end.
    let mut counts = Vec::new();
    for _ in 0..3 {
        let mut world = world();
        let a = world.add_machine(MachineConfig::named("A"));
        let before = mapped();
        pass_through(&mut world, a);
        let more = mapped().saturating_sub(before);
        assert!(more <= 2 * 2 * 256, "{more}");
        assert_eq!(world.pool_stats(a).unguarded, 0);
        assert!(world.finish().is_clean());
        // The memory is kept for the next.
        counts.push(mapped());
    }
    assert_eq!(counts, [counts[0]; 3]);

    // More machines than could have special pool for all that they hold.
    let mut world = world();
    let mut held = Vec::new();
    for number in 0..40 {
        let machine = world.add_machine(MachineConfig::named(format!("M{number}")));
        pass_through(&mut world, machine);
        let mut blocks = [std::ptr::null_mut(); 1000];
        world.call(machine, || {
            for (block, size) in blocks
                .iter_mut()
                .zip([40, 3000, 4096, 100].into_iter().cycle())
            {
                *block = allocate(size);
                // SAFETY: the block is ours.
                unsafe { block.write_bytes(7, size) };
            }
        });
        held.push((machine, blocks));
    }
    let most = allowed() / 4 * 3;
    assert!(mapped() < most + 40 * 100, "{}", mapped());
    let unguarded = |world: &World, of: &(MachineId, _)| world.pool_stats(of.0).unguarded;
    assert_eq!(unguarded(&world, &held[0]), 0);
    assert_eq!(unguarded(&world, &held[39]) > 0, most < 80_000);
    for (machine, blocks) in &held {
        world.call(*machine, || blocks.iter().for_each(|block| free(*block)));
        world.check_pool(*machine);
    }
    assert!(world.finish().is_clean());

    // Nor are there too many when blocks that never were in special pool are freed, each beside one that is held; and paged ones are inaccessible
    // however many there are.
    let mut world = self::world();
    let mut held = Vec::new();
    for number in 0..40 {
        let machine = world.add_machine(MachineConfig::named(format!("F{number}")));
        let (mut blocks, mut paged) = ([std::ptr::null_mut(); 2400], [std::ptr::null_mut(); 300]);
        world.call(machine, || {
            blocks.iter_mut().for_each(|block| *block = allocate(4096));
            blocks.iter().step_by(2).for_each(|block| free(*block));
            for (block, spacer) in paged.iter_mut().zip(blocks.iter_mut().step_by(2)) {
                (*block, *spacer) = (allocate_paged(40), allocate(4096));
                // SAFETY: the block is ours, and the IRQL is PASSIVE_LEVEL.
                unsafe { block.write(1) };
            }
        });
        held.push((machine, blocks, paged));
    }
    assert!(mapped() < allowed(), "{}", mapped());
    for (machine, blocks, paged) in &held {
        world.call(*machine, || {
            blocks
                .iter()
                .skip(1)
                .step_by(2)
                .for_each(|block| free(*block));
            for (block, spacer) in paged.iter().zip(blocks.iter().step_by(2)) {
                free(*block);
                free(*spacer);
            }
        });
        world.check_pool(*machine);
    }
    assert!(world.finish().is_clean());

    // What they had is to be had again.
    let mut world = self::world();
    let a = world.add_machine(MachineConfig::named("A"));
    pass_through(&mut world, a);
    assert_eq!(world.pool_stats(a).unguarded, 0);
    assert!(world.finish().is_clean());
}
