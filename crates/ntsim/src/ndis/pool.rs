//! Pools of net buffers and net buffer lists.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::types::*;
use ndis_sys::wdm::MDL;

use super::handle::Handled;
use super::{header, ndis, rules};
use crate::memory::Request;
use crate::verifier::violation;
use crate::world::address_map::AddressMap;
use crate::world::context;

/// A pool of net buffer lists or of net buffers.
pub(crate) struct NetPool {
    pub(crate) handle: Cell<NDIS_HANDLE>,
    /// The driver's or adapter's handle it was allocated with.
    owner: NDIS_HANDLE,
    lists: bool,
    /// Lists come with a net buffer.
    with_buffer: bool,
    context_size: u16,
    data_size: u32,
    tag: u32,
    /// Structures given out, by address.
    live: RefCell<AddressMap<Data>>,
}

impl Handled for NetPool {
    const KIND: &'static str = "a net buffer pool";
}

/// For `NdisAllocateNetBufferMdlAndData`: the MDL and the data it describes.
type Data = Option<(*mut MDL, usize)>;

impl NetPool {
    fn new(
        owner: NDIS_HANDLE,
        lists: bool,
        with_buffer: bool,
        context_size: u16,
        data_size: u32,
        tag: u32,
    ) -> Rc<Self> {
        let pool = Rc::new(Self {
            handle: Cell::new(std::ptr::null_mut()),
            owner,
            lists,
            with_buffer,
            context_size,
            data_size,
            tag,
            live: RefCell::default(),
        });
        pool.handle.set(ndis().handles.insert(Rc::clone(&pool)));
        pool
    }

    fn block(&self) -> usize {
        let list = if self.lists {
            size_of::<NET_BUFFER_LIST>()
        } else {
            0
        };
        let buffer = if self.with_buffer || !self.lists {
            size_of::<NET_BUFFER>()
        } else {
            0
        };
        list + buffer
            + size_of::<NET_BUFFER_LIST_CONTEXT>()
            + usize::from(self.context_size).next_multiple_of(16)
    }

    /// A zeroed structure, charged to the driver: counted as its memory, and subject to fault injection.
    fn allocate(&self, size: usize, function: &'static str) -> Option<usize> {
        let machine = context::machine();
        let address = machine.pool_alloc(&Request {
            size,
            align: 16,
            tag: self.tag,
            zero: true,
            paged: false,
            owner: machine.charged_driver(),
            function,
        })?;
        self.live.borrow_mut().insert(address, None);
        Some(address)
    }

    /// Whether a structure is one of this pool's and not freed.
    pub(crate) fn owns(&self, address: usize) -> bool {
        self.live.borrow().contains_key(&address)
    }

    fn free(&self, address: usize, function: &'static str) {
        let Some(data) = self.live.borrow_mut().remove(&address) else {
            violation(
                rules::NET_BUFFER,
                format!("{function}: {address:#x} is not allocated from its pool (any more)"),
            );
            return;
        };
        let machine = context::machine();
        if let Some((mdl, data)) = data {
            // SAFETY: made by `super::mdl::over` and not freed since.
            unsafe { super::mdl::free(&machine, mdl) };
            machine.pool_free(data, None, function);
        }
        machine.pool_free(address, None, function);
    }
}

/// `NdisAllocateNetBufferListPool`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_list_pool(
    owner: NDIS_HANDLE,
    parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    const F: &str = "NdisAllocateNetBufferListPool";
    if parameters.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return std::ptr::null_mut();
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*parameters).Header };
    let sizes = [(
        NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_DEFAULT, &sizes) || !owner_ok(owner, F) {
        return std::ptr::null_mut();
    }
    // SAFETY: as long as its header says.
    let p: NET_BUFFER_LIST_POOL_PARAMETERS = unsafe { header::copy(parameters, head.Size) };
    if !p.ContextSize.is_multiple_of(MEMORY_ALLOCATION_ALIGNMENT) {
        violation(
            rules::PARAMETER,
            format!("{F}: ContextSize {} is no multiple of 16", p.ContextSize),
        );
    }
    if p.DataSize != 0 && p.fAllocateNetBuffer == 0 {
        violation(
            rules::PARAMETER,
            format!("{F}: DataSize without fAllocateNetBuffer"),
        );
        return std::ptr::null_mut();
    }
    if p.PoolTag == 0 {
        violation(rules::PARAMETER, format!("{F}: PoolTag is zero"));
    }
    if context::machine().faults.strikes(F) {
        return std::ptr::null_mut();
    }
    NetPool::new(
        owner,
        true,
        p.fAllocateNetBuffer != 0,
        p.ContextSize,
        p.DataSize,
        p.PoolTag,
    )
    .handle
    .get()
}

/// `NdisAllocateNetBufferPool`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_buffer_pool(
    owner: NDIS_HANDLE,
    parameters: *const NET_BUFFER_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    const F: &str = "NdisAllocateNetBufferPool";
    if parameters.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return std::ptr::null_mut();
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*parameters).Header };
    let sizes = [(
        NET_BUFFER_POOL_PARAMETERS_REVISION_1,
        NDIS_SIZEOF_NET_BUFFER_POOL_PARAMETERS_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_DEFAULT, &sizes) || !owner_ok(owner, F) {
        return std::ptr::null_mut();
    }
    // SAFETY: as long as its header says.
    let p: NET_BUFFER_POOL_PARAMETERS = unsafe { header::copy(parameters, head.Size) };
    if context::machine().faults.strikes(F) {
        return std::ptr::null_mut();
    }
    NetPool::new(owner, false, false, 0, p.DataSize, p.PoolTag)
        .handle
        .get()
}

fn owner_ok(owner: NDIS_HANDLE, function: &str) -> bool {
    let handles = &ndis().handles;
    if handles.peek::<super::adapter::Adapter>(owner).is_ok()
        || handles.peek::<super::driver::MiniportDriver>(owner).is_ok()
    {
        return true;
    }
    violation(
        rules::HANDLE,
        format!("{function}: {owner:p} is neither a miniport adapter nor a miniport driver"),
    );
    false
}

/// `NdisFreeNetBufferListPool` and `NdisFreeNetBufferPool`.
pub(crate) fn free_pool(handle: NDIS_HANDLE, lists: bool, function: &str) {
    let ndis = ndis();
    let Some(pool) = ndis.handles.get::<NetPool>(handle, function) else {
        return;
    };
    if pool.lists != lists {
        violation(
            rules::HANDLE,
            format!("{function}: the pool is of the other kind"),
        );
    }
    let live = pool.live.borrow().len();
    if live > 0 {
        violation(
            rules::NET_BUFFER,
            format!("{function}: {live} structure(s) of the pool are still allocated"),
        );
    }
    ndis.handles.remove(handle);
}

/// Pools of an adapter or driver that are still there.
pub(crate) fn check_released(owner: NDIS_HANDLE, when: &str) {
    let left = ndis()
        .handles
        .all::<NetPool>()
        .iter()
        .filter(|p| p.owner == owner)
        .count();
    if left > 0 {
        violation(
            rules::LEAK,
            format!("{when}: {left} net buffer pool(s) left"),
        );
    }
}

/// Initialises a net buffer over an MDL chain.
///
/// # Safety
/// `buffer` is writable, `mdl` null or a valid chain.
unsafe fn init_buffer(
    buffer: *mut NET_BUFFER,
    pool: NDIS_HANDLE,
    mdl: *mut MDL,
    offset: u32,
    length: usize,
) -> bool {
    let mut current = mdl;
    let mut current_offset = offset;
    // SAFETY: the chain is valid, as the caller promises.
    unsafe {
        while !current.is_null()
            && current_offset >= (*current).ByteCount
            && !(*current).Next.is_null()
        {
            current_offset -= (*current).ByteCount;
            current = (*current).Next;
        }
        let mut room = 0usize;
        let mut each = mdl;
        while !each.is_null() {
            room += (*each).ByteCount as usize;
            each = (*each).Next;
        }
        if (offset as usize)
            .checked_add(length)
            .is_none_or(|end| end > room)
        {
            violation(
                rules::PARAMETER,
                format!(
                    "a net buffer with {length} bytes at offset {offset} over MDLs of {room} bytes"
                ),
            );
            return false;
        }
        (*buffer).CurrentMdl = current;
        (*buffer).CurrentMdlOffset = current_offset;
        (*buffer).Anonymous.stDataLength = length;
        (*buffer).MdlChain = mdl;
        (*buffer).DataOffset = offset;
        (*buffer).NdisPoolHandle = pool;
    }
    true
}

/// `NdisAllocateNetBufferAndNetBufferList` (`with_buffer`) and `NdisAllocateNetBufferList`.
///
/// # Safety
/// As for the exported functions.
pub(crate) unsafe fn allocate_list(
    pool: NDIS_HANDLE,
    context_size: u16,
    back_fill: u16,
    with_buffer: Option<(*mut MDL, u32, usize)>,
    function: &'static str,
) -> *mut NET_BUFFER_LIST {
    let Some(pool) = ndis().handles.get::<NetPool>(pool, function) else {
        return std::ptr::null_mut();
    };
    if !pool.lists {
        violation(
            rules::HANDLE,
            format!("{function}: a pool of net buffers, not of lists"),
        );
        return std::ptr::null_mut();
    }
    if with_buffer.is_some() && !pool.with_buffer {
        violation(
            rules::PARAMETER,
            format!("{function}: the pool was allocated without fAllocateNetBuffer"),
        );
        return std::ptr::null_mut();
    }
    if !context_size.is_multiple_of(MEMORY_ALLOCATION_ALIGNMENT)
        || !back_fill.is_multiple_of(MEMORY_ALLOCATION_ALIGNMENT)
    {
        violation(
            rules::PARAMETER,
            format!("{function}: context sizes are multiples of 16"),
        );
    }
    let context_size = if context_size == 0 {
        pool.context_size
    } else {
        context_size
    };
    let size = pool.block() + usize::from(context_size) + usize::from(back_fill);
    let Some(address) = pool.allocate(size, function) else {
        return std::ptr::null_mut();
    };
    let list: *mut NET_BUFFER_LIST = std::ptr::with_exposed_provenance_mut(address);
    let buffer: *mut NET_BUFFER =
        std::ptr::with_exposed_provenance_mut(address + size_of::<NET_BUFFER_LIST>());
    // SAFETY: freshly allocated and zeroed, with room for all of it.
    unsafe {
        (*list).NdisPoolHandle = pool.handle.get();
        if let Some((mdl, offset, length)) = with_buffer {
            if !init_buffer(buffer, pool.handle.get(), mdl, offset, length) {
                pool.free(address, function);
                return std::ptr::null_mut();
            }
            (*list).FirstNetBuffer = buffer;
        }
        if context_size != 0 || back_fill != 0 {
            let at = size_of::<NET_BUFFER_LIST>()
                + if pool.with_buffer {
                    size_of::<NET_BUFFER>()
                } else {
                    0
                };
            let context: *mut NET_BUFFER_LIST_CONTEXT =
                std::ptr::with_exposed_provenance_mut(address + at);
            (*context).Size = context_size + back_fill;
            (*context).Offset = back_fill;
            (*list).Context = context;
        }
    }
    list
}

/// `NdisFreeNetBufferList`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn free_list(list: *mut NET_BUFFER_LIST) {
    const F: &str = "NdisFreeNetBufferList";
    let Some(pool) = pool_of(list.addr(), F, || {
        // SAFETY: found to be a live structure before this is called.
        unsafe { (*list).NdisPoolHandle }
    }) else {
        return;
    };
    // SAFETY: live, as just found.
    unsafe {
        if !pool.with_buffer && !(*list).FirstNetBuffer.is_null() {
            // Net buffers of another pool are freed by the driver first.
            let first = (*list).FirstNetBuffer.addr();
            let others = |p: &NetPool| !p.lists && p.owns(first);
            if ndis().handles.find(others).is_some() {
                violation(
                    rules::NET_BUFFER,
                    format!("{F}: the list still has net buffers of another pool"),
                );
            }
        }
    }
    if super::send::outstanding(list) || super::receive::outstanding(list) {
        violation(
            rules::NET_BUFFER,
            format!("{F}: {list:p} is still in flight"),
        );
        super::receive::forget(list);
    }
    pool.free(list.addr(), F);
}

/// The pool of a live structure; complains about freed and foreign ones without touching their memory.
fn pool_of(
    address: usize,
    function: &str,
    handle: impl FnOnce() -> NDIS_HANDLE,
) -> Option<Rc<NetPool>> {
    let ndis = ndis();
    let owns = |pool: &NetPool| pool.owns(address);
    let Some(pool) = ndis.handles.find(owns) else {
        violation(
            rules::NET_BUFFER,
            format!("{function}: {address:#x} is not allocated from any pool (any more)"),
        );
        return None;
    };
    if handle() != pool.handle.get() {
        violation(
            rules::NET_BUFFER,
            format!("{function}: NdisPoolHandle of {address:#x} was overwritten"),
        );
    }
    Some(pool)
}

/// `NdisAllocateNetBuffer`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_buffer(
    pool: NDIS_HANDLE,
    mdl: *mut MDL,
    offset: u32,
    length: usize,
) -> *mut NET_BUFFER {
    const F: &str = "NdisAllocateNetBuffer";
    let Some(pool) = ndis().handles.get::<NetPool>(pool, F) else {
        return std::ptr::null_mut();
    };
    if pool.lists {
        violation(rules::HANDLE, format!("{F}: a pool of net buffer lists"));
        return std::ptr::null_mut();
    }
    let Some(address) = pool.allocate(size_of::<NET_BUFFER>(), F) else {
        return std::ptr::null_mut();
    };
    let buffer: *mut NET_BUFFER = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: freshly allocated; the chain is the caller's.
    if unsafe { init_buffer(buffer, pool.handle.get(), mdl, offset, length) } {
        buffer
    } else {
        pool.free(address, F);
        std::ptr::null_mut()
    }
}

/// `NdisAllocateNetBufferMdlAndData`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_buffer_mdl_and_data(pool: NDIS_HANDLE) -> *mut NET_BUFFER {
    const F: &str = "NdisAllocateNetBufferMdlAndData";
    let Some(pool) = ndis().handles.get::<NetPool>(pool, F) else {
        return std::ptr::null_mut();
    };
    if pool.lists || pool.data_size == 0 {
        violation(
            rules::PARAMETER,
            format!("{F}: needs a pool of net buffers with DataSize"),
        );
        return std::ptr::null_mut();
    }
    let machine = context::machine();
    if machine.faults.strikes(F) {
        return std::ptr::null_mut();
    }
    let size = pool.data_size as usize;
    let Some(data) = machine.kernel_alloc(size, "NdisAllocateNetBufferMdlAndData") else {
        return std::ptr::null_mut();
    };
    let Some(mdl) = super::mdl::over(&machine, data, size) else {
        machine.pool_free(data, None, F);
        return std::ptr::null_mut();
    };
    let Some(address) = pool.allocate(size_of::<NET_BUFFER>(), F) else {
        // SAFETY: just made.
        unsafe { super::mdl::free(&machine, mdl) };
        machine.pool_free(data, None, F);
        return std::ptr::null_mut();
    };
    let buffer: *mut NET_BUFFER = std::ptr::with_exposed_provenance_mut(address);
    // The data begins at the end: room for retreating, none used.
    // SAFETY: freshly allocated, over an MDL just made.
    unsafe { init_buffer(buffer, pool.handle.get(), mdl, pool.data_size, 0) };
    pool.live.borrow_mut().insert(address, Some((mdl, data)));
    buffer
}

/// `NdisFreeNetBuffer`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn free_buffer(buffer: *mut NET_BUFFER) {
    const F: &str = "NdisFreeNetBuffer";
    let Some(pool) = pool_of(buffer.addr(), F, || {
        // SAFETY: found to be a live structure before this is called.
        unsafe { (*buffer).NdisPoolHandle }
    }) else {
        return;
    };
    pool.free(buffer.addr(), F);
}
