//! Direct memory access: what the device must be told to reach memory.

use alloc::boxed::Box;
use core::ffi::c_void;
use core::ptr::NonNull;

use crate::boxed::try_box;
use crate::irql::{Passive, at_dispatch};
use crate::mdl::OwnedMdl;
use crate::rundown::Rundown;
use crate::shared::Shared;
use crate::status::Status;
use crate::sys;
use crate::sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER};
use crate::sys::types::{BOOLEAN, TRUE};
use crate::sys::wdm::{
    DEVICE_DESCRIPTION, DEVICE_DESCRIPTION_VERSION2, DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS,
    IRP, PCIBus, SCATTER_GATHER_ELEMENT, SCATTER_GATHER_LIST,
};

/// A bus-mastering PCI device's way to memory: 64-bit addresses, scatter/gather.
///
/// Clones share it; the last one gives it back (IRQL: PASSIVE_LEVEL), and waits before for every list that is out or still being made.
#[derive(Clone, Debug)]
pub struct Adapter {
    owner: Shared<Owner>,
}

/// What the clones of an adapter share. Apart from what lists refer to, because those may do so until they have been waited for, which is
/// while this is being dropped.
#[derive(Debug)]
struct Owner {
    inner: Shared<Inner>,
}

#[derive(Debug)]
struct Inner {
    raw: NonNull<DMA_ADAPTER>,
    device: *mut DEVICE_OBJECT,
    /// Lists, from when the system is asked for one until it has it back.
    lists: Rundown,
}

// SAFETY: a DMA adapter is used from any processor; the device object outlives the adapter that was got for it.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    fn operations(&self) -> &DMA_OPERATIONS {
        // SAFETY: the adapter is valid until `drop`, and its table with it. Only functions every version has are used.
        unsafe { &*(*self.raw.as_ptr()).DmaOperations }
    }

    /// # Safety
    /// `list` was made by this adapter for this direction and is given back once, before it leaves `lists`. IRQL: <= DISPATCH_LEVEL.
    unsafe fn put(&self, list: NonNull<SCATTER_GATHER_LIST>, to_device: bool) {
        if let Some(put) = self.operations().PutScatterGatherList {
            // SAFETY: the caller's promise; the level is exactly DISPATCH_LEVEL.
            at_dispatch(|| unsafe {
                put(self.raw.as_ptr(), list.as_ptr(), BOOLEAN::from(to_device))
            });
        }
    }
}

impl Drop for Owner {
    /// Waits for lists. IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        // SAFETY: the last holder of an adapter is at PASSIVE_LEVEL, see `Adapter`.
        self.inner
            .lists
            .close_and_wait(unsafe { Passive::assume() });
    }
}

impl Drop for Inner {
    /// IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        if let Some(put) = self.operations().PutDmaAdapter {
            // SAFETY: got by `Adapter::get`; every buffer holds a clone, and the owner has waited for lists, so none is left.
            unsafe { put(self.raw.as_ptr()) }
        }
    }
}

impl Adapter {
    /// Gets the adapter of a device.
    ///
    /// # Safety
    /// `pdo` is the physical device object of a PCI device this driver runs, and `device` the functional one; both outlive the adapter
    /// and all that is made with it.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub unsafe fn get(
        pdo: *mut DEVICE_OBJECT,
        device: *mut DEVICE_OBJECT,
        _: Passive,
    ) -> Result<Self, Status> {
        let mut description = DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION2,
            Master: TRUE,
            ScatterGather: TRUE,
            Dma32BitAddresses: TRUE,
            Dma64BitAddresses: TRUE,
            InterfaceType: PCIBus,
            // No limit on a transfer.
            MaximumLength: u32::MAX,
            ..DEVICE_DESCRIPTION::ZEROED
        };
        let lists = Rundown::try_new()?;
        let mut map_registers = 0;
        // SAFETY: the device is the caller's promise; the description lives across the call.
        let raw =
            unsafe { sys::IoGetDmaAdapter(pdo, &raw mut description, &raw mut map_registers) };
        let raw = NonNull::new(raw).ok_or(Status(STATUS_INSUFFICIENT_RESOURCES))?;
        let inner = Shared::try_new(Inner { raw, device, lists })?;
        Ok(Self {
            owner: Shared::try_new(Owner { inner })?,
        })
    }

    fn inner(&self) -> &Inner {
        &self.owner.inner
    }

    /// Allocates memory that the processor and the device both reach, physically contiguous, page-aligned, zeroed.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES; STATUS_INVALID_PARAMETER for no bytes or more than 4 GiB.
    pub fn common_buffer(&self, len: usize, _: Passive) -> Result<CommonBuffer, Status> {
        let length = u32::try_from(len).ok().filter(|&length| length > 0);
        let length = length.ok_or(Status(STATUS_INVALID_PARAMETER))?;
        let allocate = self.inner().operations().AllocateCommonBuffer;
        let allocate = allocate.ok_or(Status(STATUS_INSUFFICIENT_RESOURCES))?;
        let mut logical = 0;
        // SAFETY: the adapter is valid; the token says this is PASSIVE_LEVEL.
        let base = unsafe { allocate(self.inner().raw.as_ptr(), length, &raw mut logical, TRUE) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Status(STATUS_INSUFFICIENT_RESOURCES))?;
        // SAFETY: freshly allocated, `len` bytes.
        unsafe { base.as_ptr().write_bytes(0, len) };
        Ok(CommonBuffer {
            adapter: self.clone(),
            base,
            length,
            logical: logical.cast_unsigned(),
        })
    }

    /// Maps the buffer of an MDL for the device, and hands the list to `receiver`.
    ///
    /// Mostly that happens within this call. If the system has to wait for map registers (it does not for a device with 64-bit
    /// addresses, unless an IOMMU is short of them), it happens later, and cannot be called off.
    ///
    /// IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// The MDL's pages stay locked until the list is dropped.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES and what the system answers. The receiver is not called then.
    pub unsafe fn scatter_gather<R: Receive>(
        &self,
        mdl: OwnedMdl,
        to_device: bool,
        receiver: R,
    ) -> Result<(), Status> {
        let operations = self.inner().operations();
        let (Some(get), Some(_)) = (
            operations.GetScatterGatherList,
            operations.PutScatterGatherList,
        ) else {
            return Err(Status(STATUS_INSUFFICIENT_RESOURCES));
        };
        let (raw, va, len) = {
            let mdl = mdl.as_ref();
            (mdl.as_ptr(), mdl.virtual_address(), mdl.byte_count())
        };
        let request = try_box(Request {
            adapter: NonNull::from(self.inner()),
            mdl,
            to_device,
            receiver,
        })?;
        if !self.inner().lists.try_enter() {
            return Err(Status(STATUS_INSUFFICIENT_RESOURCES));
        }
        let context = Box::into_raw(request).cast::<c_void>();
        // SAFETY: adapter and device are valid, the buffer is the caller's promise, the level is exactly DISPATCH_LEVEL; the routine
        // takes `context` back, and with it the list's place among the adapter's.
        let status = Status(at_dispatch(|| unsafe {
            get(
                self.inner().raw.as_ptr(),
                self.inner().device,
                raw,
                va,
                len,
                list_made::<R>,
                context,
                BOOLEAN::from(to_device),
            )
        }));
        status.ok().inspect_err(|_| {
            // SAFETY: on failure the routine is not called: the request comes back here.
            drop(unsafe { Box::<Request<R>>::from_raw(context.cast()) });
            self.inner().lists.leave();
        })
    }

    /// Refuses to make more lists, and waits until those that are out have been dropped and who received them late has returned.
    pub fn close(&self, passive: Passive) {
        self.inner().lists.close_and_wait(passive);
    }
}

/// Who gets a list.
pub trait Receive: Send {
    /// The list has been made; None if the system could not after all.
    ///
    /// IRQL: DISPATCH_LEVEL. No lock is held but those under which [`Adapter::scatter_gather`] was called, if it still runs.
    fn receive(self, list: Option<ScatterGather>);
}

/// A list on its way.
struct Request<R> {
    adapter: NonNull<Inner>,
    /// The system reads it until the list is made.
    mdl: OwnedMdl,
    to_device: bool,
    receiver: R,
}

/// Hands the list on. IRQL: DISPATCH_LEVEL.
unsafe extern "efiapi" fn list_made<R: Receive>(
    _: *mut DEVICE_OBJECT,
    _: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    context: *mut c_void,
) {
    // SAFETY: what `scatter_gather` gave away for this call.
    let request = *unsafe { Box::<Request<R>>::from_raw(context.cast()) };
    let Request { adapter, mdl, .. } = request;
    // SAFETY: the adapter waits for the request's place, and for the one that is taken here.
    let lists = &unsafe { adapter.as_ref() }.lists;
    // The list takes the request's place over, and may give it back before this routine is done with the adapter.
    lists.add_user();
    let list = NonNull::new(list).map(|list| ScatterGather {
        adapter,
        list,
        _mdl: mdl,
        to_device: request.to_device,
    });
    if list.is_none() {
        lists.leave();
    }
    request.receiver.receive(list);
    lists.leave();
}

/// Memory that the processor and the device share. Freed when dropped (IRQL: PASSIVE_LEVEL).
#[derive(Debug)]
pub struct CommonBuffer {
    adapter: Adapter,
    base: NonNull<u8>,
    length: u32,
    logical: u64,
}

// SAFETY: the memory belongs to this value alone (and to the device, with which it is shared by protocol, not by references).
unsafe impl Send for CommonBuffer {}
// SAFETY: the accessors are volatile or copy; whoever makes references says in an unsafe block why it may.
unsafe impl Sync for CommonBuffer {}

impl CommonBuffer {
    /// Length, bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it is empty: it never is.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// First byte, for the processor.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }

    /// First byte, for the device.
    pub fn logical(&self) -> u64 {
        self.logical
    }

    /// Address of `len` bytes at `offset`, if they are inside.
    fn at(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: the range is inside the allocation.
        (end <= self.len()).then(|| unsafe { self.base.add(offset) })
    }

    /// Reads a value the device may be writing. Zeros outside the buffer. IRQL: any.
    fn load<T: Copy + Default>(&self, offset: usize) -> T {
        match self.at(offset, size_of::<T>()).map(NonNull::cast::<T>) {
            // SAFETY: inside the buffer and aligned; volatile because the device is another processor to this memory.
            Some(at) if at.is_aligned() => unsafe { at.read_volatile() },
            _ => T::default(),
        }
    }

    fn store<T: Copy>(&self, offset: usize, value: T) {
        if let Some(at) = self.at(offset, size_of::<T>()).map(NonNull::cast::<T>)
            && at.is_aligned()
        {
            // SAFETY: as in `load`.
            unsafe { at.write_volatile(value) }
        }
    }

    /// Reads a little-endian number at an aligned offset; zero outside the buffer. IRQL: any.
    pub fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.load(offset))
    }

    /// Reads a little-endian number at an aligned offset; zero outside the buffer. IRQL: any.
    pub fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.load(offset))
    }

    /// Writes a little-endian number at an aligned offset; nothing outside the buffer. IRQL: any.
    pub fn write_u16(&self, offset: usize, value: u16) {
        self.store(offset, value.to_le());
    }

    /// Writes a little-endian number at an aligned offset; nothing outside the buffer. IRQL: any.
    pub fn write_u32(&self, offset: usize, value: u32) {
        self.store(offset, value.to_le());
    }

    /// Writes a little-endian number at an aligned offset; nothing outside the buffer. IRQL: any.
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.store(offset, value.to_le());
    }

    /// Copies bytes into the buffer: false if they do not fit there. IRQL: any.
    ///
    /// # Safety
    /// Neither the device nor another processor reads or writes this range now.
    pub unsafe fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(at) = self.at(offset, bytes.len()) else {
            return false;
        };
        // SAFETY: inside the buffer; `bytes` cannot overlap it, as no reference into it exists (caller's promise).
        unsafe {
            at.as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        true
    }

    /// The bytes of a range, if it is inside the buffer. IRQL: any.
    ///
    /// # Safety
    /// Nobody writes to the range as long as the slice lives. A device that writes to a buffer it has given back breaks this, as it
    /// could break any memory it may reach.
    pub unsafe fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let at = self.at(offset, len)?;
        // SAFETY: inside the buffer, initialised when it was allocated, not written (caller's promise).
        Some(unsafe { core::slice::from_raw_parts(at.as_ptr(), len) })
    }
}

impl Drop for CommonBuffer {
    fn drop(&mut self) {
        if let Some(free) = self.adapter.inner().operations().FreeCommonBuffer {
            // SAFETY: the same length, addresses and cache attribute as when it was allocated; the adapter is kept by our clone.
            unsafe {
                free(
                    self.adapter.inner().raw.as_ptr(),
                    self.length,
                    self.logical.cast_signed(),
                    self.base.as_ptr().cast(),
                    TRUE,
                );
            }
        }
    }
}

/// A buffer mapped for the device, as pieces contiguous for it. Unmapped when dropped (IRQL: <= DISPATCH_LEVEL).
#[derive(Debug)]
pub struct ScatterGather {
    /// It waits for its lists. Not a clone of the [`Adapter`]: a list may be dropped at DISPATCH_LEVEL.
    adapter: NonNull<Inner>,
    list: NonNull<SCATTER_GATHER_LIST>,
    /// The list describes it.
    _mdl: OwnedMdl,
    to_device: bool,
}

// SAFETY: the list is ours until it is given back, from whatever processor.
unsafe impl Send for ScatterGather {}
// SAFETY: nothing changes it meanwhile.
unsafe impl Sync for ScatterGather {}

impl ScatterGather {
    /// The pieces, in order. IRQL: any.
    pub fn elements(&self) -> &[SCATTER_GATHER_ELEMENT] {
        // SAFETY: a list of the kernel's, valid until it is given back in `drop`.
        unsafe { elements(self.list.as_ref()) }
    }
}

/// The pieces of a scatter/gather list. IRQL: any.
///
/// # Safety
/// `list` is a list made by the kernel (or NDIS): `NumberOfElements` elements follow its head.
pub unsafe fn elements(list: &SCATTER_GATHER_LIST) -> &[SCATTER_GATHER_ELEMENT] {
    let first = core::ptr::from_ref(list)
        .wrapping_add(1)
        .cast::<SCATTER_GATHER_ELEMENT>();
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(first, list.NumberOfElements as usize) }
}

impl Drop for ScatterGather {
    fn drop(&mut self) {
        // SAFETY: the adapter stays until this list has left.
        let adapter = unsafe { self.adapter.as_ref() };
        // SAFETY: made by this adapter, given back once.
        unsafe { adapter.put(self.list, self.to_device) };
        adapter.lists.leave();
    }
}
