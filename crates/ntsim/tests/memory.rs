//! MDLs and DMA: what they do, and what the verifier accuses of.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

use common::{TAG, broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::{STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

/// How far a device's addresses are from physical ones, of the first machine: they begin at 32 GiB, those at 5.
const DISTANCE: i64 = 0x8_0000_0000 - 0x1_4000_0000;

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    broken(&mut world)
}

unsafe fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG).cast() }
}

unsafe fn mdl_over(block: *mut u8, len: u32) -> *mut MDL {
    // SAFETY: the buffer is not accessed.
    let mdl = unsafe { IoAllocateMdl(block.cast(), len, 0, 0, ptr::null_mut()) };
    assert!(!mdl.is_null());
    mdl
}

unsafe fn map(mdl: *mut MDL) -> *mut u8 {
    // SAFETY: promised by the caller.
    unsafe {
        MmMapLockedPagesSpecifyCache(
            mdl,
            KernelMode,
            MmCached,
            ptr::null_mut(),
            0,
            NormalPagePriority,
        )
        .cast()
    }
}

#[test]
fn an_mdl_describes_pool_and_its_parts() {
    let rules = accused(|| {
        // SAFETY: all within the block.
        unsafe {
            let block = allocate(3 * 65536);
            for i in 0..3 * 65536 {
                *block.add(i) = (i / 7) as u8;
            }
            let mdl = mdl_over(block.add(100), 150_000);
            assert_eq!(
                usize::try_from((*mdl).Size),
                Ok(MmSizeOfMdl(block.add(100).cast(), 150_000))
            );
            MmBuildMdlForNonPagedPool(mdl);
            assert_ne!((*mdl).MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL, 0);
            assert_eq!((*mdl).MappedSystemVa, block.add(100).cast());
            let pfns = mdl.add(1).cast::<u64>();
            for page in 0..37 {
                let physical = MmGetPhysicalAddress(block.add(page * 4096).cast());
                assert_eq!(*pfns.add(page), physical as u64 / 4096);
            }
            // A part, mapped at an address of its own, shows the same bytes.
            let part = mdl_over(block.add(60_000), 20_000);
            IoBuildPartialMdl(mdl, part, block.add(60_000).cast(), 20_000);
            assert_ne!((*part).MdlFlags & MDL_PARTIAL, 0);
            assert_eq!((*part).MappedSystemVa, block.add(60_000).cast());
            IoFreeMdl(part);
            IoFreeMdl(mdl);
            ExFreePool(block.cast());
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn locked_pages_are_mapped_at_another_address() {
    let rules = accused(|| {
        // SAFETY: all within the block, the mapping used while it is there.
        unsafe {
            let block = allocate(200_000);
            let mdl = mdl_over(block.add(5000), 100_000);
            MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
            let view = map(mdl);
            assert!(!view.is_null());
            assert_ne!(view, block.add(5000));
            assert_eq!(view.addr() % 4096, block.add(5000).addr() % 4096);
            for i in [0, 1, 60_000, 99_999] {
                *view.add(i) = 0xa7;
                assert_eq!(*block.add(5000 + i), 0xa7);
            }
            assert_eq!(
                MmGetPhysicalAddress(view.add(70_000).cast()),
                MmGetPhysicalAddress(block.add(75_000).cast())
            );
            assert_eq!(MmIsAddressValid(view.cast()), 1);
            MmUnmapLockedPages(view.cast(), mdl);
            assert_eq!(MmIsAddressValid(view.cast()), 0);
            let again = map(mdl);
            assert!(!again.is_null());
            // Unlocking takes the mapping along.
            MmUnlockPages(mdl);
            assert_eq!(MmIsAddressValid(again.cast()), 0);
            IoFreeMdl(mdl);
            ExFreePool(block.cast());
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn mdls_in_the_wrong_state() {
    type Case = (&'static str, fn(*mut u8, *mut MDL));
    let cases: [Case; 6] = [
        ("mapped before it has pages", |_, mdl| {
            // SAFETY: an MDL.
            assert!(unsafe { map(mdl) }.is_null());
        }),
        ("built twice", |_, mdl| {
            // SAFETY: an MDL over the block.
            unsafe {
                MmBuildMdlForNonPagedPool(mdl);
                MmBuildMdlForNonPagedPool(mdl);
            }
        }),
        ("non-paged pool mapped again", |block, mdl| {
            // SAFETY: an MDL over the block.
            unsafe {
                MmBuildMdlForNonPagedPool(mdl);
                assert_eq!(map(mdl), block);
            }
        }),
        ("unlocked without having been locked", |_, mdl| {
            // SAFETY: an MDL.
            unsafe { MmUnlockPages(mdl) };
        }),
        ("unmapped without having been mapped", |block, mdl| {
            // SAFETY: an MDL.
            unsafe { MmUnmapLockedPages(block.cast(), mdl) };
        }),
        ("freed while locked", |_, mdl| {
            // SAFETY: an MDL over the block.
            unsafe {
                MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
                IoFreeMdl(mdl);
            }
        }),
    ];
    for (what, case) in cases {
        let rules = accused(|| {
            // SAFETY: the MDL is over the block.
            unsafe {
                let block = allocate(8192);
                case(block, mdl_over(block, 8192));
            }
        });
        assert_eq!(rules, [rules::MDL_STATE], "{what}");
    }
}

#[test]
fn mdls_over_what_is_not_memory_of_the_machine() {
    let rules = accused(|| {
        let mut local = [0u8; 64];
        // SAFETY: the buffer is not accessed.
        unsafe {
            let mdl = mdl_over(local.as_mut_ptr(), 64);
            MmBuildMdlForNonPagedPool(mdl);
        }
    });
    assert_eq!(rules, [rules::BAD_ADDRESS]);
}

#[test]
fn a_part_that_is_not_within_the_whole() {
    let rules = accused(|| {
        // SAFETY: nothing is accessed.
        unsafe {
            let block = allocate(8192);
            let mdl = mdl_over(block, 4096);
            MmBuildMdlForNonPagedPool(mdl);
            let part = mdl_over(block, 8192);
            IoBuildPartialMdl(mdl, part, block.cast(), 5000);
        }
    });
    assert_eq!(rules, [rules::MDL_STATE]);
}

#[test]
fn freeing_pool_that_an_mdl_locks() {
    let rules = accused(|| {
        // SAFETY: freed too early on purpose.
        unsafe {
            let block = allocate(8192);
            let mdl = mdl_over(block, 100);
            MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
            ExFreePool(block.cast());
            MmUnlockPages(mdl);
            IoFreeMdl(mdl);
        }
    });
    assert_eq!(rules, [rules::FREED_IN_USE]);
}

thread_local! {
    /// The pieces of the last list: address, length.
    static PIECES: RefCell<[(i64, u32); 64]> = const { RefCell::new([(0, 0); 64]) };
}

unsafe extern "efiapi" fn take_list(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    context: *mut c_void,
) {
    // SAFETY: the list is as the adapter made it, the context a place for its address.
    unsafe {
        let elements = list.add(1).cast::<SCATTER_GATHER_ELEMENT>();
        PIECES.with(|pieces| {
            let mut pieces = pieces.borrow_mut();
            pieces.fill((0, 0));
            for i in 0..(*list).NumberOfElements as usize {
                pieces[i] = ((*elements.add(i)).Address, (*elements.add(i)).Length);
            }
        });
        assert_eq!(KeGetCurrentIrql(), 2);
        *context.cast::<*mut SCATTER_GATHER_LIST>() = list;
    }
}

unsafe fn adapter() -> (*mut DMA_ADAPTER, &'static DMA_OPERATIONS) {
    let mut description = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION,
        Master: 1,
        ScatterGather: 1,
        Dma64BitAddresses: 1,
        MaximumLength: 1 << 20,
        ..DEVICE_DESCRIPTION::ZEROED
    };
    let mut registers = 0;
    let pdo = ptr::without_provenance_mut(0x1000);
    // SAFETY: on this stack; the device object is only a name.
    unsafe {
        let adapter = IoGetDmaAdapter(pdo, &mut description, &mut registers);
        assert!(!adapter.is_null());
        assert_eq!(registers, 257);
        (adapter, &*(*adapter).DmaOperations)
    }
}

#[test]
fn scatter_gather_lists_follow_physical_memory() {
    let rules = accused(|| {
        // SAFETY: used as the adapter's functions want it.
        unsafe {
            let (adapter, operations) = adapter();
            let block = allocate(200_000);
            let mdl = mdl_over(block.add(10), 150_000);
            MmBuildMdlForNonPagedPool(mdl);
            let mut list = ptr::null_mut::<SCATTER_GATHER_LIST>();
            let out = (&raw mut list).cast();
            let old = KfRaiseIrql(2);
            let get = operations.GetScatterGatherList.expect("an entry");
            let put = operations.PutScatterGatherList.expect("an entry");
            let status = get(
                adapter,
                ptr::null_mut(),
                mdl,
                block.add(10 + 5000).cast(),
                100_000,
                take_list,
                out,
                1,
            );
            assert_eq!(status, STATUS_SUCCESS);
            let mut at = 5010;
            PIECES.with(|pieces| {
                for (address, len) in pieces.borrow().iter().take_while(|p| p.1 != 0) {
                    let physical = MmGetPhysicalAddress(block.add(at).cast());
                    // A numbering of its own, in which neighbours are neighbours.
                    assert_eq!(*address - physical, DISTANCE);
                    at += *len as usize;
                }
            });
            assert_eq!(at, 105_010);
            put(adapter, list, 1);

            let calculate = operations.CalculateScatterGatherList.expect("an entry");
            let (mut size, mut registers) = (0, 0);
            let va = block.add(10).cast();
            calculate(adapter, mdl, va, 150_000, &mut size, &mut registers);
            assert_eq!(registers, 37);
            let buffer = allocate(size as usize);
            let build = operations.BuildScatterGatherList.expect("an entry");
            let short = build(
                adapter,
                ptr::null_mut(),
                mdl,
                va,
                150_000,
                take_list,
                out,
                0,
                buffer.cast(),
                size - 1,
            );
            assert_eq!(short, STATUS_BUFFER_TOO_SMALL);
            let built = build(
                adapter,
                ptr::null_mut(),
                mdl,
                va,
                150_000,
                take_list,
                out,
                0,
                buffer.cast(),
                size,
            );
            assert_eq!((built, list.cast()), (STATUS_SUCCESS, buffer));
            put(adapter, list, 0);
            KeLowerIrql(old);
            IoFreeMdl(mdl);
            ExFreePool(buffer.cast());
            ExFreePool(block.cast());
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert_eq!(rules, [""; 0]);
}

/// Asks for the list of a page of pool, into `out`.
unsafe fn ask_for_list(adapter: *mut DMA_ADAPTER, mdl: *mut MDL, out: *mut c_void) {
    // SAFETY: promised by the caller.
    unsafe {
        let operations = &*(*adapter).DmaOperations;
        let get = operations.GetScatterGatherList.expect("an entry");
        let old = KfRaiseIrql(2);
        let va = (*mdl).MappedSystemVa;
        let status = get(adapter, ptr::null_mut(), mdl, va, 4096, take_list, out, 1);
        KeLowerIrql(old);
        assert_eq!(status, STATUS_SUCCESS);
    }
}

#[test]
fn lists_wait_for_map_registers() {
    let (mut world, a) = suspects();
    let mut lists = Box::new([ptr::null_mut::<SCATTER_GATHER_LIST>(); 3]);
    let places = lists.each_mut().map(|list| (&raw mut *list).cast());
    world.withhold_map_registers(a, Some(1));
    let (adapter, mdl, block) = world.call(a, || {
        // SAFETY: the block stays until its MDL and lists are gone.
        unsafe {
            let block = allocate(4096);
            let mdl = mdl_over(block, 4096);
            MmBuildMdlForNonPagedPool(mdl);
            let (adapter, _) = adapter();
            for place in places {
                ask_for_list(adapter, mdl, place);
            }
            (adapter, mdl, block)
        }
    });
    world.run_until_idle();
    assert_eq!(world.lists_waiting(a), 2);
    assert_eq!(lists.map(|list| list.is_null()), [false, true, true]);
    world.withhold_map_registers(a, None);
    world.run_until_idle();
    assert_eq!(world.lists_waiting(a), 0);
    assert!(lists.iter().all(|list| !list.is_null()));
    world.call(a, || {
        // SAFETY: as above; each list is given back once.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            let put = operations.PutScatterGatherList.expect("an entry");
            let old = KfRaiseIrql(2);
            lists.iter().for_each(|list| put(adapter, *list, 1));
            KeLowerIrql(old);
            operations.PutDmaAdapter.expect("an entry")(adapter);
            IoFreeMdl(mdl);
            ExFreePool(block.cast());
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn an_adapter_given_back_while_a_list_waits_is_a_leak() {
    let (mut world, a) = suspects();
    let mut list = Box::new(ptr::null_mut::<SCATTER_GATHER_LIST>());
    world.withhold_map_registers(a, Some(0));
    world.call(a, || {
        // SAFETY: the block and its MDL stay.
        unsafe {
            let mdl = mdl_over(allocate(4096), 4096);
            MmBuildMdlForNonPagedPool(mdl);
            let (adapter, operations) = adapter();
            ask_for_list(adapter, mdl, (&raw mut *list).cast());
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert_eq!(broken(&mut world)[0], rules::DMA_LEAK);
}

#[test]
fn a_common_buffer_is_all_within_what_the_device_reaches() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: used as the adapter's functions want it.
        unsafe {
            let (adapter, operations) = adapter();
            let allocate = operations.AllocateCommonBufferEx.expect("an entry");
            let free = operations.FreeCommonBuffer.expect("an entry");
            let get = |mut last: i64| {
                let mut logical = 0;
                let buffer = allocate(adapter, &mut last, 10_000, &mut logical, 1, 0);
                if !buffer.is_null() {
                    free(adapter, 10_000, logical, buffer, 1);
                }
                (!buffer.is_null()).then_some(logical)
            };
            // What is free is given again: it is the same place each time.
            let logical = get((1 << 40) - 1).expect("a buffer within 40 bits");
            assert_eq!(get(logical + 9_999), Some(logical));
            assert_eq!(get(logical + 9_998), None);
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn common_buffers_are_contiguous_and_reachable_for_devices() {
    let (mut world, a) = suspects();
    let ram = world.ram(a);
    let (adapter, buffer, logical) = world.call(a, || {
        // SAFETY: used as the adapter's functions want it.
        unsafe {
            let (adapter, operations) = adapter();
            let mut logical = 0;
            let allocate = operations.AllocateCommonBuffer.expect("an entry");
            let buffer = allocate(adapter, 100_000, &mut logical, 1).cast::<u8>();
            assert!(!buffer.is_null());
            // No 32 bits hold it, and 36 bits do.
            assert!((1 << 32..1 << 36).contains(&logical));
            for page in 0..25 {
                let physical = MmGetPhysicalAddress(buffer.add(page * 4096).cast());
                assert_eq!(physical + DISTANCE, logical + page as i64 * 4096);
            }
            // Nothing says that it is zeroed.
            assert!((0..100_000).all(|at| *buffer.add(at) == 0xa5));
            *buffer.add(77_777) = 0x5a;
            (adapter, buffer, logical)
        }
    });
    let device = logical as u64;
    assert!(ram.dma_allowed(device, 100_000, true));
    assert!(!ram.dma_allowed((logical - DISTANCE) as u64, 100_000, false));
    assert!(!ram.dma_allowed(device + 100_000, 4096, false));
    let seen = ram.device_ptr(device + 77_777, 1).expect("it is memory");
    // SAFETY: a byte of the machine's memory.
    assert_eq!(unsafe { *seen }, 0x5a);
    world.call(a, || {
        // SAFETY: as above.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            operations.FreeCommonBuffer.expect("an entry")(
                adapter,
                100_000,
                logical,
                buffer.cast(),
                1,
            );
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert!(!ram.dma_allowed(device, 1, false));
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn devices_may_access_what_is_mapped_and_in_that_direction() {
    let (mut world, a) = suspects();
    let ram = world.ram(a);
    world.call(a, || {
        // SAFETY: used as the adapter's functions want it.
        unsafe {
            let (adapter, operations) = adapter();
            let get = operations.GetScatterGatherList.expect("an entry");
            let put = operations.PutScatterGatherList.expect("an entry");
            let block = allocate(4096);
            let mdl = mdl_over(block, 4096);
            MmBuildMdlForNonPagedPool(mdl);
            let logical = (MmGetPhysicalAddress(block.cast()) + DISTANCE) as u64;
            let may = || {
                (
                    ram.dma_allowed(logical, 4096, false),
                    ram.dma_allowed(logical, 4096, true),
                )
            };
            let mut list = ptr::null_mut::<SCATTER_GATHER_LIST>();
            let out = (&raw mut list).cast();
            assert_eq!(may(), (false, false));
            let old = KfRaiseIrql(2);
            get(
                adapter,
                ptr::null_mut(),
                mdl,
                block.cast(),
                4096,
                take_list,
                out,
                1,
            );
            assert_eq!(may(), (true, false));
            put(adapter, list, 1);
            get(
                adapter,
                ptr::null_mut(),
                mdl,
                block.cast(),
                4096,
                take_list,
                out,
                0,
            );
            assert_eq!(may(), (true, true));
            put(adapter, list, 0);
            assert_eq!(may(), (false, false));
            KeLowerIrql(old);
            IoFreeMdl(mdl);
            ExFreePool(block.cast());
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn freeing_memory_that_a_device_may_access() {
    for size in [4096, 100] {
        let (mut world, a) = suspects();
        let free = |block: *mut u8| {
            // SAFETY: freed once, the second block too early on purpose.
            unsafe { ExFreePool(block.cast()) };
        };
        let [before, block, behind] = world.call(a, || {
            // SAFETY: within the blocks.
            unsafe {
                let (adapter, operations) = adapter();
                let blocks = [(); 3].map(|()| allocate(size));
                let block = blocks[1];
                let mdl = mdl_over(block, size as u32);
                MmBuildMdlForNonPagedPool(mdl);
                let mut list = ptr::null_mut::<SCATTER_GATHER_LIST>();
                let out = (&raw mut list).cast();
                let old = KfRaiseIrql(2);
                operations.GetScatterGatherList.expect("an entry")(
                    adapter,
                    ptr::null_mut(),
                    mdl,
                    block.cast(),
                    size as u32,
                    take_list,
                    out,
                    1,
                );
                KeLowerIrql(old);
                blocks
            }
        });
        // Small blocks share a page, and what lies beside the mapping may go.
        world.call(a, || {
            free(before);
            free(behind);
        });
        assert_eq!(broken(&mut world), [""; 0], "{size} bytes");
        world.call(a, || free(block));
        assert_eq!(
            broken(&mut world),
            [rules::DMA_FREED_MAPPED],
            "{size} bytes"
        );
    }
}

#[test]
fn giving_an_adapter_back_too_early_and_a_list_twice() {
    let rules = accused(|| {
        // SAFETY: wrong on purpose.
        unsafe {
            let (adapter, operations) = adapter();
            let mut logical = 0;
            operations.AllocateCommonBuffer.expect("an entry")(adapter, 100, &mut logical, 1);
            let old = KfRaiseIrql(2);
            let mut list = SCATTER_GATHER_LIST::ZEROED;
            operations.PutScatterGatherList.expect("an entry")(adapter, &mut list, 1);
            KeLowerIrql(old);
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    assert_eq!(rules, [rules::DMA_MISUSE, rules::DMA_LEAK]);
}

#[test]
fn device_memory_that_is_none() {
    let rules = accused(|| {
        // SAFETY: nothing is accessed.
        unsafe {
            assert!(MmMapIoSpaceEx(0xf000_0000, 4096, PAGE_READWRITE).is_null());
            MmUnmapIoSpace(ptr::without_provenance_mut(0x1000), 4096);
            assert_eq!(MmGetPhysicalAddress(ptr::without_provenance_mut(0x1000)), 0);
        }
    });
    assert_eq!(rules, [rules::BAD_ADDRESS; 3]);
}
