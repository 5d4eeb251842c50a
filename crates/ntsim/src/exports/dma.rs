//! DMA adapters: `IoGetDmaAdapter` and the functions of `DMA_OPERATIONS`.
//!
//! Devices of these machines reach all memory, so map registers are free, unless a test withholds them, and logical
//! addresses are physical ones. What they may access is what has been mapped: common buffers and scatter/gather lists
//! that are out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use ndis_sys::types::{BOOLEAN, NTSTATUS, PHYSICAL_ADDRESS};
use ndis_sys::wdm::{
    DEVICE_DESCRIPTION, DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS, DRIVER_LIST_CONTROL, MDL,
    SCATTER_GATHER_LIST,
};

use super::dma_wait::{Registers, Waiting};
use crate::memory::arena::Protection;
use crate::memory::mdl;
use crate::memory::scatter::{Scatter, list_size};
use crate::memory::{PAGE, Request, invariant};
use crate::verifier::{self, Crossing, Function, Verify, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::{DISPATCH, PASSIVE};

exports! {
    "ntoskrnl.exe";
    IoGetDmaAdapter: PASSIVE..=PASSIVE,
}

static LIST_CONTROL: Function =
    Function::callback("AdapterListControl routine", DISPATCH..=DISPATCH);

/// The table's functions and their IRQL limits.
mod operations {
    use super::{DISPATCH, Function, PASSIVE};
    const fn entry(name: &'static str, low: u8, high: u8) -> Function {
        Function::export("DMA_OPERATIONS", name, low..=high)
    }
    pub(super) static PUT_ADAPTER: Function = entry("PutDmaAdapter", PASSIVE, PASSIVE);
    pub(super) static ALLOCATE: Function = entry("AllocateCommonBuffer", PASSIVE, PASSIVE);
    pub(super) static FREE: Function = entry("FreeCommonBuffer", PASSIVE, PASSIVE);
    pub(super) static FLUSH: Function = entry("FlushAdapterBuffers", PASSIVE, DISPATCH);
    pub(super) static ALIGNMENT: Function = entry("GetDmaAlignment", PASSIVE, PASSIVE);
    pub(super) static GET_LIST: Function = entry("GetScatterGatherList", DISPATCH, DISPATCH);
    pub(super) static PUT_LIST: Function = entry("PutScatterGatherList", DISPATCH, DISPATCH);
    pub(super) static CALCULATE: Function = entry("CalculateScatterGatherList", PASSIVE, DISPATCH);
    pub(super) static BUILD_LIST: Function = entry("BuildScatterGatherList", DISPATCH, DISPATCH);
    pub(super) static UNSUPPORTED: Function =
        entry("an unsupported DMA operation", PASSIVE, DISPATCH);
}

static OPERATIONS: DMA_OPERATIONS = DMA_OPERATIONS {
    Size: size_of::<DMA_OPERATIONS>() as u32,
    PutDmaAdapter: Some(put_dma_adapter),
    AllocateCommonBuffer: Some(allocate_common_buffer),
    FreeCommonBuffer: Some(free_common_buffer),
    AllocateAdapterChannel: Some(unsupported),
    FlushAdapterBuffers: Some(flush_adapter_buffers),
    FreeAdapterChannel: Some(unsupported),
    FreeMapRegisters: Some(unsupported),
    MapTransfer: Some(unsupported),
    GetDmaAlignment: Some(get_dma_alignment),
    ReadDmaCounter: Some(unsupported),
    GetScatterGatherList: Some(get_scatter_gather_list),
    PutScatterGatherList: Some(put_scatter_gather_list),
    CalculateScatterGatherList: Some(calculate_scatter_gather_list),
    BuildScatterGatherList: Some(build_scatter_gather_list),
    BuildMdlFromScatterGatherList: Some(unsupported),
    GetDmaAdapterInfo: Some(unsupported),
    GetDmaTransferInfo: Some(unsupported),
    InitializeDmaTransferContext: Some(unsupported),
    AllocateCommonBufferEx: Some(allocate_common_buffer_ex),
    AllocateAdapterChannelEx: Some(unsupported),
    ConfigureAdapterChannel: Some(unsupported),
    CancelAdapterChannel: Some(unsupported),
    MapTransferEx: Some(unsupported),
    GetScatterGatherListEx: Some(unsupported),
    BuildScatterGatherListEx: Some(unsupported),
    FlushAdapterBuffersEx: Some(unsupported),
    FreeAdapterObject: Some(unsupported),
    CancelMappedTransfer: Some(unsupported),
    AllocateDomainCommonBuffer: Some(unsupported),
    FlushDmaBuffer: Some(unsupported),
    JoinDmaDomain: Some(unsupported),
    LeaveDmaDomain: Some(unsupported),
    GetDmaDomain: Some(unsupported),
    AllocateCommonBufferWithBounds: Some(unsupported),
    AllocateCommonBufferVector: Some(unsupported),
    GetCommonBufferFromVectorByIndex: Some(unsupported),
    FreeCommonBufferFromVector: Some(unsupported),
    FreeCommonBufferVector: Some(unsupported),
    CreateCommonBufferFromMdl: Some(unsupported),
};

/// Bytes that a transfer may have if the device does not say.
const DEFAULT_MAXIMUM: u32 = 64 << 20;
/// What a common buffer holds, with full verification, before anybody writes to it: no page says that it is zeroed.
const UNWRITTEN: u8 = 0xa5;
/// What the last page of a common buffer holds behind it.
const BEHIND: u8 = 0xfa;
const LIST_TAG: u32 = u32::from_le_bytes(*b"Dma ");

struct Adapter {
    owner: DriverNumber,
    /// How many map registers IoGetDmaAdapter has promised: pages of a transfer.
    registers: u32,
}

struct CommonBuffer {
    adapter: usize,
    physical: u64,
    len: u32,
    /// Behind the last, with full verification, is one more, which nobody may access.
    pages: u32,
    guarded: bool,
    cached: bool,
    owner: DriverNumber,
}

struct List {
    adapter: usize,
    scatter: Scatter,
    /// The list's memory is the system's, not the caller's.
    allocated: bool,
    owner: DriverNumber,
}

/// A machine's DMA adapters and what they have mapped.
#[derive(Default)]
pub(crate) struct Dma {
    adapters: RefCell<HashMap<usize, Adapter>>,
    buffers: RefCell<HashMap<usize, CommonBuffer>>,
    lists: RefCell<HashMap<usize, List>>,
    /// What lists are made with.
    pub(super) registers: Registers,
}

impl Dma {
    /// The common buffer behind which an address lies that is inaccessible because it guards that, as reports name it.
    pub(crate) fn guarded_around(&self, address: usize) -> Option<String> {
        let _kernel = context::KernelMode::enter();
        let buffers = self.buffers.try_borrow().ok()?;
        let (start, buffer) = buffers.iter().find(|(start, buffer)| {
            let end = **start + buffer.pages as usize * PAGE;
            buffer.guarded && address.wrapping_sub(end) < PAGE
        })?;
        let behind = address - start - buffer.len as usize;
        Some(format!(
            "{behind} bytes behind the common buffer of {} bytes at {start:#x}",
            buffer.len
        ))
    }

    /// Accuses of what a driver that has gone left behind.
    pub(crate) fn check_unload(
        &self,
        machine: &Machine,
        driver: DriverNumber,
        name: &str,
        when: &str,
    ) {
        let of = |owner: DriverNumber| owner == driver;
        let adapters = self
            .adapters
            .borrow()
            .values()
            .filter(|a| of(a.owner))
            .count();
        let buffers = self
            .buffers
            .borrow()
            .values()
            .filter(|b| of(b.owner))
            .count();
        let lists = self.lists.borrow().values().filter(|l| of(l.owner)).count()
            + self.registers.count(|waiting| of(waiting.owner));
        if adapters + buffers + lists > 0 {
            verifier::violation(
                rules::DMA_LEAK,
                format!(
                    "{when}: {name} still has on {} {adapters} DMA adapter(s), {buffers} common buffer(s) and {lists} \
                     scatter/gather list(s)",
                    machine.name
                ),
            );
        }
    }
}

/// Gets a device's DMA adapter.
///
/// # Safety
/// The pointers must be valid; `NumberOfMapRegisters` for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoGetDmaAdapter(
    PhysicalDeviceObject: *mut DEVICE_OBJECT,
    DeviceDescription: *mut DEVICE_DESCRIPTION,
    NumberOfMapRegisters: *mut u32,
) -> *mut DMA_ADAPTER {
    let crossing = cross(&functions::IoGetDmaAdapter);
    let machine = context::machine();
    // SAFETY: promised by the caller.
    let description = unsafe { *DeviceDescription };
    if PhysicalDeviceObject.is_null() {
        verifier::violation(
            rules::BAD_ADDRESS,
            "IoGetDmaAdapter: the physical device object is null",
        );
        return ptr::null_mut();
    }
    if description.Master == 0
        || description.ScatterGather == 0
        || description.Dma64BitAddresses == 0
    {
        verifier::violation(
            rules::NOT_SIMULATED,
            "IoGetDmaAdapter: there are adapters only for bus masters with scatter/gather and 64 address bits",
        );
        return ptr::null_mut();
    }
    if crossing.is_from_driver() && machine.faults.strikes("IoGetDmaAdapter") {
        return ptr::null_mut();
    }
    let owner = machine.owner(&crossing);
    let maximum = match description.MaximumLength {
        0 => DEFAULT_MAXIMUM,
        len => len,
    };
    match new_adapter(&machine, maximum, owner) {
        Some(adapter) => {
            // SAFETY: promised by the caller.
            unsafe { NumberOfMapRegisters.write(registers_for(maximum)) };
            adapter
        }
        None => ptr::null_mut(),
    }
}

/// Map registers for a transfer of so many bytes, wherever they begin.
fn registers_for(bytes: u32) -> u32 {
    bytes.div_ceil(PAGE as u32).saturating_add(1)
}

/// Makes an adapter.
fn new_adapter(machine: &Machine, maximum: u32, owner: DriverNumber) -> Option<*mut DMA_ADAPTER> {
    let address = machine.kernel_alloc(size_of::<DMA_ADAPTER>(), "IoGetDmaAdapter")?;
    let adapter = address as *mut DMA_ADAPTER;
    // SAFETY: just allocated, of this size.
    unsafe {
        adapter.write(DMA_ADAPTER {
            Version: 1,
            Size: size_of::<DMA_ADAPTER>() as u16,
            DmaOperations: &raw const OPERATIONS,
        });
    }
    machine.ext::<Dma>().adapters.borrow_mut().insert(
        address,
        Adapter {
            owner,
            registers: registers_for(maximum),
        },
    );
    Some(adapter)
}

/// The map registers of an adapter; stops the run if there is none at that address.
fn check_adapter(machine: &Machine, adapter: *mut DMA_ADAPTER, by: &str) -> u32 {
    let registers = machine
        .ext::<Dma>()
        .adapters
        .borrow()
        .get(&(adapter as usize))
        .map(|adapter| adapter.registers);
    if let Some(registers) = registers {
        return registers;
    }
    verifier::bugcheck(
        rules::DMA_MISUSE,
        format!("{by}: there is no DMA adapter at {adapter:p}"),
    );
}

unsafe extern "efiapi" fn unsupported() {
    let _crossing = cross(&operations::UNSUPPORTED);
    verifier::bugcheck(
        rules::NOT_SIMULATED,
        "a DMA operation was called that the simulator does not have",
    );
}

unsafe extern "efiapi" fn put_dma_adapter(adapter: *mut DMA_ADAPTER) {
    let _crossing = cross(&operations::PUT_ADAPTER);
    let machine = context::machine();
    check_adapter(&machine, adapter, "PutDmaAdapter");
    let dma = machine.ext::<Dma>();
    let key = adapter as usize;
    let buffers = dma
        .buffers
        .borrow()
        .values()
        .filter(|b| b.adapter == key)
        .count();
    let lists = dma
        .lists
        .borrow()
        .values()
        .filter(|l| l.adapter == key)
        .count()
        + dma
            .registers
            .count(|waiting| waiting.adapter as usize == key);
    if buffers + lists > 0 {
        verifier::violation(
            rules::DMA_LEAK,
            format!(
                "PutDmaAdapter: the adapter at {adapter:p} still has {buffers} common buffer(s) and {lists} \
                 scatter/gather list(s)"
            ),
        );
    }
    dma.adapters.borrow_mut().remove(&key);
    machine.pool_free(key, None, "PutDmaAdapter");
}

unsafe extern "efiapi" fn allocate_common_buffer(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
) -> *mut c_void {
    let crossing = cross(&operations::ALLOCATE);
    // SAFETY: promised by the caller.
    unsafe { common_buffer(&crossing, adapter, length, logical, cached, u64::MAX) }
}

unsafe extern "efiapi" fn allocate_common_buffer_ex(
    adapter: *mut DMA_ADAPTER,
    maximum: *mut PHYSICAL_ADDRESS,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
    _node: u32,
) -> *mut c_void {
    let crossing = cross(&operations::ALLOCATE);
    // SAFETY: promised by the caller.
    unsafe {
        let limit = maximum.as_ref().map_or(u64::MAX, |m| m.cast_unsigned());
        common_buffer(&crossing, adapter, length, logical, cached, limit)
    }
}

/// # Safety
/// `logical` must be valid for a write.
unsafe fn common_buffer(
    crossing: &Crossing,
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
    limit: u64,
) -> *mut c_void {
    let machine = context::machine();
    check_adapter(&machine, adapter, "AllocateCommonBuffer");
    let owner = machine.owner(crossing);
    match allocate_buffer(&machine, adapter as usize, length, cached != 0, owner) {
        Some((address, physical)) if physical + u64::from(length) <= limit => {
            // SAFETY: promised by the caller.
            unsafe { logical.write(physical.cast_signed()) };
            address as *mut c_void
        }
        Some((address, _)) => {
            free_buffer(
                &machine,
                adapter as usize,
                address,
                "AllocateCommonBufferEx",
            );
            ptr::null_mut()
        }
        None => ptr::null_mut(),
    }
}

/// Allocates a common buffer: kernel and physical address.
fn allocate_buffer(
    machine: &Machine,
    adapter: usize,
    len: u32,
    cached: bool,
    owner: DriverNumber,
) -> Option<(usize, u64)> {
    if len == 0 {
        verifier::violation(
            rules::DMA_MISUSE,
            "a common buffer of no bytes was asked for",
        );
        return None;
    }
    if owner != 0 && machine.faults.strikes("AllocateCommonBuffer") {
        return None;
    }
    let pages = len.div_ceil(PAGE as u32);
    let bytes = pages as usize * PAGE;
    let full = context::core().verify == Verify::Full;
    let with_guard = full
        .then(|| machine.ram.alloc_contiguous(pages + 1))
        .flatten();
    let (address, physical) = match with_guard {
        Some(place) => {
            let guard = place.0 + bytes;
            machine.ram.protect(guard, 1, Protection::Inaccessible);
            place
        }
        None => machine.ram.alloc_contiguous(pages)?,
    };
    let unwritten = if full { UNWRITTEN } else { 0 };
    // SAFETY: just allocated, so many pages.
    unsafe {
        ptr::write_bytes(address as *mut u8, unwritten, len as usize);
        ptr::write_bytes(
            (address + len as usize) as *mut u8,
            BEHIND,
            bytes - len as usize,
        );
    }
    machine.ram.dma_map(physical, bytes, true);
    machine.ext::<Dma>().buffers.borrow_mut().insert(
        address,
        CommonBuffer {
            adapter,
            physical,
            len,
            pages,
            guarded: with_guard.is_some(),
            cached,
            owner,
        },
    );
    Some((address, physical))
}

/// Frees a common buffer; false, and an accusation, if there is none.
fn free_buffer(machine: &Machine, adapter: usize, address: usize, by: &'static str) -> bool {
    let dma = machine.ext::<Dma>();
    let buffer = dma.buffers.borrow_mut().remove(&address);
    let Some(buffer) = buffer.filter(|b| b.adapter == adapter) else {
        verifier::violation(
            rules::DMA_MISUSE,
            format!("{by}: this adapter has no common buffer at {address:#x}"),
        );
        return false;
    };
    let bytes = buffer.pages as usize * PAGE;
    crate::memory::check_not_in_use(machine, address, buffer.len as usize, by);
    machine.ram.dma_unmap(buffer.physical, bytes, true, by);
    let len = buffer.len as usize;
    // SAFETY: the buffer's own pages.
    let behind = unsafe { std::slice::from_raw_parts((address + len) as *const u8, bytes - len) };
    if let Some(at) = behind.iter().position(|byte| *byte != BEHIND) {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "somebody wrote {at} bytes behind the common buffer of {len} bytes at {address:#x}, a processor or a device; \
                 found by {by}"
            ),
        );
    }
    // SAFETY: the buffer's own pages, which nobody uses any more.
    unsafe { ptr::write_bytes(address as *mut u8, 0x6b, bytes) };
    let guard = u32::from(buffer.guarded);
    machine
        .ram
        .protect(address + bytes, guard as usize, Protection::ReadWrite);
    machine.ram.free_contiguous(address, buffer.pages + guard);
    true
}

unsafe extern "efiapi" fn free_common_buffer(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: PHYSICAL_ADDRESS,
    address: *mut c_void,
    cached: BOOLEAN,
) {
    let _crossing = cross(&operations::FREE);
    let machine = context::machine();
    check_adapter(&machine, adapter, "FreeCommonBuffer");
    let known = machine
        .ext::<Dma>()
        .buffers
        .borrow()
        .get(&(address as usize))
        .map(|b| (b.len, b.physical, b.cached));
    if known.is_some_and(|known| known != (length, logical.cast_unsigned(), cached != 0)) {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "FreeCommonBuffer: length {length}, logical address {logical:#x} and CacheEnabled {cached} are not \
                 those of the buffer at {address:p}"
            ),
        );
    }
    free_buffer(
        &machine,
        adapter as usize,
        address as usize,
        "FreeCommonBuffer",
    );
}

unsafe extern "efiapi" fn flush_adapter_buffers(
    adapter: *mut DMA_ADAPTER,
    _mdl: *mut MDL,
    _base: *mut c_void,
    _va: *mut c_void,
    _length: u32,
    _write: BOOLEAN,
) -> BOOLEAN {
    let _crossing = cross(&operations::FLUSH);
    check_adapter(&context::machine(), adapter, "FlushAdapterBuffers");
    1
}

unsafe extern "efiapi" fn get_dma_alignment(adapter: *mut DMA_ADAPTER) -> u32 {
    let _crossing = cross(&operations::ALIGNMENT);
    check_adapter(&context::machine(), adapter, "GetDmaAlignment");
    1
}

/// # Safety
/// `mdl` must point at a chain of MDLs.
unsafe fn scatter(
    mdl: *mut MDL,
    va: *mut c_void,
    len: u32,
    write_to_device: BOOLEAN,
    by: &str,
) -> Option<Scatter> {
    // SAFETY: promised by the caller.
    let (start, count) = unsafe { (mdl::virtual_address(mdl), (*mdl).ByteCount as usize) };
    let offset = (va as usize).wrapping_sub(start);
    // SAFETY: promised by the caller.
    let unfit = unsafe { invariant::unfit_for_dma(mdl, offset.saturating_add(len as usize), by) };
    if let Some(unfit) = unfit {
        verifier::violation(rules::DMA_MISUSE, format!("{by} is given {unfit}"));
        return None;
    }
    let inside = len > 0 && offset <= count;
    // SAFETY: promised by the caller.
    let walk = || unsafe { Scatter::of(mdl, offset, len as usize, write_to_device == 0) };
    let scatter = inside.then(walk).flatten();
    if scatter.is_none() {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "{by}: {len} bytes at {va:p} are not described by the MDL at {mdl:p} (which begins at {start:#x}), or \
                 its pages are not filled in"
            ),
        );
    }
    scatter
}

/// Whether a transfer needs more map registers than the adapter has. That is no fault: drivers may find it out by asking
/// (nc-wdm-pget_scatter_gather_list).
///
/// # Safety
/// `mdl` must point at a chain of MDLs.
unsafe fn needs_more(registers: u32, mdl: *mut MDL, va: *mut c_void, len: u32) -> bool {
    // SAFETY: promised by the caller.
    unsafe { page_count(mdl, va, len) > registers as usize }
}

/// Writes a list and makes its pieces accessible.
///
/// # Safety
/// `list` must be valid for writes of as many bytes as the list needs.
unsafe fn publish(machine: &Machine, list: *mut SCATTER_GATHER_LIST, entry: List) {
    // SAFETY: promised by the caller.
    unsafe { entry.scatter.publish(&machine.ram, list) };
    let old = machine
        .ext::<Dma>()
        .lists
        .borrow_mut()
        .insert(list as usize, entry);
    if let Some(old) = old {
        verifier::violation(
            rules::DMA_MISUSE,
            format!("BuildScatterGatherList: the list at {list:p} is still in use"),
        );
        old.scatter.retire(&machine.ram, "BuildScatterGatherList");
    }
}

unsafe extern "efiapi" fn get_scatter_gather_list(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    va: *mut c_void,
    length: u32,
    routine: DRIVER_LIST_CONTROL,
    context_value: *mut c_void,
    write_to_device: BOOLEAN,
) -> NTSTATUS {
    let crossing = cross(&operations::GET_LIST);
    let machine = context::machine();
    let registers = check_adapter(&machine, adapter, "GetScatterGatherList");
    // SAFETY: promised by the caller.
    if unsafe { needs_more(registers, mdl, va, length) } {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let owner = machine.owner(&crossing);
    // SAFETY: promised by the caller.
    let scatter = unsafe { scatter(mdl, va, length, write_to_device, "GetScatterGatherList") };
    let Some(scatter) = scatter else {
        return STATUS_INVALID_PARAMETER;
    };
    let memory = machine.pool_alloc(&Request {
        size: list_size(scatter.len()),
        align: 16,
        tag: LIST_TAG,
        zero: false,
        paged: false,
        owner,
        function: "GetScatterGatherList",
    });
    let Some(memory) = memory else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let wanted = Waiting {
        adapter,
        device,
        mdl,
        va,
        length,
        routine,
        context: context_value,
        write_to_device,
        list: memory as *mut SCATTER_GATHER_LIST,
        owner,
    };
    if let Some(wanted) = machine.ext::<Dma>().registers.take(wanted) {
        // SAFETY: promised by the caller.
        unsafe { make_list(&machine, &wanted) };
    }
    STATUS_SUCCESS
}

/// Makes a list that was asked for, and hands it to the driver. IRQL: DISPATCH_LEVEL.
///
/// # Safety
/// What was asked for is as it was: the MDL is read now.
pub(super) unsafe fn make_list(machine: &Machine, wanted: &Waiting) {
    let &Waiting {
        mdl, va, length, ..
    } = wanted;
    let by = "GetScatterGatherList";
    // SAFETY: promised by the caller.
    let Some(scatter) = (unsafe { scatter(mdl, va, length, wanted.write_to_device, by) }) else {
        machine.pool_free(wanted.list as usize, Some(LIST_TAG), by);
        return;
    };
    let entry = List {
        adapter: wanted.adapter as usize,
        scatter,
        allocated: true,
        owner: wanted.owner,
    };
    // SAFETY: allocated of the size that this buffer's list needs.
    unsafe { publish(machine, wanted.list, entry) };
    call_driver(&LIST_CONTROL, wanted.routine as *const (), || unsafe {
        // SAFETY: given by the driver for this call.
        (wanted.routine)(wanted.device, ptr::null_mut(), wanted.list, wanted.context);
    });
}

unsafe extern "efiapi" fn build_scatter_gather_list(
    adapter: *mut DMA_ADAPTER,
    device: *mut DEVICE_OBJECT,
    mdl: *mut MDL,
    va: *mut c_void,
    length: u32,
    routine: DRIVER_LIST_CONTROL,
    context_value: *mut c_void,
    write_to_device: BOOLEAN,
    buffer: *mut c_void,
    buffer_length: u32,
) -> NTSTATUS {
    let crossing = cross(&operations::BUILD_LIST);
    let machine = context::machine();
    let registers = check_adapter(&machine, adapter, "BuildScatterGatherList");
    // SAFETY: promised by the caller.
    if unsafe { needs_more(registers, mdl, va, length) } {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: promised by the caller.
    let scatter = unsafe { scatter(mdl, va, length, write_to_device, "BuildScatterGatherList") };
    let Some(scatter) = scatter else {
        return STATUS_INVALID_PARAMETER;
    };
    // The caller can only know what CalculateScatterGatherList said: an element for each page.
    // SAFETY: promised by the caller.
    let needed = unsafe { list_size(page_count(mdl, va, length)) };
    if needed > buffer_length as usize {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let list = buffer.cast::<SCATTER_GATHER_LIST>();
    let entry = List {
        adapter: adapter as usize,
        scatter,
        allocated: false,
        owner: machine.owner(&crossing),
    };
    // SAFETY: the buffer is large enough; the routine was given for this.
    unsafe { publish(&machine, list, entry) };
    call_driver(&LIST_CONTROL, routine as *const (), || unsafe {
        // SAFETY: given by the driver for this call.
        routine(device, ptr::null_mut(), list, context_value);
    });
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn put_scatter_gather_list(
    adapter: *mut DMA_ADAPTER,
    list: *mut SCATTER_GATHER_LIST,
    write_to_device: BOOLEAN,
) {
    let _crossing = cross(&operations::PUT_LIST);
    let machine = context::machine();
    check_adapter(&machine, adapter, "PutScatterGatherList");
    let entry = machine
        .ext::<Dma>()
        .lists
        .borrow_mut()
        .remove(&(list as usize));
    let Some(entry) = entry else {
        verifier::violation(
            rules::DMA_MISUSE,
            format!("PutScatterGatherList: no list is out at {list:p}"),
        );
        return;
    };
    if entry.adapter != adapter as usize || entry.scatter.device_writes() != (write_to_device == 0)
    {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "PutScatterGatherList: the list at {list:p} was got from another adapter or for the other direction"
            ),
        );
    }
    entry.scatter.retire(&machine.ram, "PutScatterGatherList");
    if entry.allocated {
        machine.pool_free(list as usize, Some(LIST_TAG), "PutScatterGatherList");
    }
}

/// Pages that a piece of a chain of MDLs touches.
///
/// # Safety
/// `mdl` must point at a chain of MDLs.
unsafe fn page_count(mut mdl: *mut MDL, va: *mut c_void, len: u32) -> usize {
    // SAFETY: promised by the caller.
    unsafe {
        let mut offset = (va as usize).wrapping_sub(mdl::virtual_address(mdl));
        let mut left = len as usize;
        let mut pages = 0;
        while left > 0 && !mdl.is_null() {
            let count = (*mdl).ByteCount as usize;
            let take = count.saturating_sub(offset).min(left);
            pages += mdl::pages((*mdl).ByteOffset as usize + offset, take);
            left -= take;
            offset = offset.saturating_sub(count);
            mdl = (*mdl).Next;
        }
        pages
    }
}

unsafe extern "efiapi" fn calculate_scatter_gather_list(
    adapter: *mut DMA_ADAPTER,
    mdl: *mut MDL,
    va: *mut c_void,
    length: u32,
    size: *mut u32,
    registers: *mut u32,
) -> NTSTATUS {
    let _crossing = cross(&operations::CALCULATE);
    let available = check_adapter(&context::machine(), adapter, "CalculateScatterGatherList");
    let pages = if mdl.is_null() {
        mdl::pages(va as usize, length as usize)
    } else {
        // SAFETY: promised by the caller.
        unsafe { page_count(mdl, va, length) }
    };
    if pages > available as usize {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: promised by the caller.
    unsafe {
        size.write(u32::try_from(list_size(pages)).unwrap_or(u32::MAX));
        if !registers.is_null() {
            registers.write(u32::try_from(pages).unwrap_or(u32::MAX));
        }
    }
    STATUS_SUCCESS
}
