//! DMA adapters: `IoGetDmaAdapter` and the functions of `DMA_OPERATIONS`.
//!
//! Devices of these machines reach all memory, so map registers are free, unless a test withholds them. What they may
//! access is what has been mapped, by its logical address: common buffers and scatter/gather lists that are out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use ndis_sys::types::{BOOLEAN, NTSTATUS};
use ndis_sys::wdm::{
    DEVICE_DESCRIPTION, DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS, DRIVER_LIST_CONTROL, MDL,
    SCATTER_GATHER_LIST,
};

use super::dma_buffer::{
    CommonBuffers, allocate_common_buffer, allocate_common_buffer_ex, free_common_buffer,
};
use super::dma_wait::{Registers, Waiting};
use crate::memory::mdl;
use crate::memory::scatter::{Scatter, list_size};
use crate::memory::{PAGE, Request, invariant};
use crate::verifier::{self, Function, cross, rules};
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
pub(super) mod operations {
    use super::{DISPATCH, Function, PASSIVE};
    const fn entry(name: &'static str, low: u8, high: u8) -> Function {
        Function::export("DMA_OPERATIONS", name, low..=high)
    }
    pub(in super::super) static PUT_ADAPTER: Function = entry("PutDmaAdapter", PASSIVE, PASSIVE);
    pub(in super::super) static ALLOCATE: Function =
        entry("AllocateCommonBuffer", PASSIVE, PASSIVE);
    pub(in super::super) static FREE: Function = entry("FreeCommonBuffer", PASSIVE, PASSIVE);
    pub(in super::super) static FLUSH: Function = entry("FlushAdapterBuffers", PASSIVE, DISPATCH);
    pub(in super::super) static ALIGNMENT: Function = entry("GetDmaAlignment", PASSIVE, PASSIVE);
    pub(in super::super) static GET_LIST: Function =
        entry("GetScatterGatherList", DISPATCH, DISPATCH);
    pub(in super::super) static PUT_LIST: Function =
        entry("PutScatterGatherList", DISPATCH, DISPATCH);
    pub(in super::super) static CALCULATE: Function =
        entry("CalculateScatterGatherList", PASSIVE, DISPATCH);
    pub(in super::super) static BUILD_LIST: Function =
        entry("BuildScatterGatherList", DISPATCH, DISPATCH);
    pub(in super::super) static UNSUPPORTED: Function =
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
const LIST_TAG: u32 = u32::from_le_bytes(*b"Dma ");

struct Adapter {
    owner: DriverNumber,
    /// How many map registers IoGetDmaAdapter has promised: pages of a transfer.
    registers: u32,
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
    pub(crate) buffers: CommonBuffers,
    lists: RefCell<HashMap<usize, List>>,
    /// What lists are made with.
    pub(super) registers: Registers,
}

impl Dma {
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
        let buffers = self.buffers.count(|buffer| of(buffer.owner));
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
pub(super) fn check_adapter(machine: &Machine, adapter: *mut DMA_ADAPTER, by: &str) -> u32 {
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
    let buffers = dma.buffers.count(|buffer| buffer.adapter == key);
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
