//! Scatter/gather DMA, shared memory and device memory of miniports.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::adapter::Adapter;
use super::handle::Handled;
use super::{header, ndis, rules};
use crate::memory::scatter::{Scatter, list_size};
use crate::memory::{PAGE, invariant};
use crate::verifier::{Function, violation};
use crate::world::address_map::AddressMap;
use crate::world::context;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::{self, DISPATCH};

/// A registration for scatter/gather DMA.
pub(crate) struct SgDma {
    handle: Cell<NDIS_HANDLE>,
    adapter: Weak<Adapter>,
    machine: Weak<Machine>,
    handler: MINIPORT_PROCESS_SG_LIST,
    list_size: u32,
    /// Lists given out, by address.
    lists: RefCell<AddressMap<List>>,
}

struct List {
    buffer: *mut NET_BUFFER,
    scatter: Scatter,
    /// The list is in memory NDIS allocated.
    allocated: bool,
}

impl Handled for SgDma {
    const KIND: &'static str = "a scatter/gather DMA registration";
}

static PROCESS: Function = Function::callback("MiniportProcessSGList", DISPATCH..=DISPATCH);
/// One in so many scatter/gather lists comes after the call that asked for it has returned.
const LATE_ONE_IN: u64 = 8;

/// `NdisMRegisterScatterGatherDma`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn register(
    adapter: NDIS_HANDLE,
    description: *mut NDIS_SG_DMA_DESCRIPTION,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const F: &str = "NdisMRegisterScatterGatherDma";
    let ndis = ndis();
    let Some(adapter) = ndis.handles.get::<Adapter>(adapter, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if description.is_null() || out.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    if !adapter.may_claim(F) {
        return NDIS_STATUS_FAILURE;
    }
    let flags = adapter.registration.get().map_or(0, |r| r.AttributeFlags);
    if flags & NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER == 0 {
        violation(
            rules::DMA,
            format!("{F}: the attributes lack NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER"),
        );
        return NDIS_STATUS_NOT_SUPPORTED;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*description).Header };
    let sizes = [(
        NDIS_SG_DMA_DESCRIPTION_REVISION_1,
        NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION, &sizes) {
        return NDIS_STATUS_BAD_VERSION;
    }
    // SAFETY: as long as its header says.
    let d: NDIS_SG_DMA_DESCRIPTION = unsafe { header::copy(description, head.Size) };
    let Some(handler) = d.ProcessSGListHandler else {
        violation(rules::DMA, format!("{F}: ProcessSGListHandler is null"));
        return NDIS_STATUS_FAILURE;
    };
    if d.Flags & NDIS_SG_DMA_64_BIT_ADDRESS == 0 {
        // All memory of the simulated machines lies above 4 GiB and there are no bounce buffers.
        violation(
            crate::verifier::rules::NOT_SIMULATED,
            format!("{F}: without NDIS_SG_DMA_64_BIT_ADDRESS, which needs bounce buffers"),
        );
        return NDIS_STATUS_NOT_SUPPORTED;
    }
    if d.MaximumPhysicalMapping == 0 {
        violation(rules::DMA, format!("{F}: MaximumPhysicalMapping is zero"));
        return NDIS_STATUS_FAILURE;
    }
    if adapter.machine().faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let elements = (d.MaximumPhysicalMapping as usize).div_ceil(PAGE) + 8;
    let list_size = list_size(elements);
    let dma = Rc::new(SgDma {
        handle: Cell::new(std::ptr::null_mut()),
        adapter: Rc::downgrade(&adapter),
        machine: Rc::downgrade(&adapter.machine()),
        handler,
        list_size: u32::try_from(list_size).unwrap_or(u32::MAX),
        lists: RefCell::default(),
    });
    let handle = ndis.handles.insert(Rc::clone(&dma));
    dma.handle.set(handle);
    adapter.sg_dma.borrow_mut().push(Rc::clone(&dma));
    // SAFETY: the driver's structure and variable.
    unsafe {
        (*description).ScatterGatherListSize = dma.list_size;
        out.write(handle);
    }
    NDIS_STATUS_SUCCESS
}

/// `NdisMDeregisterScatterGatherDma`.
pub(crate) fn deregister(handle: NDIS_HANDLE) {
    const F: &str = "NdisMDeregisterScatterGatherDma";
    let ndis = ndis();
    let Some(dma) = ndis.handles.get::<SgDma>(handle, F) else {
        return;
    };
    let left = dma.lists.borrow().len();
    if left > 0 {
        violation(
            rules::DMA,
            format!("{F}: {left} scatter/gather list(s) were not freed"),
        );
    }
    // So that the report is what ends the run.
    if let Some(machine) = dma.machine.upgrade() {
        let mut lists: Vec<_> = dma.lists.borrow_mut().drain().collect();
        // In an order that every run has.
        lists.sort_by_key(|(list, _)| *list);
        for (list, entry) in lists {
            entry.scatter.retire(&machine.ram, F);
            if entry.allocated {
                machine.pool_free(list, None, F);
            }
        }
    }
    if let Some(adapter) = dma.adapter.upgrade() {
        adapter.sg_dma.borrow_mut().retain(|d| !Rc::ptr_eq(d, &dma));
    }
    ndis.handles.remove(handle);
}

/// `NdisMAllocateNetBufferSGList`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_list(
    handle: NDIS_HANDLE,
    buffer: *mut NET_BUFFER,
    list_context: *mut c_void,
    flags: u32,
    storage: *mut c_void,
    storage_size: u32,
) -> NDIS_STATUS {
    const F: &str = "NdisMAllocateNetBufferSGList";
    let Some(dma) = ndis().handles.get::<SgDma>(handle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    let Some(machine) = dma.machine.upgrade() else {
        return NDIS_STATUS_FAILURE;
    };
    if flags & !NDIS_SG_LIST_WRITE_TO_DEVICE != 0 {
        violation(rules::PARAMETER, format!("{F}: unknown flags {flags:#x}"));
    }
    if dma.lists.borrow().values().any(|l| l.buffer == buffer) {
        violation(
            rules::DMA,
            format!("{F}: the net buffer {buffer:p} has a scatter/gather list already"),
        );
    }
    // The list covers the current MDL from its beginning: the data starts CurrentMdlOffset bytes into it.
    // SAFETY: a live net buffer with a valid chain, as the driver promises.
    let scatter = unsafe {
        let length = (*buffer).CurrentMdlOffset as usize + (*buffer).Anonymous.DataLength as usize;
        if let Some(unfit) = invariant::unfit_for_dma((*buffer).CurrentMdl, length, F) {
            violation(rules::DMA, format!("{F}: of {buffer:p} is {unfit}"));
            return NDIS_STATUS_FAILURE;
        }
        let device_writes = flags & NDIS_SG_LIST_WRITE_TO_DEVICE == 0;
        Scatter::of((*buffer).CurrentMdl, 0, length, device_writes)
    };
    let Some(scatter) = scatter else {
        violation(
            rules::DMA,
            format!("{F}: the MDL chain of {buffer:p} is too short or its pages are not locked"),
        );
        return NDIS_STATUS_FAILURE;
    };
    if machine.faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let size = list_size(scatter.len().max(1));
    let use_storage = !storage.is_null() && storage_size as usize >= size;
    let at = if use_storage {
        storage.expose_provenance()
    } else {
        match machine.kernel_alloc(size, "NdisMAllocateNetBufferSGList") {
            Some(at) => at,
            None => return NDIS_STATUS_RESOURCES,
        }
    };
    // SAFETY: room for all elements.
    unsafe {
        scatter.publish(&machine.ram, std::ptr::with_exposed_provenance_mut(at));
    }
    dma.lists.borrow_mut().insert(
        at,
        List {
            buffer,
            scatter,
            allocated: !use_storage,
        },
    );
    let core = context::core();
    if core.rng.below(LATE_ONE_IN) == 0 {
        // As when map registers are not free at once.
        let (dma, list) = (Rc::clone(&dma), at);
        let context = list_context.expose_provenance();
        core.schedule_on(&machine, core.now(), move || {
            let _raised = processor::raise_irql(DISPATCH);
            dma.process(list, context);
        });
    } else {
        dma.process(at, list_context.expose_provenance());
    }
    NDIS_STATUS_SUCCESS
}

impl SgDma {
    fn process(&self, list: usize, list_context: usize) {
        let _charged = self.adapter.upgrade().map(|a| a.driver.driver.charge());
        let device = self
            .adapter
            .upgrade()
            .map_or(std::ptr::null_mut(), |a| a.device.fdo.get());
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&PROCESS, self.handler as *const (), || unsafe {
            (self.handler)(
                device,
                std::ptr::null_mut(),
                std::ptr::with_exposed_provenance_mut(list),
                std::ptr::with_exposed_provenance_mut(list_context),
            );
        });
    }
}

/// `NdisMFreeNetBufferSGList`.
pub(crate) fn free_list(
    handle: NDIS_HANDLE,
    list: *mut SCATTER_GATHER_LIST,
    buffer: *mut NET_BUFFER,
) {
    const F: &str = "NdisMFreeNetBufferSGList";
    let Some(dma) = ndis().handles.get::<SgDma>(handle, F) else {
        return;
    };
    let Some(entry) = dma.lists.borrow_mut().remove(&list.addr()) else {
        violation(
            rules::DMA,
            format!("{F}: {list:p} is no scatter/gather list of this registration (any more)"),
        );
        return;
    };
    if entry.buffer != buffer {
        violation(
            rules::DMA,
            format!(
                "{F}: {list:p} belongs to net buffer {:p}, not {buffer:p}",
                entry.buffer
            ),
        );
    }
    let Some(machine) = dma.machine.upgrade() else {
        return;
    };
    entry.scatter.retire(&machine.ram, F);
    if entry.allocated {
        machine.pool_free(list.expose_provenance(), None, F);
    }
}

/// `NdisMAllocateSharedMemory`: virtual and logical address.
pub(crate) fn allocate_shared(adapter: NDIS_HANDLE, length: u32) -> Option<(usize, u64)> {
    const F: &str = "NdisMAllocateSharedMemory";
    let adapter = ndis().handles.get::<Adapter>(adapter, F)?;
    if adapter.sg_dma.borrow().is_empty() {
        violation(
            rules::DMA,
            format!("{F}: call NdisMRegisterScatterGatherDma first"),
        );
        return None;
    }
    if length == 0 {
        violation(rules::PARAMETER, format!("{F}: length is zero"));
        return None;
    }
    let machine = adapter.machine();
    if machine.faults.strikes(F) {
        return None;
    }
    let pages = u32::try_from((length as usize).div_ceil(PAGE)).ok()?;
    let (address, logical) = machine.ram.alloc_contiguous(pages)?;
    let memory: *mut u8 = std::ptr::with_exposed_provenance_mut(address);
    // Old contents must not help anybody: shared memory is not zeroed by NDIS.
    // SAFETY: just allocated.
    unsafe { memory.write_bytes(0xa5, pages as usize * PAGE) };
    machine.ram.dma_map(logical, length as usize, true);
    adapter
        .shared_memory
        .borrow_mut()
        .insert(address, (logical, length));
    Some((address, logical))
}

/// `NdisMFreeSharedMemory`.
pub(crate) fn free_shared(adapter: NDIS_HANDLE, length: u32, address: *mut c_void, logical: i64) {
    const F: &str = "NdisMFreeSharedMemory";
    let Some(adapter) = ndis().handles.get::<Adapter>(adapter, F) else {
        return;
    };
    let known = adapter.shared_memory.borrow().get(&address.addr()).copied();
    let Some((was_logical, was_length)) = known else {
        violation(
            rules::DMA,
            format!("{F}: {address:p} is no shared memory of this adapter (any more)"),
        );
        return;
    };
    if was_logical != logical.cast_unsigned() || was_length != length {
        violation(
            rules::DMA,
            format!(
                "{F}: {address:p} is {was_length} bytes at {was_logical:#x}, not {length} at {logical:#x}"
            ),
        );
    }
    adapter.shared_memory.borrow_mut().remove(&address.addr());
    let machine = adapter.machine();
    machine
        .ram
        .dma_unmap(was_logical, was_length as usize, true, F);
    machine.ram.free_contiguous(
        address.expose_provenance(),
        (was_length as usize).div_ceil(PAGE) as u32,
    );
}

/// `NdisMMapIoSpace`.
pub(crate) fn map_io(
    adapter: NDIS_HANDLE,
    physical: i64,
    length: u32,
) -> Result<*mut c_void, NDIS_STATUS> {
    const F: &str = "NdisMMapIoSpace";
    let Some(adapter) = ndis().handles.get::<Adapter>(adapter, F) else {
        return Err(NDIS_STATUS_FAILURE);
    };
    if !adapter.may_claim(F) {
        return Err(NDIS_STATUS_FAILURE);
    }
    let physical = physical.cast_unsigned();
    let inside = adapter
        .device
        .function
        .resources()
        .memory
        .iter()
        .any(|bar| {
            physical >= bar.physical
                && physical
                    .checked_add(u64::from(length))
                    .is_some_and(|end| end <= bar.physical + bar.length)
        });
    if !inside || length == 0 {
        violation(
            rules::PARAMETER,
            format!("{F}: {length} bytes at {physical:#x} are not within the adapter's resources"),
        );
        return Err(NDIS_STATUS_RESOURCE_CONFLICT);
    }
    let machine = adapter.machine();
    if machine.faults.strikes(F) {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let Some(address) = machine.io_space.map(physical, length as usize) else {
        return Err(NDIS_STATUS_RESOURCES);
    };
    adapter
        .io_mappings
        .borrow_mut()
        .insert(address, (physical, length));
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

/// `NdisMUnmapIoSpace`.
pub(crate) fn unmap_io(adapter: NDIS_HANDLE, address: *mut c_void, length: u32) {
    const F: &str = "NdisMUnmapIoSpace";
    let Some(adapter) = ndis().handles.get::<Adapter>(adapter, F) else {
        return;
    };
    let known = adapter.io_mappings.borrow_mut().remove(&address.addr());
    match known {
        Some((_, was)) if was == length => {
            adapter
                .machine()
                .io_space
                .unmap(address.addr(), length as usize);
        }
        Some((_, was)) => {
            violation(
                rules::PARAMETER,
                format!("{F}: {address:p} is a mapping of {was} bytes, not {length}"),
            );
            adapter
                .machine()
                .io_space
                .unmap(address.addr(), was as usize);
        }
        None => violation(
            rules::PARAMETER,
            format!("{F}: {address:p} is no mapping of this adapter (any more)"),
        ),
    }
}

impl SgDma {
    /// Whether a net buffer has a list that was not freed.
    pub(crate) fn has_list_of(&self, buffer: *mut NET_BUFFER) -> bool {
        self.lists.borrow().values().any(|l| l.buffer == buffer)
    }
}
