//! Every place where MDLs, addresses and DMA adapters are found to be used wrongly: what is done, and part of what the report must say.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr::{self, null_mut, without_provenance_mut};

use common::{TAG, broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use ndis_sys::types::{KernelMode, UserMode};
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

/// Done as driver code at PASSIVE_LEVEL, in a world of its own.
type Misuse = unsafe fn();

/// Does each, and looks that it breaks this rule, and nothing else.
fn each_is_named(rule: &str, misuses: &[(&str, Misuse)]) {
    for (says, misuse) in misuses {
        let (mut world, a) = suspects();
        // SAFETY: what is done wrongly is caught.
        let _ = world.try_call(a, || unsafe { misuse() });
        let found = world.take_violations();
        let [violation] = &found[..] else {
            panic!("{says}: one violation: {found:#?}");
        };
        assert_eq!(violation.rule, rule, "{says}");
        assert!(violation.text.contains(says), "{says}: {}", violation.text);
    }
}

unsafe fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG).cast() }
}

/// An MDL for a block.
unsafe fn mdl_for(block: *mut u8, len: u32) -> *mut MDL {
    // SAFETY: the buffer is not accessed.
    unsafe { IoAllocateMdl(block.cast(), len, 0, 0, null_mut()) }
}

/// An MDL that describes a new block of two pages.
unsafe fn built() -> *mut MDL {
    // SAFETY: as documented.
    unsafe {
        let mdl = mdl_for(allocate(8192), 8192);
        MmBuildMdlForNonPagedPool(mdl);
        mdl
    }
}

/// An MDL that locks a new block of two pages.
unsafe fn locked() -> *mut MDL {
    // SAFETY: as documented.
    unsafe {
        let mdl = mdl_for(allocate(8192), 8192);
        MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
        mdl
    }
}

unsafe fn map(mdl: *mut MDL, mode: i8) -> *mut c_void {
    let (cached, priority) = (MmCached, NormalPagePriority);
    // SAFETY: as documented, or wrong on purpose.
    unsafe { MmMapLockedPagesSpecifyCache(mdl, mode, cached, null_mut(), 0, priority) }
}

/// Writes another frame into an MDL's page array.
unsafe fn change_a_page(mdl: *mut MDL) {
    // SAFETY: it has two pages.
    unsafe { *mdl.add(1).cast::<u64>().add(1) += 1 };
}

#[test]
fn every_misuse_of_an_mdl_is_named() {
    each_is_named(
        rules::MDL_STATE,
        &[
            ("IoAllocateMdl was given an IRP", || {
                // SAFETY: it is only a name.
                unsafe {
                    IoAllocateMdl(allocate(64).cast(), 64, 0, 0, without_provenance_mut(16));
                }
            }),
            ("whose pages are still locked", || {
                // SAFETY: freed too early.
                unsafe { IoFreeMdl(locked()) };
            }),
            ("are not within the 8192 bytes", || {
                // SAFETY: nothing is read.
                unsafe {
                    let (whole, part) = (built(), mdl_for(null_mut(), 8192));
                    IoBuildPartialMdl(whole, part, (*whole).MappedSystemVa, 8193);
                }
            }),
            ("the pages of the source MDL", || {
                // SAFETY: both have room for a page.
                unsafe {
                    let block = allocate(4096);
                    let (whole, part) = (mdl_for(block, 4096), mdl_for(block, 4096));
                    IoBuildPartialMdl(whole, part, block.cast(), 64);
                }
            }),
            ("need", || {
                // SAFETY: nothing is written.
                unsafe {
                    let whole = built();
                    let va = (*whole).MappedSystemVa;
                    IoBuildPartialMdl(whole, mdl_for(va.cast(), 1), va, 8192);
                }
            }),
            ("is built, locked or mapped already", || {
                // SAFETY: built twice.
                unsafe { MmBuildMdlForNonPagedPool(built()) };
            }),
            ("is built, locked or partial already", || {
                // SAFETY: built and locked.
                unsafe { MmProbeAndLockPages(built(), KernelMode, IoReadAccess) };
            }),
            ("is to be mapped for user mode", || {
                // SAFETY: nothing is mapped.
                unsafe {
                    let mdl = locked();
                    map(mdl, UserMode);
                    MmUnlockPages(mdl);
                }
            }),
            ("is mapped already", || {
                // SAFETY: mapped twice.
                unsafe {
                    let mdl = locked();
                    assert_eq!(map(mdl, KernelMode), map(mdl, KernelMode));
                    MmUnlockPages(mdl);
                }
            }),
            ("describes non-paged pool, which has an address", || {
                // SAFETY: nothing is mapped.
                unsafe { map(built(), KernelMode) };
            }),
            ("has no pages: lock them first", || {
                // SAFETY: nothing is mapped.
                unsafe { map(mdl_for(allocate(64), 64), KernelMode) };
            }),
            ("is not mapped at", || {
                // SAFETY: nothing is mapped.
                unsafe {
                    let mdl = locked();
                    MmUnmapLockedPages((*mdl).StartVa, mdl);
                    MmUnlockPages(mdl);
                }
            }),
            ("are not locked", || {
                // SAFETY: unlocked twice.
                unsafe {
                    let mdl = locked();
                    MmUnlockPages(mdl);
                    MmUnlockPages(mdl);
                }
            }),
        ],
    );
}

#[test]
fn every_change_of_what_an_mdl_describes_is_named() {
    each_is_named(
        rules::MDL_STATE,
        &[
            ("IoFreeMdl: the MDL at", || {
                // SAFETY: changed on purpose.
                unsafe {
                    let mdl = built();
                    change_a_page(mdl);
                    IoFreeMdl(mdl);
                }
            }),
            (
                "since MmProbeAndLockPages filled in its pages: page 1",
                || {
                    // SAFETY: changed on purpose.
                    unsafe {
                        let mdl = locked();
                        change_a_page(mdl);
                        MmUnlockPages(mdl);
                    }
                },
            ),
            ("MmMapLockedPagesSpecifyCache: the MDL at", || {
                // SAFETY: changed on purpose.
                unsafe {
                    let mdl = locked();
                    change_a_page(mdl);
                    map(mdl, KernelMode);
                    MmUnlockPages(mdl);
                }
            }),
            ("IoBuildPartialMdl: the MDL at", || {
                // SAFETY: changed on purpose.
                unsafe {
                    let (whole, part) = (built(), mdl_for(null_mut(), 8192));
                    change_a_page(whole);
                    IoBuildPartialMdl(whole, part, (*whole).MappedSystemVa, 64);
                }
            }),
            (
                "since IoBuildPartialMdl filled in its pages: page 1",
                || {
                    // SAFETY: changed on purpose.
                    unsafe {
                        let (whole, part) = (built(), mdl_for(null_mut(), 8192));
                        IoBuildPartialMdl(whole, part, (*whole).MappedSystemVa, 0);
                        change_a_page(part);
                        IoFreeMdl(part);
                    }
                },
            ),
            ("the buffer begins at", || {
                // SAFETY: changed on purpose.
                unsafe {
                    let mdl = built();
                    (*mdl).ByteOffset += 8;
                    (*mdl).ByteCount -= 8;
                    IoFreeMdl(mdl);
                }
            }),
            ("it has 3 pages, not 2", || {
                // SAFETY: changed on purpose.
                unsafe {
                    let mdl = built();
                    (*mdl).ByteCount += 1;
                    IoFreeMdl(mdl);
                }
            }),
        ],
    );
    // NdisAdjustMdlLength does no more than this.
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: as documented.
        unsafe {
            let mdl = built();
            (*mdl).ByteCount = 10;
            IoFreeMdl(mdl);
        }
    });
    assert_eq!(common::broken(&mut world), [""; 0]);
}

#[test]
fn every_address_that_is_none_is_named() {
    each_is_named(
        rules::BAD_ADDRESS,
        &[
            (
                "IoGetDmaAdapter: the physical device object is null",
                || {
                    let mut description = DEVICE_DESCRIPTION::ZEROED;
                    // SAFETY: on this stack.
                    unsafe { IoGetDmaAdapter(null_mut(), &mut description, &mut 0) };
                },
            ),
            ("MmBuildMdlForNonPagedPool: the buffer at", || {
                // SAFETY: the buffer is not accessed.
                unsafe { MmBuildMdlForNonPagedPool(mdl_for(without_provenance_mut(4096), 64)) };
            }),
            ("MmProbeAndLockPages raises", || {
                let mdl = || {
                    // SAFETY: the buffer is not accessed.
                    unsafe { mdl_for(without_provenance_mut(4096), 64) }
                };
                // SAFETY: as above.
                unsafe { MmProbeAndLockPages(mdl(), KernelMode, IoReadAccess) };
            }),
            ("MmProbeAndLockPages raises", || {
                // SAFETY: no process has such memory.
                unsafe { MmProbeAndLockPages(mdl_for(allocate(64), 64), UserMode, IoReadAccess) };
            }),
            ("MmGetPhysicalAddress: 0x1000", || {
                // SAFETY: it is not accessed.
                unsafe { MmGetPhysicalAddress(without_provenance_mut(0x1000)) };
            }),
            ("MmMapIoSpaceEx: no device has 4096 bytes", || {
                // SAFETY: nothing is mapped.
                unsafe { MmMapIoSpaceEx(0xf000_0000, 4096, PAGE_READWRITE) };
            }),
            ("MmUnmapIoSpace: 4096 bytes at", || {
                // SAFETY: nothing is unmapped.
                unsafe { MmUnmapIoSpace(without_provenance_mut(0x1000), 4096) };
            }),
            ("IoWriteErrorLogEntry: there is no entry at", || {
                // SAFETY: nothing is read.
                unsafe { IoWriteErrorLogEntry(without_provenance_mut(0x1000)) };
            }),
            ("dump data or strings of the entry", || {
                // SAFETY: an entry whose strings begin behind its end.
                unsafe {
                    let object = without_provenance_mut(0x1000);
                    let entry = IoAllocateErrorLogEntry(object, 64).cast::<IO_ERROR_LOG_PACKET>();
                    (*entry).NumberOfStrings = 1;
                    (*entry).StringOffset = 64;
                    IoWriteErrorLogEntry(entry.cast());
                }
            }),
            ("RtlRandomEx: the seed's address is null", || {
                // SAFETY: nothing is read.
                unsafe { RtlRandomEx(null_mut()) };
            }),
            ("the affinity's group or reserved fields", || {
                let mut affinity = GROUP_AFFINITY {
                    Mask: 1,
                    Group: 1,
                    ..GROUP_AFFINITY::ZEROED
                };
                // SAFETY: on this stack.
                unsafe { KeSetSystemGroupAffinityThread(&mut affinity, null_mut()) };
            }),
        ],
    );
}

/// A DMA adapter for transfers of up to 64 KiB, that is with 17 map registers.
unsafe fn adapter() -> *mut DMA_ADAPTER {
    let mut description = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION,
        Master: 1,
        ScatterGather: 1,
        Dma64BitAddresses: 1,
        MaximumLength: 64 << 10,
        ..DEVICE_DESCRIPTION::ZEROED
    };
    let pdo = without_provenance_mut(0x1000);
    let mut registers = 0;
    // SAFETY: on this stack; the device object is only a name.
    let adapter = unsafe { IoGetDmaAdapter(pdo, &mut description, &mut registers) };
    assert_eq!(registers, 17);
    adapter
}

/// Calls a function of the adapter's table.
macro_rules! dma {
    ($adapter:expr, $function:ident, $($argument:expr),*) => {{
        let adapter = $adapter;
        let function = (*(*adapter).DmaOperations).$function.expect("an entry");
        function(adapter, $($argument),*)
    }};
}

/// A common buffer of 100 bytes that the processor caches: its addresses.
unsafe fn common_buffer(adapter: *mut DMA_ADAPTER) -> (*mut c_void, i64) {
    let mut logical = 0;
    // SAFETY: as documented.
    let buffer = unsafe { dma!(adapter, AllocateCommonBuffer, 100, &mut logical, 1) };
    (buffer, logical)
}

unsafe extern "efiapi" fn listed(
    _: *mut DEVICE_OBJECT,
    _: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    context: *mut c_void,
) {
    if !context.is_null() {
        // SAFETY: whoever asks for a list gives a place for its address, or none.
        unsafe { *context.cast::<*mut SCATTER_GATHER_LIST>() = list };
    }
}

/// The list of the first bytes of an MDL's buffer, for the device to read. Null if there is none.
unsafe fn list_of(adapter: *mut DMA_ADAPTER, mdl: *mut MDL, len: u32) -> *mut SCATTER_GATHER_LIST {
    let mut list = null_mut::<SCATTER_GATHER_LIST>();
    let out = (&raw mut list).cast();
    let device = null_mut();
    // SAFETY: as documented, or wrong on purpose.
    unsafe {
        let va = (*mdl).StartVa.wrapping_byte_add((*mdl).ByteOffset as usize);
        let old = KfRaiseIrql(2);
        dma!(
            adapter,
            GetScatterGatherList,
            device,
            mdl,
            va,
            len,
            listed,
            out,
            1
        );
        KeLowerIrql(old);
    }
    list
}

#[test]
fn who_needs_more_map_registers_than_there_are_is_told_and_not_accused() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: a block of that length.
        unsafe {
            let (adapter, mdl) = (adapter(), mdl_for(allocate(80_000), 72_000));
            MmBuildMdlForNonPagedPool(mdl);
            let va = (*mdl).MappedSystemVa;
            let (mut size, mut registers) = (0, 0);
            let mut calculate = |len| {
                dma!(
                    adapter,
                    CalculateScatterGatherList,
                    mdl,
                    va,
                    len,
                    &mut size,
                    &mut registers
                )
            };
            assert_eq!(calculate(65_536), STATUS_SUCCESS);
            assert_eq!(calculate(72_000), STATUS_INSUFFICIENT_RESOURCES);
            let (device, none) = (null_mut(), null_mut());
            let old = KfRaiseIrql(2);
            let status = dma!(
                adapter,
                GetScatterGatherList,
                device,
                mdl,
                va,
                72_000,
                listed,
                none,
                1
            );
            assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
            let room = allocate(1024).cast();
            let status = dma!(
                adapter,
                BuildScatterGatherList,
                device,
                mdl,
                va,
                72_000,
                listed,
                none,
                1,
                room,
                1024
            );
            assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
            KeLowerIrql(old);
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

unsafe fn put(adapter: *mut DMA_ADAPTER, list: *mut SCATTER_GATHER_LIST, write: u8) {
    // SAFETY: as documented, or wrong on purpose.
    unsafe {
        let old = KfRaiseIrql(2);
        dma!(adapter, PutScatterGatherList, list, write);
        KeLowerIrql(old);
    }
}

#[test]
fn every_misuse_of_a_dma_adapter_is_named() {
    each_is_named(
        rules::DMA_MISUSE,
        &[
            ("there is no DMA adapter at", || {
                // SAFETY: given back twice.
                unsafe {
                    let adapter = adapter();
                    let put = (*(*adapter).DmaOperations).PutDmaAdapter.expect("an entry");
                    put(adapter);
                    put(adapter);
                }
            }),
            ("a common buffer of no bytes", || {
                // SAFETY: nothing is allocated.
                unsafe { dma!(adapter(), AllocateCommonBuffer, 0, &mut 0, 1) };
            }),
            ("this adapter has no common buffer at", || {
                // SAFETY: nothing is freed.
                unsafe {
                    let nothing = without_provenance_mut(0x1000);
                    dma!(adapter(), FreeCommonBuffer, 100, 0, nothing, 1);
                }
            }),
            ("FreeCommonBuffer: length 101", || {
                // SAFETY: freed with another length.
                unsafe {
                    let adapter = adapter();
                    let (buffer, logical) = common_buffer(adapter);
                    dma!(adapter, FreeCommonBuffer, 101, logical, buffer, 1);
                }
            }),
            ("CacheEnabled 0 are not those", || {
                // SAFETY: freed with the other flag.
                unsafe {
                    let adapter = adapter();
                    let (buffer, logical) = common_buffer(adapter);
                    dma!(adapter, FreeCommonBuffer, 100, logical, buffer, 0);
                }
            }),
            ("somebody wrote 3 bytes behind the common buffer", || {
                // SAFETY: written behind its end, in its page.
                unsafe {
                    let adapter = adapter();
                    let (buffer, logical) = common_buffer(adapter);
                    buffer.cast::<u8>().add(103).write(0);
                    dma!(adapter, FreeCommonBuffer, 100, logical, buffer, 1);
                }
            }),
            ("3996 bytes behind the common buffer of 100 bytes", || {
                // SAFETY: read behind its last page.
                unsafe {
                    let (buffer, _) = common_buffer(adapter());
                    buffer.cast::<u8>().add(4096).read_volatile();
                }
            }),
            ("are not described by the MDL", || {
                // SAFETY: nothing is read.
                unsafe { list_of(adapter(), built(), 8193) };
            }),
            ("whose pages nobody has filled in", || {
                // SAFETY: nothing is read.
                unsafe { list_of(adapter(), mdl_for(allocate(64), 64), 64) };
            }),
            ("though its flags say so", || {
                // SAFETY: its pages are not locked any more.
                unsafe {
                    let mdl = locked();
                    MmUnlockPages(mdl);
                    (*mdl).MdlFlags |= MDL_PAGES_LOCKED;
                    list_of(adapter(), mdl, 64);
                }
            }),
            ("a part of one that is not locked any more", || {
                // SAFETY: as above.
                unsafe {
                    let (whole, part) = (locked(), mdl_for(null_mut(), 4096));
                    IoBuildPartialMdl(whole, part, (*whole).StartVa, 64);
                    MmUnlockPages(whole);
                    list_of(adapter(), part, 64);
                }
            }),
            ("whose memory has been freed", || {
                // SAFETY: freed too early.
                unsafe {
                    let mdl = built();
                    ExFreePool((*mdl).MappedSystemVa);
                    list_of(adapter(), mdl, 64);
                }
            }),
            ("is still in use", || {
                // SAFETY: built twice in one place.
                unsafe {
                    let (adapter, mdl, room) = (adapter(), built(), allocate(256).cast());
                    let (device, none, va) = (null_mut(), null_mut(), (*mdl).MappedSystemVa);
                    let old = KfRaiseIrql(2);
                    for _ in 0..2 {
                        let status = dma!(
                            adapter,
                            BuildScatterGatherList,
                            device,
                            mdl,
                            va,
                            64,
                            listed,
                            none,
                            1,
                            room,
                            256
                        );
                        assert_eq!(status, STATUS_SUCCESS);
                    }
                    KeLowerIrql(old);
                }
            }),
            ("no list is out at", || {
                // SAFETY: put back twice.
                unsafe {
                    let adapter = adapter();
                    let list = list_of(adapter, built(), 64);
                    put(adapter, list, 1);
                    put(adapter, list, 1);
                }
            }),
            (
                "was got from another adapter or for the other direction",
                || {
                    // SAFETY: put back for the other direction.
                    unsafe {
                        let adapter = adapter();
                        put(adapter, list_of(adapter, built(), 64), 0);
                    }
                },
            ),
            (
                "was got from another adapter or for the other direction",
                || {
                    // SAFETY: put back to another.
                    unsafe { put(adapter(), list_of(adapter(), built(), 64), 1) };
                },
            ),
        ],
    );
}

#[test]
fn pool_is_given_to_devices_only_if_it_is_not_paged() {
    // The rule is that of the function that makes such an MDL; who asks for a list of it is accused too.
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: nothing is accessed.
        unsafe {
            let block = ExAllocatePool2(POOL_FLAG_PAGED, 4096, TAG).cast();
            let mdl = mdl_for(block, 4096);
            MmBuildMdlForNonPagedPool(mdl);
            assert_eq!(list_of(adapter(), mdl, 64), null_mut());
        }
    });
    let found = common::broken(&mut world);
    assert_eq!(found, [rules::PAGED_ACCESS, rules::DMA_MISUSE]);
}

#[test]
fn what_windows_has_and_the_simulator_has_not_is_no_rule() {
    each_is_named(
        rules::NOT_SIMULATED,
        &[
            ("there are adapters only for bus masters", || {
                let mut description = DEVICE_DESCRIPTION::ZEROED;
                let pdo = without_provenance_mut(0x1000);
                // SAFETY: on this stack.
                unsafe { IoGetDmaAdapter(pdo, &mut description, &mut 0) };
            }),
            ("EtwSetInformation of class 99", || {
                let mut handle = 0;
                let id = GUID::ZEROED;
                // SAFETY: nothing is read; the registration is ended.
                unsafe {
                    EtwRegister(&id, None, null_mut(), &mut handle);
                    EtwSetInformation(handle, 99, null_mut(), 0);
                    EtwUnregister(handle);
                }
            }),
            ("a DMA operation was called", || {
                // SAFETY: it takes nothing.
                unsafe {
                    let operations = (*adapter()).DmaOperations;
                    (*operations).ReadDmaCounter.expect("an entry")();
                }
            }),
        ],
    );
}

unsafe extern "efiapi" fn keeps_pages_locked(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> i32 {
    // SAFETY: as documented.
    unsafe { locked() };
    STATUS_SUCCESS
}

#[test]
fn a_driver_that_goes_and_leaves_pages_locked() {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "keeper", keeps_pages_locked).unwrap();
    world.unload_driver(driver);
    let found = world.take_violations();
    let state = found.iter().find(|v| v.rule == rules::MDL_STATE);
    let state = state.expect("it is named");
    assert!(
        state.text.contains("keeper has 1 MDL(s) locked or mapped"),
        "{state}"
    );
    // Its memory it leaves behind as well.
    assert!(
        found
            .iter()
            .all(|v| ptr::eq(v, state) || v.rule == rules::POOL_LEAK)
    );
}
