//! Received Ethernet frames on their way to protocols: copied into buffers of our own and indicated.
//!
//! When few buffers are left, frames are indicated with NDIS_RECEIVE_FLAGS_RESOURCES: protocols copy them, and the buffers are ours
//! again when the indication returns.
#![allow(unsafe_code, reason = "net buffer lists are NDIS's")]

use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use nt::boxed::try_vec;
use nt::sys::ndis::{
    NDIS_DEFAULT_PORT_NUMBER, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_PROTOCOL_ID_DEFAULT, NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL, NDIS_RECEIVE_FLAGS_RESOURCES,
    NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_BUFFER_LIST,
    NET_BUFFER_LIST_POOL_PARAMETERS, NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
};
use nt::sys::status::NDIS_STATUS_SUCCESS;
use nt::sys::types::{NDIS_HANDLE, TRUE};
use nt::sys::wdm::MDL;
use nt::{NoMemory, SpinLock, sys};

/// A net buffer list that is ours at the moment.
#[derive(Debug)]
struct Free(NonNull<NET_BUFFER_LIST>);

// SAFETY: whoever holds it is its only user.
unsafe impl Send for Free {}

/// One buffer: memory for a frame, with its MDL and net buffer list.
#[derive(Debug)]
struct Buffer {
    list: NonNull<NET_BUFFER_LIST>,
    mdl: NonNull<MDL>,
    /// Written through the MDL's mapping address only, which is this memory's.
    memory: Vec<u8>,
}

/// The buffers.
#[derive(Debug)]
pub struct Receiver {
    adapter: NDIS_HANDLE,
    pool: NDIS_HANDLE,
    buffers: Vec<Buffer>,
    free: SpinLock<Vec<Free>>,
    /// With fewer free buffers than this, protocols are asked to copy.
    reserve: usize,
}

// SAFETY: the handles may be used from any processor; lists are taken off the free list by one user at a time, the buffers' fields do
// not change.
unsafe impl Send for Receiver {}
// SAFETY: as above.
unsafe impl Sync for Receiver {}

/// A chain of net buffer lists.
#[derive(Debug)]
pub struct Chain {
    head: *mut NET_BUFFER_LIST,
    tail: *mut NET_BUFFER_LIST,
    count: u32,
}

impl Chain {
    /// An empty chain.
    pub const fn new() -> Self {
        Self {
            head: null_mut(),
            tail: null_mut(),
            count: 0,
        }
    }

    /// Appends a list.
    ///
    /// # Safety
    /// `list` is valid and belongs to the caller, who gives it up to the chain.
    pub unsafe fn push(&mut self, list: NonNull<NET_BUFFER_LIST>) {
        // SAFETY: both lists belong to the chain.
        unsafe {
            (*list.as_ptr()).Next = null_mut();
            if self.tail.is_null() {
                self.head = list.as_ptr();
            } else {
                (*self.tail).Next = list.as_ptr();
            }
        }
        self.tail = list.as_ptr();
        self.count += 1;
    }

    /// First list; null if it is empty.
    pub fn head(&self) -> *mut NET_BUFFER_LIST {
        self.head
    }

    /// Number of lists.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// Walks a chain of net buffer lists, unlinking each. The successor is read before the list is handed out.
///
/// # Safety
/// `head` is null or the first of a chain of valid lists that belong to the caller.
pub unsafe fn unlink_each(
    head: *mut NET_BUFFER_LIST,
    mut each: impl FnMut(NonNull<NET_BUFFER_LIST>),
) {
    let mut next = NonNull::new(head);
    while let Some(list) = next {
        // SAFETY: valid and ours, by the caller's promise.
        unsafe {
            next = NonNull::new((*list.as_ptr()).Next);
            (*list.as_ptr()).Next = null_mut();
        }
        each(list);
    }
}

/// Frames copied and not indicated yet.
#[derive(Debug)]
pub struct Batch {
    kept: Chain,
    /// To be copied by protocols.
    lent: Chain,
}

impl Batch {
    /// No frames.
    pub const fn new() -> Self {
        Self {
            kept: Chain::new(),
            lent: Chain::new(),
        }
    }
}

impl Receiver {
    /// Allocates `count` buffers for frames of up to `frame_len` bytes. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `adapter` is the NDIS handle of the adapter and outlives this.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub unsafe fn try_new(
        adapter: NDIS_HANDLE,
        count: usize,
        frame_len: usize,
    ) -> Result<Self, NoMemory> {
        let parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
                Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            },
            ProtocolId: NDIS_PROTOCOL_ID_DEFAULT,
            fAllocateNetBuffer: TRUE,
            ContextSize: 0,
            PoolTag: nt::pool::TAG,
            DataSize: 0,
        };
        let mut buffers = Vec::new();
        buffers.try_reserve_exact(count).map_err(|_| NoMemory)?;
        let mut free = Vec::new();
        free.try_reserve_exact(count).map_err(|_| NoMemory)?;
        // SAFETY: the handle is the caller's promise.
        let pool = unsafe { sys::NdisAllocateNetBufferListPool(adapter, &raw const parameters) };
        if pool.is_null() {
            return Err(NoMemory);
        }
        // From here on, dropping gives back what has been allocated.
        let mut receiver = Self {
            adapter,
            pool,
            buffers,
            free: SpinLock::new(free),
            reserve: count.div_ceil(8),
        };
        for _ in 0..count {
            receiver.add_buffer(frame_len)?;
        }
        Ok(receiver)
    }

    fn add_buffer(&mut self, frame_len: usize) -> Result<(), NoMemory> {
        let mut memory = try_vec(frame_len, |_| 0_u8)?;
        let address = memory.as_mut_ptr().cast::<c_void>();
        let length = u32::try_from(frame_len).map_err(|_| NoMemory)?;
        // SAFETY: the driver's heap is non-paged, and the memory outlives the MDL (see `drop`).
        let mdl = unsafe { sys::NdisAllocateMdl(self.adapter, address, length) };
        let mdl = NonNull::new(mdl).ok_or(NoMemory)?;
        // SAFETY: the pool makes lists with net buffers; the MDL is valid.
        let list = unsafe {
            sys::NdisAllocateNetBufferAndNetBufferList(self.pool, 0, 0, mdl.as_ptr(), 0, 0)
        };
        let Some(list) = NonNull::new(list) else {
            // SAFETY: allocated above.
            unsafe { sys::NdisFreeMdl(mdl.as_ptr()) };
            return Err(NoMemory);
        };
        // SAFETY: the list is new and ours. Its reserved word finds the buffer again.
        unsafe {
            (*list.as_ptr()).SourceHandle = self.adapter;
            (*list.as_ptr()).MiniportReserved[0] =
                core::ptr::without_provenance_mut(self.buffers.len());
        }
        self.buffers.push(Buffer { list, mdl, memory });
        self.free.get_mut().push(Free(list));
        Ok(())
    }

    /// Copies a frame into a buffer and adds it to the batch: false if there is no buffer, or the frame is longer than one.
    /// IRQL: <= DISPATCH_LEVEL.
    pub fn take(&self, frame: &[u8], batch: &mut Batch) -> bool {
        let (list, left) = {
            let mut free = self.free.lock();
            let Some(list) = free.pop() else { return false };
            (list, free.len())
        };
        // SAFETY: the list came off the free list, so it is ours alone.
        let filled = unsafe { self.fill(list.0, frame) };
        if !filled {
            self.free.lock().push(list);
            return false;
        }
        // Once protocols are asked to copy they are for the rest of the batch: frames stay in order.
        let chain = if left < self.reserve || batch.lent.count > 0 {
            &mut batch.lent
        } else {
            &mut batch.kept
        };
        // SAFETY: ours, given up to the chain.
        unsafe { chain.push(list.0) };
        true
    }

    /// # Safety
    /// `list` is one of ours, used by nobody else.
    unsafe fn fill(&self, list: NonNull<NET_BUFFER_LIST>, frame: &[u8]) -> bool {
        // SAFETY: by the caller's promise; the reserved word is ours between allocation and release.
        let index = unsafe { (*list.as_ptr()).MiniportReserved[0] }.addr();
        let Some(buffer) = self.buffers.get(index) else {
            return false;
        };
        if frame.len() > buffer.memory.len() {
            return false;
        }
        let memory = buffer.memory.as_ptr().cast_mut();
        // SAFETY: the memory belongs to the list, which is ours; it is long enough, and no reference into it exists. The MDL and the
        // net buffer describe what is in it, no more: protocols walk MDLs to their end.
        unsafe {
            memory.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
            (*buffer.mdl.as_ptr()).ByteCount = frame.len() as u32;
            (*buffer.mdl.as_ptr()).Next = null_mut();
            let list = list.as_ptr();
            (*list).Status = NDIS_STATUS_SUCCESS;
            (*list).NblFlags = 0;
            (*list).NetBufferListInfo.fill(null_mut());
            let net_buffer = (*list).FirstNetBuffer;
            (*net_buffer).Next = null_mut();
            (*net_buffer).MdlChain = buffer.mdl.as_ptr();
            (*net_buffer).CurrentMdl = buffer.mdl.as_ptr();
            (*net_buffer).CurrentMdlOffset = 0;
            (*net_buffer).DataOffset = 0;
            (*net_buffer).Anonymous.DataLength = frame.len() as u32;
        }
        true
    }

    /// Indicates a batch. Answers how many of its frames are ours again already; the others come back through
    /// [`Receiver::give_back`]. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn indicate(&self, batch: Batch) -> u64 {
        self.pass_up(&batch.kept, 0);
        self.pass_up(&batch.lent, NDIS_RECEIVE_FLAGS_RESOURCES);
        // SAFETY: with that flag, the lists are ours again when the indication has returned, linked as before.
        unsafe { self.give_back(batch.lent.head) }
    }

    fn pass_up(&self, chain: &Chain, flags: u32) {
        if chain.count > 0 {
            // SAFETY: valid lists of ours, which NDIS gives back; no lock is held.
            unsafe {
                sys::NdisMIndicateReceiveNetBufferLists(
                    self.adapter,
                    chain.head,
                    NDIS_DEFAULT_PORT_NUMBER,
                    chain.count,
                    NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL | flags,
                );
            }
        }
    }

    /// Takes back lists. Answers how many. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `head` is null or the first of a chain of lists this receiver indicated, each coming back once.
    pub unsafe fn give_back(&self, head: *mut NET_BUFFER_LIST) -> u64 {
        let mut count = 0;
        if head.is_null() {
            return count;
        }
        let mut free = self.free.lock();
        // SAFETY: the caller's promise.
        unsafe {
            unlink_each(head, |list| {
                // There is room for every list there is.
                if free.len() < free.capacity() {
                    free.push(Free(list));
                    count += 1;
                }
            });
        }
        count
    }
}

impl Drop for Receiver {
    /// All lists have come back. IRQL: <= DISPATCH_LEVEL.
    fn drop(&mut self) {
        for buffer in &self.buffers {
            // SAFETY: allocated by `add_buffer`, in no one's hands; the memory goes last, with the vector.
            unsafe {
                sys::NdisFreeNetBufferList(buffer.list.as_ptr());
                sys::NdisFreeMdl(buffer.mdl.as_ptr());
            }
        }
        // SAFETY: empty now.
        unsafe { sys::NdisFreeNetBufferListPool(self.pool) }
    }
}
