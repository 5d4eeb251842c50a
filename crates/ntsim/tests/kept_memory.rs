//! The memory of a machine that is gone becomes that of another, which must not notice. One test: worlds of others in the same process
//! would change where it lies.
#![allow(unsafe_code, reason = "a tiny driver")]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::ptr;

use ndis_sys::imports::*;
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::{MachineConfig, Verify, World};

const TAG: u32 = u32::from_le_bytes(*b"Test");

/// Sizes of blocks, from a few bytes to more than stays together in physical memory.
const SIZES: [usize; 7] = [24, 500, 3000, 4096, 20_000, 100_000, 400_000];

/// What a driver sees of its memory. Its own allocations would come from there too, so this needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    address: usize,
    /// Sums over the physical addresses of its pages, and over its bytes.
    physical: u64,
    content: u64,
    is_zero: bool,
}

/// A sum that depends on the order.
fn sum(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x100_0000_01b3)
    })
}

/// # Safety
/// So many bytes of memory.
unsafe fn see(memory: *const u8, len: usize) -> Seen {
    // SAFETY: promised by the caller.
    let bytes = unsafe { std::slice::from_raw_parts(memory, len) };
    let pages = (0..len).step_by(4096).map(|at| {
        // SAFETY: as above.
        unsafe { MmGetPhysicalAddress(memory.wrapping_add(at).cast_mut().cast()) }.cast_unsigned()
    });
    Seen {
        address: memory.addr(),
        physical: sum(pages),
        content: sum(bytes.iter().map(|byte| u64::from(*byte))),
        is_zero: bytes.iter().all(|byte| *byte == 0),
    }
}

/// Maps locked pages once more.
///
/// # Safety
/// The MDL's pages are locked.
unsafe fn map(mdl: *mut MDL) -> *mut u8 {
    // SAFETY: promised by the caller.
    unsafe { MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, ptr::null_mut(), 0, 0).cast() }
}

/// Allocates, looks, writes all over it, maps some of it a second time, and gives back: twice.
fn drive(flags: POOL_FLAGS, seen: &mut Vec<Seen>) {
    for _ in 0..2 {
        let blocks = SIZES.map(|size| {
            // SAFETY: blocks of that many bytes, each freed once.
            unsafe {
                let block = ExAllocatePool2(flags, size, TAG).cast::<u8>();
                seen.push(see(block, size));
                block.write_bytes(0xee, size);
                block
            }
        });
        // SAFETY: a block of so many bytes, which stays until its MDL is gone.
        unsafe {
            let length = 100_000;
            let mdl = IoAllocateMdl(blocks[5].cast(), length, 0, 0, ptr::null_mut());
            MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
            let again = map(mdl);
            seen.push(see(again, length as usize));
            again.write_bytes(0xdd, length as usize);
            MmUnlockPages(mdl);
            IoFreeMdl(mdl);
            for block in blocks {
                ExFreePoolWithTag(block.cast(), TAG);
            }
        }
    }
}

/// The life of two machines.
fn life(verify: Verify) -> Vec<Seen> {
    let mut world = World::builder()
        .seed(5)
        .verify(verify)
        .ignore_environment()
        .build();
    let mut seen = Vec::with_capacity(100);
    for name in ["A", "B"] {
        let machine = world.add_machine(MachineConfig::named(name));
        for flags in [
            POOL_FLAG_NON_PAGED,
            POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED,
        ] {
            world.call(machine, || drive(flags, &mut seen));
        }
    }
    seen
}

/// The files that are machines' memory, living ones' and what is kept: by number, which no other has that lives at the same time.
fn files() -> BTreeSet<u64> {
    let open = std::fs::read_dir("/proc/self/fd").expect("open files");
    let paths = open.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            let name = std::fs::read_link(path).unwrap_or_default();
            name.to_string_lossy().contains("ntsim-ram")
        })
        .filter_map(|path| Some(std::fs::metadata(path).ok()?.ino()))
        .collect()
}

#[test]
fn a_machine_is_the_same_whether_its_memory_is_new_or_not() {
    let mut kept = None;
    for verify in [Verify::Full, Verify::Cheap] {
        let first = life(verify);
        let kept = kept.get_or_insert_with(files);
        assert_eq!(kept.len(), 2, "that of both machines is kept");
        let zeroed = first.iter().filter(|seen| seen.is_zero).count();
        assert_eq!(zeroed, 2 * 2 * SIZES.len(), "two machines, two rounds");
        for round in 0..3 {
            for (again, first) in life(verify).iter().zip(&first) {
                assert_eq!(again, first, "{verify}, life {}", round + 2);
            }
            assert_eq!(
                files(),
                *kept,
                "and is what those of life {} had",
                round + 2
            );
        }
    }
}
