//! `Mm*` and the MDL functions of `Io*`: MDLs, mappings, device memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::types::{BOOLEAN, KPROCESSOR_MODE, KernelMode, PHYSICAL_ADDRESS};
use ndis_sys::wdm::{
    IRP, IoReadAccess, LOCK_OPERATION, MDL, MDL_ALLOCATED_FIXED_SIZE, MDL_MAPPED_TO_SYSTEM_VA,
    MDL_PAGES_LOCKED, MDL_PARENT_MAPPED_SYSTEM_VA, MDL_PARTIAL, MDL_PARTIAL_HAS_BEEN_MAPPED,
    MDL_SOURCE_IS_NONPAGED_POOL, MDL_WRITE_OPERATION, MEMORY_CACHING_TYPE, UNICODE_STRING,
};

use super::rtl;
use crate::memory::mdl::{self, DESCRIBED, Mdls};
use crate::memory::{PAGE, Ram, Request, invariant};
use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::processor::APC;

exports! {
    "ntoskrnl.exe";
    IoAllocateMdl: PASSIVE..=DISPATCH,
    IoFreeMdl: PASSIVE..=DISPATCH,
    IoBuildPartialMdl: PASSIVE..=DISPATCH,
    MmBuildMdlForNonPagedPool: PASSIVE..=DISPATCH,
    MmMapLockedPagesSpecifyCache: PASSIVE..=DISPATCH,
    MmUnmapLockedPages: PASSIVE..=DISPATCH,
    MmProbeAndLockPages: PASSIVE..=DISPATCH,
    MmUnlockPages: PASSIVE..=DISPATCH,
    MmGetPhysicalAddress: PASSIVE..=HIGH,
    MmMapIoSpaceEx: PASSIVE..=DISPATCH,
    MmUnmapIoSpace: PASSIVE..=DISPATCH,
    MmIsAddressValid: PASSIVE..=DISPATCH,
    MmSizeOfMdl: PASSIVE..=HIGH,
    MmGetSystemRoutineAddress: PASSIVE..=PASSIVE,
}

const MDL_TAG: u32 = u32::from_le_bytes(*b"Mdl ");

/// Writes the header of an MDL over a buffer, as `MmInitializeMdl` does.
///
/// # Safety
/// `mdl` must be valid for writes of as many bytes as the buffer's MDL needs.
unsafe fn initialize(mdl: *mut MDL, address: usize, len: u32, flags: i16) {
    // SAFETY: promised by the caller.
    unsafe {
        mdl.write(MDL {
            Size: i16::try_from(mdl::size(address, len as usize)).unwrap_or(i16::MAX),
            MdlFlags: flags,
            StartVa: (address & !(PAGE - 1)) as *mut c_void,
            ByteOffset: (address % PAGE) as u32,
            ByteCount: len,
            ..MDL::ZEROED
        });
    }
}

/// Allocates an MDL for a buffer. Its page array is not filled in.
pub(crate) fn allocate(
    address: usize,
    len: u32,
    owner: u32,
    function: &'static str,
) -> Option<*mut MDL> {
    // MDL::Size is 16 bits.
    let size = mdl::size(address, len as usize);
    i16::try_from(size).ok()?;
    let block = context::machine().pool_alloc(&Request {
        size,
        align: 16,
        tag: MDL_TAG,
        zero: true,
        paged: false,
        owner,
        function,
    })?;
    let new = block as *mut MDL;
    // SAFETY: just allocated, of the size an MDL for this buffer has.
    unsafe { initialize(new, address, len, MDL_ALLOCATED_FIXED_SIZE) };
    Some(new)
}

/// Fills in the page array of an MDL over memory of the machine. False if some of it is no such memory.
///
/// # Safety
/// `target` must point at an MDL with room for its pages.
pub(crate) unsafe fn fill(target: *mut MDL, by: &'static str) -> bool {
    let machine = context::machine();
    // SAFETY: promised by the caller.
    unsafe {
        let start = (*target).StartVa as usize;
        let count = mdl::pages((*target).ByteOffset as usize, (*target).ByteCount as usize);
        for page in 0..count {
            let Some(physical) = machine.ram.physical(start + page * PAGE) else {
                return false;
            };
            *mdl::pfns(target).add(page) = Ram::pfn(physical);
        }
        invariant::note(target, None, by);
    }
    true
}

/// Whether some of the buffer of an MDL is paged pool.
///
/// # Safety
/// `target` must point at an MDL.
unsafe fn over_paged_pool(target: *const MDL) -> bool {
    let ram = &context::machine().ram;
    // SAFETY: promised by the caller.
    unsafe {
        let start = (*target).StartVa as usize;
        let count = mdl::pages((*target).ByteOffset as usize, (*target).ByteCount as usize);
        (0..count).any(|page| ram.is_paged(start + page * PAGE))
    }
}

/// Allocates an MDL. Associating it with an IRP is the I/O manager's business and not offered.
///
/// # Safety
/// None needed: the buffer is not accessed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoAllocateMdl(
    VirtualAddress: *mut c_void,
    Length: u32,
    SecondaryBuffer: BOOLEAN,
    ChargeQuota: BOOLEAN,
    Irp: *mut IRP,
) -> *mut MDL {
    let crossing = cross(&functions::IoAllocateMdl);
    let _ = (SecondaryBuffer, ChargeQuota);
    if !Irp.is_null() {
        verifier::violation(
            rules::MDL_STATE,
            "IoAllocateMdl was given an IRP, which the simulator has none of",
        );
    }
    let owner = context::machine().owner(&crossing);
    allocate(VirtualAddress as usize, Length, owner, "IoAllocateMdl").unwrap_or(ptr::null_mut())
}

/// Frees an MDL.
///
/// # Safety
/// `Mdl` must be of `IoAllocateMdl`, and nobody may use it any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoFreeMdl(Mdl: *mut MDL) {
    let _crossing = cross(&functions::IoFreeMdl);
    let machine = context::machine();
    let mdls = machine.ext::<Mdls>();
    let state = mdls.get(Mdl as usize);
    if state.locked.is_some() {
        verifier::violation(
            rules::MDL_STATE,
            format!("IoFreeMdl frees the MDL at {Mdl:p} whose pages are still locked"),
        );
    }
    // SAFETY: promised by the caller.
    unsafe { invariant::check(Mdl, "IoFreeMdl") };
    // The mapping goes with it: one of locked pages with the lock, that of a part by itself.
    if let Some((address, pages)) = state.mapped {
        machine.ram.unmap_frames(address, pages);
    }
    mdls.update(Mdl as usize, |state| {
        state.locked = None;
        state.mapped = None;
    });
    machine.pool_free(Mdl as usize, Some(MDL_TAG), "IoFreeMdl");
}

/// Makes an MDL describe a part of what another one describes.
///
/// # Safety
/// Both must point at MDLs, the target's with room for the part's pages.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoBuildPartialMdl(
    SourceMdl: *mut MDL,
    TargetMdl: *mut MDL,
    VirtualAddress: *mut c_void,
    Length: u32,
) {
    let _crossing = cross(&functions::IoBuildPartialMdl);
    // SAFETY: promised by the caller.
    let (source, room) = unsafe {
        invariant::check(SourceMdl, "IoBuildPartialMdl");
        (*SourceMdl, (*TargetMdl).Size)
    };
    let start = source.StartVa as usize + source.ByteOffset as usize;
    let offset = (VirtualAddress as usize).wrapping_sub(start);
    let available = (source.ByteCount as usize).saturating_sub(offset);
    let len = if Length == 0 {
        available
    } else {
        Length as usize
    };
    if offset > source.ByteCount as usize || len > available {
        verifier::bugcheck(
            rules::MDL_STATE,
            format!(
                "IoBuildPartialMdl: {len} bytes at {VirtualAddress:p} are not within the {} bytes at {start:#x} that \
                 the source MDL describes",
                source.ByteCount
            ),
        );
    }
    if source.MdlFlags & DESCRIBED == 0 {
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "IoBuildPartialMdl: the pages of the source MDL at {SourceMdl:p} are not filled in"
            ),
        );
    }
    let address = VirtualAddress as usize;
    if mdl::size(address, len) > usize::try_from(room).unwrap_or(0) {
        verifier::bugcheck(
            rules::MDL_STATE,
            format!(
                "IoBuildPartialMdl: the target MDL at {TargetMdl:p} has {room} bytes; {len} bytes at \
                 {VirtualAddress:p} need {}",
                mdl::size(address, len)
            ),
        );
    }
    let inherited = source.MdlFlags & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA);
    let parent = if source.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
        MDL_PARENT_MAPPED_SYSTEM_VA
    } else {
        0
    };
    // SAFETY: promised by the caller, and the target's room was checked.
    unsafe {
        let kept = (*TargetMdl).MdlFlags & MDL_ALLOCATED_FIXED_SIZE;
        (*TargetMdl).MdlFlags = kept | inherited | parent | MDL_PARTIAL;
        (*TargetMdl).StartVa = (address & !(PAGE - 1)) as *mut c_void;
        (*TargetMdl).ByteOffset = (address % PAGE) as u32;
        (*TargetMdl).ByteCount = len as u32;
        (*TargetMdl).Process = source.Process;
        (*TargetMdl).MappedSystemVa = if inherited != 0 {
            source.MappedSystemVa.wrapping_byte_add(offset)
        } else {
            ptr::null_mut()
        };
        let first = (source.ByteOffset as usize + offset) / PAGE;
        ptr::copy_nonoverlapping(
            mdl::pfns(SourceMdl).add(first),
            mdl::pfns(TargetMdl),
            mdl::pages(address, len),
        );
        invariant::note(TargetMdl, Some(SourceMdl), "IoBuildPartialMdl");
    }
}

/// Fills in the pages of an MDL over non-paged pool.
///
/// # Safety
/// `MemoryDescriptorList` must point at an MDL with room for its pages.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmBuildMdlForNonPagedPool(MemoryDescriptorList: *mut MDL) {
    let _crossing = cross(&functions::MmBuildMdlForNonPagedPool);
    // SAFETY: promised by the caller.
    let (flags, address) = unsafe {
        (
            (*MemoryDescriptorList).MdlFlags,
            mdl::virtual_address(MemoryDescriptorList),
        )
    };
    if flags & (DESCRIBED | MDL_MAPPED_TO_SYSTEM_VA) != 0 {
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "MmBuildMdlForNonPagedPool: the MDL at {MemoryDescriptorList:p} is built, locked or mapped already \
                 (flags {flags:#x})"
            ),
        );
    }
    // SAFETY: promised by the caller.
    if unsafe { over_paged_pool(MemoryDescriptorList) } {
        verifier::violation(
            rules::PAGED_ACCESS,
            format!("MmBuildMdlForNonPagedPool: the buffer at {address:#x} is paged pool"),
        );
    }
    // SAFETY: promised by the caller.
    if !unsafe { fill(MemoryDescriptorList, "MmBuildMdlForNonPagedPool") } {
        verifier::bugcheck(
            rules::BAD_ADDRESS,
            format!(
                "MmBuildMdlForNonPagedPool: the buffer at {address:#x} is not non-paged pool of {}",
                context::machine().name
            ),
        );
    }
    // SAFETY: promised by the caller.
    unsafe {
        (*MemoryDescriptorList).MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
        (*MemoryDescriptorList).MappedSystemVa = address as *mut c_void;
    }
}

/// Maps an MDL's pages at a new address.
///
/// # Safety
/// `MemoryDescriptorList` must point at an MDL.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmMapLockedPagesSpecifyCache(
    MemoryDescriptorList: *mut MDL,
    AccessMode: KPROCESSOR_MODE,
    CacheType: MEMORY_CACHING_TYPE,
    RequestedAddress: *mut c_void,
    BugCheckOnFailure: u32,
    Priority: u32,
) -> *mut c_void {
    let crossing = cross(&functions::MmMapLockedPagesSpecifyCache);
    let _ = (CacheType, RequestedAddress, Priority);
    let machine = context::machine();
    // SAFETY: promised by the caller.
    let header = unsafe {
        invariant::check(MemoryDescriptorList, "MmMapLockedPagesSpecifyCache");
        *MemoryDescriptorList
    };
    let wrong = if AccessMode != KernelMode {
        Some("is to be mapped for user mode, which the simulator has not")
    } else if header.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
        Some("is mapped already")
    } else if header.MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL != 0 {
        Some("describes non-paged pool, which has an address")
    } else if header.MdlFlags & DESCRIBED == 0 {
        Some("has no pages: lock them first")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "MmMapLockedPagesSpecifyCache: the MDL at {MemoryDescriptorList:p} (flags {:#x}) {wrong}",
                header.MdlFlags
            ),
        );
        return if header.MdlFlags & mdl::ADDRESSED != 0 {
            header.MappedSystemVa
        } else {
            ptr::null_mut()
        };
    }
    let count = mdl::pages(header.ByteOffset as usize, header.ByteCount as usize);
    // SAFETY: the MDL's page array is filled in, as its flags say.
    let frames = unsafe { std::slice::from_raw_parts(mdl::pfns(MemoryDescriptorList), count) };
    let failed =
        crossing.is_from_driver() && machine.faults.strikes("MmMapLockedPagesSpecifyCache");
    let base = (!failed).then(|| machine.ram.map_frames(frames)).flatten();
    let Some(base) = base else {
        if BugCheckOnFailure != 0 {
            verifier::bugcheck(
                rules::BUGCHECK,
                "MmMapLockedPagesSpecifyCache: no address space, and the caller asked for a bugcheck",
            );
        }
        return ptr::null_mut();
    };
    let owner = machine.owner(&crossing);
    machine
        .ext::<Mdls>()
        .update(MemoryDescriptorList as usize, |state| {
            state.mapped = Some((base, count));
            state.owner = owner;
        });
    let address = (base + header.ByteOffset as usize) as *mut c_void;
    // SAFETY: promised by the caller.
    unsafe {
        (*MemoryDescriptorList).MappedSystemVa = address;
        (*MemoryDescriptorList).MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
        if header.MdlFlags & MDL_PARTIAL != 0 {
            (*MemoryDescriptorList).MdlFlags |= MDL_PARTIAL_HAS_BEEN_MAPPED;
        }
    }
    address
}

/// # Safety
/// `list` must point at an MDL.
unsafe fn unmap(list: *mut MDL, address: Option<usize>, by: &str) {
    let machine = context::machine();
    let mdls = machine.ext::<Mdls>();
    let mapped = mdls.get(list as usize).mapped;
    let page = |address: usize| address & !(PAGE - 1);
    match mapped {
        Some((base, pages)) if address.is_none_or(|a| page(a) == base) => {
            machine.ram.unmap_frames(base, pages);
            mdls.update(list as usize, |state| state.mapped = None);
            // SAFETY: promised by the caller.
            unsafe {
                (*list).MdlFlags &= !(MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
                (*list).MappedSystemVa = ptr::null_mut();
            }
        }
        _ => verifier::violation(
            rules::MDL_STATE,
            format!(
                "{by}: the MDL at {list:p} is not mapped at {:#x}",
                address.unwrap_or(0)
            ),
        ),
    }
}

/// Undoes `MmMapLockedPagesSpecifyCache`.
///
/// # Safety
/// `MemoryDescriptorList` must point at an MDL, and nobody may use its mapping any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmUnmapLockedPages(
    BaseAddress: *mut c_void,
    MemoryDescriptorList: *mut MDL,
) {
    let _crossing = cross(&functions::MmUnmapLockedPages);
    // SAFETY: promised by the caller.
    unsafe {
        unmap(
            MemoryDescriptorList,
            Some(BaseAddress as usize),
            "MmUnmapLockedPages",
        );
    }
}

/// Locks an MDL's pages.
///
/// # Safety
/// `MemoryDescriptorList` must point at an MDL with room for its pages.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmProbeAndLockPages(
    MemoryDescriptorList: *mut MDL,
    AccessMode: KPROCESSOR_MODE,
    Operation: LOCK_OPERATION,
) {
    let crossing = cross(&functions::MmProbeAndLockPages);
    // SAFETY: promised by the caller.
    let (flags, address, len) = unsafe {
        (
            (*MemoryDescriptorList).MdlFlags,
            mdl::virtual_address(MemoryDescriptorList),
            (*MemoryDescriptorList).ByteCount as usize,
        )
    };
    if flags & DESCRIBED != 0 {
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "MmProbeAndLockPages: the MDL at {MemoryDescriptorList:p} is built, locked or partial already (flags \
                 {flags:#x})"
            ),
        );
        return;
    }
    // SAFETY: promised by the caller.
    if context::irql() > APC && unsafe { over_paged_pool(MemoryDescriptorList) } {
        verifier::violation(
            rules::IRQL,
            format!(
                "MmProbeAndLockPages locks paged pool at IRQL {}",
                context::irql()
            ),
        );
    }
    // SAFETY: promised by the caller.
    if AccessMode != KernelMode || !unsafe { fill(MemoryDescriptorList, "MmProbeAndLockPages") } {
        verifier::bugcheck(
            rules::BAD_ADDRESS,
            format!(
                "MmProbeAndLockPages raises STATUS_ACCESS_VIOLATION: the buffer at {address:#x} is not memory of {}",
                context::machine().name
            ),
        );
    }
    let machine = context::machine();
    let owner = machine.owner(&crossing);
    machine
        .ext::<Mdls>()
        .update(MemoryDescriptorList as usize, |state| {
            state.locked = Some((address, len));
            state.owner = owner;
        });
    let write = if Operation == IoReadAccess {
        0
    } else {
        MDL_WRITE_OPERATION
    };
    // SAFETY: promised by the caller.
    unsafe { (*MemoryDescriptorList).MdlFlags |= MDL_PAGES_LOCKED | write };
}

/// Has an MDL that is built describe the same pages, locked, as memory of another process that begins in the page at `address`. There are
/// no processes here, but consumers of NDK whose MDLs are such.
///
/// # Safety
/// `mdl` must point at an MDL that nobody uses.
pub(crate) unsafe fn lock_elsewhere(mdl: *mut MDL, address: usize) {
    // Not called through an export: what is noted of the MDL is the kernel's.
    let _kernel = context::KernelMode::enter();
    let machine = context::machine();
    // SAFETY: promised by the caller.
    let locked = unsafe { (mdl::virtual_address(mdl), (*mdl).ByteCount as usize) };
    machine
        .ext::<Mdls>()
        .update(mdl as usize, |state| state.locked = Some(locked));
    // SAFETY: as above.
    unsafe {
        (*mdl).StartVa = (address & !(PAGE - 1)) as *mut c_void;
        (*mdl).MappedSystemVa = ptr::null_mut();
        (*mdl).MdlFlags &= !MDL_SOURCE_IS_NONPAGED_POOL;
        (*mdl).MdlFlags |= MDL_PAGES_LOCKED;
        invariant::note(mdl, None, "MmProbeAndLockPages");
    }
}

/// Unlocks an MDL's pages; a mapping goes with them.
///
/// # Safety
/// `MemoryDescriptorList` must point at an MDL.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmUnlockPages(MemoryDescriptorList: *mut MDL) {
    let _crossing = cross(&functions::MmUnlockPages);
    let machine = context::machine();
    let mdls = machine.ext::<Mdls>();
    let state = mdls.get(MemoryDescriptorList as usize);
    if state.locked.is_none() {
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "MmUnlockPages: the pages of the MDL at {MemoryDescriptorList:p} are not locked"
            ),
        );
        return;
    }
    crate::ndk::unlocking(MemoryDescriptorList as usize);
    // SAFETY: promised by the caller.
    unsafe {
        invariant::check(MemoryDescriptorList, "MmUnlockPages");
        if state.mapped.is_some() {
            unmap(MemoryDescriptorList, None, "MmUnlockPages");
        }
        (*MemoryDescriptorList).MdlFlags &= !(MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
    }
    mdls.update(MemoryDescriptorList as usize, |state| state.locked = None);
}

/// Physical address of a virtual one; zero, and an accusation, if there is none.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmGetPhysicalAddress(BaseAddress: *mut c_void) -> PHYSICAL_ADDRESS {
    let _crossing = cross(&functions::MmGetPhysicalAddress);
    let machine = context::machine();
    match machine.ram.physical(BaseAddress as usize) {
        Some(physical) => physical.cast_signed(),
        None => {
            verifier::violation(
                rules::BAD_ADDRESS,
                format!(
                    "MmGetPhysicalAddress: {BaseAddress:p} is not memory of {}",
                    machine.name
                ),
            );
            0
        }
    }
}

/// The mappings of device memory that drivers have, by address: length and owner.
#[derive(Default)]
pub(crate) struct IoMappings(RefCell<HashMap<usize, (usize, DriverNumber)>>);

impl IoMappings {
    /// How many a driver has.
    pub(crate) fn of_driver(&self, driver: DriverNumber) -> usize {
        let mappings = self.0.borrow();
        mappings.values().filter(|(_, d)| *d == driver).count()
    }
}

/// Maps device memory.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmMapIoSpaceEx(
    PhysicalAddress: PHYSICAL_ADDRESS,
    NumberOfBytes: usize,
    Protect: u32,
) -> *mut c_void {
    let crossing = cross(&functions::MmMapIoSpaceEx);
    let _ = Protect;
    let physical = PhysicalAddress.cast_unsigned();
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes("MmMapIoSpaceEx") {
        return ptr::null_mut();
    }
    match machine.io_space.map(physical, NumberOfBytes) {
        Some(address) => {
            let owner = machine.owner(&crossing);
            machine
                .ext::<IoMappings>()
                .0
                .borrow_mut()
                .insert(address, (NumberOfBytes, owner));
            address as *mut c_void
        }
        None => {
            verifier::violation(
                rules::BAD_ADDRESS,
                format!(
                    "MmMapIoSpaceEx: no device has {NumberOfBytes} bytes of registers at {physical:#x}"
                ),
            );
            ptr::null_mut()
        }
    }
}

/// Undoes `MmMapIoSpaceEx`.
///
/// # Safety
/// Nobody may use the mapping any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmUnmapIoSpace(BaseAddress: *mut c_void, NumberOfBytes: usize) {
    let _crossing = cross(&functions::MmUnmapIoSpace);
    let machine = context::machine();
    let address = BaseAddress as usize;
    let mappings = machine.ext::<IoMappings>();
    let known = mappings.0.borrow().get(&address).map(|(len, _)| *len) == Some(NumberOfBytes);
    if known {
        mappings.0.borrow_mut().remove(&address);
        machine.io_space.unmap(address, NumberOfBytes);
    } else {
        verifier::violation(
            rules::BAD_ADDRESS,
            format!(
                "MmUnmapIoSpace: {NumberOfBytes} bytes at {BaseAddress:p} are not mapped device memory"
            ),
        );
    }
}

/// Whether an access would not fault.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmIsAddressValid(VirtualAddress: *mut c_void) -> BOOLEAN {
    let _crossing = cross(&functions::MmIsAddressValid);
    BOOLEAN::from(
        context::machine()
            .ram
            .physical(VirtualAddress as usize)
            .is_some(),
    )
}

/// Bytes an MDL needs for a buffer.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmSizeOfMdl(Base: *mut c_void, Length: usize) -> usize {
    let _crossing = cross(&functions::MmSizeOfMdl);
    mdl::size(Base as usize, Length)
}

/// Address of a kernel routine by name; null if there is none.
///
/// # Safety
/// `SystemRoutineName` must point at a string.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn MmGetSystemRoutineAddress(
    SystemRoutineName: *mut UNICODE_STRING,
) -> *mut c_void {
    let _crossing = cross(&functions::MmGetSystemRoutineAddress);
    // SAFETY: promised by the caller.
    let name = String::from_utf16_lossy(unsafe { rtl::counted(SystemRoutineName) });
    super::find(&name)
        .filter(|export| export.function.module == "ntoskrnl.exe")
        .map_or(ptr::null_mut(), |export| export.address.cast_mut().cast())
}
