//! Memory descriptor lists: buffers by their physical pages.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};

use crate::status::NoMemory;
use crate::sys;
use crate::sys::types::{FALSE, KernelMode, PAGE_SHIFT, PAGE_SIZE};
use crate::sys::wdm::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, MdlMappingNoExecute, MmCached,
    NormalPagePriority,
};

/// One MDL of somebody else's, of locked or non-paged memory.
#[derive(Clone, Copy, Debug)]
pub struct MdlRef<'a> {
    raw: NonNull<MDL>,
    life: PhantomData<&'a MDL>,
}

impl<'a> MdlRef<'a> {
    /// Wraps an MDL; `None` for null.
    ///
    /// # Safety
    /// `mdl` is null, or it and all that follow it in its chain are valid, describe locked pages, and stay so for `'a`.
    pub unsafe fn from_raw(mdl: *mut MDL) -> Option<Self> {
        Some(Self {
            raw: NonNull::new(mdl)?,
            life: PhantomData,
        })
    }

    /// The MDL itself.
    pub fn as_ptr(self) -> *mut MDL {
        self.raw.as_ptr()
    }

    fn mdl(self) -> &'a MDL {
        // SAFETY: valid for `'a` by the promise given to `from_raw`. The fields read here are fixed once the pages are locked; the
        // mapping, which can come later, is read by `system_address` alone.
        unsafe { self.raw.as_ref() }
    }

    /// Length of this MDL's buffer, bytes. IRQL: any.
    pub fn byte_count(self) -> u32 {
        self.mdl().ByteCount
    }

    /// Offset of the buffer in its first page, bytes. IRQL: any.
    pub fn byte_offset(self) -> u32 {
        self.mdl().ByteOffset
    }

    /// The virtual address the MDL was built for: an index into its pages, not something to read at. IRQL: any.
    pub fn virtual_address(self) -> *mut c_void {
        let mdl = self.mdl();
        mdl.StartVa.wrapping_byte_add(mdl.ByteOffset as usize)
    }

    /// Page frame numbers of the buffer's pages. IRQL: any.
    pub fn pfns(self) -> &'a [u64] {
        let mdl = self.mdl();
        let span = mdl.ByteOffset as usize + mdl.ByteCount as usize;
        // SAFETY: an MDL of locked pages is followed by one page frame number per page that its buffer touches.
        unsafe {
            core::slice::from_raw_parts(
                self.raw.as_ptr().add(1).cast::<u64>(),
                span.div_ceil(PAGE_SIZE),
            )
        }
    }

    /// Physical address of the byte at `offset` in the buffer, and how many bytes of the buffer are in that page from there on;
    /// `None` behind the end. IRQL: any.
    pub fn physical(self, offset: u32) -> Option<(u64, u32)> {
        let left = self
            .byte_count()
            .checked_sub(offset)
            .filter(|&left| left > 0)?;
        let at = self.byte_offset() as usize + offset as usize;
        let in_page = at % PAGE_SIZE;
        let pfn = self.pfns().get(at / PAGE_SIZE)?;
        let address = (pfn << PAGE_SHIFT) + in_page as u64;
        Some((address, left.min((PAGE_SIZE - in_page) as u32)))
    }

    /// Address of the buffer in system space; maps it if it is not mapped yet (the mapping goes with the MDL). `None` if there are no
    /// system page table entries left. IRQL: <= DISPATCH_LEVEL.
    pub fn system_address(self) -> Option<NonNull<u8>> {
        // SAFETY: a valid MDL; read through the pointer because mapping changes these fields.
        let (flags, mapped) = unsafe {
            (
                (*self.raw.as_ptr()).MdlFlags,
                (*self.raw.as_ptr()).MappedSystemVa,
            )
        };
        if flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
            return NonNull::new(mapped.cast());
        }
        let priority = NormalPagePriority | MdlMappingNoExecute;
        // SAFETY: an MDL of locked pages that is not mapped yet. Failure gives null, not a bug check.
        let address = unsafe {
            sys::MmMapLockedPagesSpecifyCache(
                self.raw.as_ptr(),
                KernelMode,
                MmCached,
                null_mut(),
                0,
                priority,
            )
        };
        NonNull::new(address.cast())
    }

    /// The next MDL of the chain. IRQL: any.
    pub fn next(self) -> Option<Self> {
        // SAFETY: the whole chain is covered by the promise given to `from_raw`.
        unsafe { Self::from_raw(self.mdl().Next) }
    }

    /// This MDL and those that follow it. IRQL: any.
    pub fn chain(self) -> Chain<'a> {
        Chain(Some(self))
    }
}

/// MDLs of a chain.
#[derive(Clone, Debug)]
pub struct Chain<'a>(Option<MdlRef<'a>>);

impl<'a> Iterator for Chain<'a> {
    type Item = MdlRef<'a>;

    fn next(&mut self) -> Option<MdlRef<'a>> {
        let mdl = self.0?;
        self.0 = mdl.next();
        Some(mdl)
    }
}

/// An MDL of our own.
#[derive(Debug)]
pub struct OwnedMdl {
    raw: NonNull<MDL>,
}

// SAFETY: an MDL is plain memory, freed from wherever.
unsafe impl Send for OwnedMdl {}
// SAFETY: shared access only reads it.
unsafe impl Sync for OwnedMdl {}

impl OwnedMdl {
    fn allocate(va: *mut c_void, len: u32) -> Result<Self, NoMemory> {
        // SAFETY: no IRP, no quota; the memory is not touched.
        let raw = unsafe { sys::IoAllocateMdl(va, len, FALSE, FALSE, null_mut()) };
        Ok(Self {
            raw: NonNull::new(raw).ok_or(NoMemory)?,
        })
    }

    /// An MDL for non-paged memory. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `len` bytes from `va` are non-paged pool (or another part of the non-paged system space) as long as the MDL is used.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub unsafe fn for_nonpaged(va: *mut c_void, len: u32) -> Result<Self, NoMemory> {
        let mdl = Self::allocate(va, len)?;
        // SAFETY: the MDL was allocated for this range, which is non-paged by the caller's promise.
        unsafe { sys::MmBuildMdlForNonPagedPool(mdl.raw.as_ptr()) };
        Ok(mdl)
    }

    /// An MDL for `len` bytes from `offset` in the buffer of `source`, which must outlive it. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `source` stays valid, with its pages locked, until this MDL is dropped.
    ///
    /// # Errors
    /// [`NoMemory`], also if the range is not inside the buffer.
    pub unsafe fn partial(source: MdlRef<'_>, offset: u32, len: u32) -> Result<Self, NoMemory> {
        if offset
            .checked_add(len)
            .is_none_or(|end| end > source.byte_count())
        {
            return Err(NoMemory);
        }
        let va = source.virtual_address().wrapping_byte_add(offset as usize);
        let mdl = Self::allocate(va, len)?;
        // SAFETY: the range is inside the source's, checked above, and the target has room for its pages.
        unsafe { sys::IoBuildPartialMdl(source.as_ptr(), mdl.raw.as_ptr(), va, len) };
        Ok(mdl)
    }

    /// For functions that take an MDL.
    pub fn as_ptr(&self) -> *mut MDL {
        self.raw.as_ptr()
    }

    /// To look into it.
    pub fn as_ref(&self) -> MdlRef<'_> {
        MdlRef {
            raw: self.raw,
            life: PhantomData,
        }
    }
}

impl Drop for OwnedMdl {
    /// IRQL: <= DISPATCH_LEVEL.
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate`; IoFreeMdl undoes the mapping a partial MDL may have got.
        unsafe { sys::IoFreeMdl(self.raw.as_ptr()) }
    }
}
