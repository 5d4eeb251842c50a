//! Logical address mappings: memory that work requests name by logical addresses and the privileged token, without a registration.
//!
//! A logical address of this provider is not an address on any bus. It names a mapping and a byte in it, and is only ever translated
//! through the table here, so that a stale or invented one is found out. Consumers cannot tell: to them it is opaque, and page
//! alignment and page counts are as NDK wants them. All pages of a mapping follow each other, so a whole buffer fits one SGE.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::mem::offset_of;
use core::task::Poll;

use ndis_sys::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_PENDING, STATUS_SUCCESS,
};
use ndis_sys::types::{NTSTATUS, PAGE_SHIFT, PAGE_SIZE};
use ndkpi::{
    MDL, NDK_ADAPTER, NDK_FN_REQUEST_COMPLETION, NDK_LOGICAL_ADDRESS, NDK_LOGICAL_ADDRESS_MAPPING,
};
use nt::mdl::MdlRef;

use super::adapter::Adapter;
use super::limits::{MAX_LAMS, MAX_REGISTRATION};
use super::mapping::{self, Mapping, Waiter};
use super::object::{Object, Request};
use super::slab::{Key, Slab};

/// Bits of a logical address that count bytes in a mapping, page offset included.
const BYTE_BITS: u32 = MAX_REGISTRATION.ilog2() + 1;
/// Bits above them: the mapping's slot.
const SLOT_BITS: u32 = MAX_LAMS.ilog2() + 1;
/// Bits above them: which of the mappings that used the slot it is. One bit stays free: addresses are signed.
const GENERATION_BITS: u32 = 63 - BYTE_BITS - SLOT_BITS;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// One mapping.
pub struct Lam {
    mapping: Mapping,
    /// Offset of the first byte in the first page.
    first_byte: u64,
    /// Bytes mapped.
    length: u64,
    /// The adapter that made it: whose close frees what it forgot.
    adapter: usize,
}

/// All mappings of a port.
pub struct Lams {
    table: Slab<Lam>,
}

impl Lams {
    /// No mappings.
    pub const fn new() -> Self {
        Self {
            table: Slab::new(MAX_LAMS),
        }
    }

    fn base(key: Key) -> u64 {
        let generation = u64::from(key.generation()) & GENERATION_MASK;
        (generation << SLOT_BITS | key.index() as u64) << BYTE_BITS
    }

    /// The mapping in which `length` bytes from a logical address lie, and where.
    pub fn find(&self, address: u64, length: u64) -> Option<(&Mapping, u64)> {
        let slot = (address >> BYTE_BITS) & ((1 << SLOT_BITS) - 1);
        let (key, lam) = self.table.at(u32::try_from(slot).ok()?)?;
        if Self::base(key) != address & !((1 << BYTE_BITS) - 1) {
            return None;
        }
        let offset = (address & ((1 << BYTE_BITS) - 1)).checked_sub(lam.first_byte)?;
        (length <= lam.length.checked_sub(offset)?).then_some((&lam.mapping, offset))
    }

    /// One mapping that an adapter has left behind, if any: to be dropped without the lock.
    pub fn take_left_by(&mut self, adapter: usize) -> Option<Lam> {
        let key = self.table.keys().find(|key| {
            self.table
                .get(*key)
                .is_some_and(|lam| lam.adapter == adapter)
        })?;
        self.table.remove(key)
    }
}

/// What identifies an adapter among those that are open.
pub fn owner(adapter: &Object<Adapter>) -> usize {
    core::ptr::from_ref(adapter) as usize
}

/// A mapping that is asked for, and where it is to be told.
#[derive(Clone, Copy)]
struct Wanted {
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
    first_byte: *mut u32,
    /// Offset of the first byte in the first page.
    in_page: u32,
    length: usize,
}

// SAFETY: the consumer's out parameters, which stay until the request is done, in memory that is resident on every processor.
unsafe impl Send for Wanted {}

impl Wanted {
    /// Pages that the bytes touch.
    const fn pages(&self) -> usize {
        (self.in_page as usize + self.length).div_ceil(PAGE_SIZE)
    }

    /// The memory has been mapped, or could not be: enters it, and fills in what the consumer gets. Without locks, IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// The out parameters are as [`build_lam`] wants them.
    unsafe fn build(
        self,
        adapter: &Object<Adapter>,
        mapping: Result<Mapping, NTSTATUS>,
    ) -> NTSTATUS {
        // It may have taken long: the adapter may be lost by now.
        let mapping = match mapping.and_then(|mapping| adapter.port().ready().map(|()| mapping)) {
            Ok(mapping) => mapping,
            Err(status) => return status,
        };
        let entry = Lam {
            mapping,
            first_byte: u64::from(self.in_page),
            length: self.length as u64,
            adapter: owner(adapter),
        };
        let key = match adapter
            .port()
            .peek(|state| state.memory.lams.table.insert(entry))
        {
            Ok(key) => key,
            Err(_entry) => return STATUS_INSUFFICIENT_RESOURCES,
        };
        let base = Lams::base(key);
        let (lam, pages) = (self.lam, self.pages());
        // SAFETY: the consumer's buffer has room for the head and `pages` addresses; `first_byte` is its out parameter.
        unsafe {
            (&raw mut (*lam).AdapterContext)
                .write(core::ptr::without_provenance_mut(key.to_bits() as usize));
            (&raw mut (*lam).AdapterPageCount).write(pages as u32);
            let array = (&raw mut (*lam).AdapterPageArray).cast::<NDK_LOGICAL_ADDRESS>();
            for page in 0..pages {
                array
                    .add(page)
                    .write((base + ((page as u64) << PAGE_SHIFT)).cast_signed());
            }
            self.first_byte.write(self.in_page);
        }
        STATUS_SUCCESS
    }
}

/// A build whose memory takes longer to be mapped. The request keeps the adapter from being closed meanwhile.
struct Building {
    /// None for a consumer that cannot be told later: it has been told that there is no mapping.
    request: Option<Request<Adapter>>,
    wanted: Wanted,
}

impl Waiter for Building {
    fn mapped(self, mapping: Result<Mapping, NTSTATUS>) {
        if let Some(request) = self.request {
            // SAFETY: the consumer keeps its out parameters until the request is done.
            let status = unsafe { self.wanted.build(request.object(), mapping) };
            request.complete(status);
        }
    }
}

/// NdkBuildLAM. Pends while the system cannot map the memory for the NIC; without a completion that is STATUS_INSUFFICIENT_RESOURCES.
/// IRQL <= DISPATCH_LEVEL.
///
/// A mapping of no bytes, or of more than MaxRegistrationSize, is STATUS_INVALID_PARAMETER like one that is not contiguous.
///
/// # Safety
/// The consumer passes an open adapter, a chain of MDLs whose pages it keeps locked until the mapping is released, and out
/// parameters that stay until the request is done.
pub unsafe extern "efiapi" fn build_lam(
    adapter: *mut NDK_ADAPTER,
    mdl: *mut MDL,
    length: usize,
    completion: Option<NDK_FN_REQUEST_COMPLETION>,
    context: *mut c_void,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
    lam_size: *mut u32,
    first_byte: *mut u32,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let (adapter, first) = unsafe {
        (
            Object::<Adapter>::from_raw(adapter),
            MdlRef::from_raw(mdl.cast()),
        )
    };
    let Some(first) = first.filter(|_| (1..=MAX_REGISTRATION).contains(&length)) else {
        return STATUS_INVALID_PARAMETER;
    };
    let wanted = Wanted {
        lam,
        first_byte,
        in_page: first.byte_offset(),
        length,
    };
    let needed = offset_of!(NDK_LOGICAL_ADDRESS_MAPPING, AdapterPageArray)
        + wanted.pages() * size_of::<NDK_LOGICAL_ADDRESS>();
    // SAFETY: the consumer's in/out parameter.
    let room = unsafe { lam_size.replace(needed as u32) } as usize;
    if lam.is_null() || room < needed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let port = adapter.port();
    if let Err(status) = port.ready() {
        return port.answer("NdkBuildLAM", status);
    }
    let waiter = Building {
        request: completion.map(|completion| Request::new(adapter, completion, context)),
        wanted,
    };
    // SAFETY: by the contract of this function; the mapping is dropped when it is released, or when the adapter is closed.
    match unsafe { mapping::map(&port.platform().dma, first, length, waiter) } {
        Poll::Ready(mapping) => {
            // SAFETY: by the contract of this function.
            let status = unsafe { wanted.build(adapter, mapping) };
            port.answer("NdkBuildLAM", status)
        }
        Poll::Pending if completion.is_none() => STATUS_INSUFFICIENT_RESOURCES,
        Poll::Pending => STATUS_PENDING,
    }
}

/// NdkReleaseLAM. The MDL was never changed: it was mapped through an MDL of the provider's own. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The consumer passes an open adapter and a mapping that NdkBuildLAM made, which no request uses any more.
pub unsafe extern "efiapi" fn release_lam(
    adapter: *mut NDK_ADAPTER,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
) {
    // SAFETY: by the contract of this function.
    let (adapter, key) = unsafe {
        (
            Object::<Adapter>::from_raw(adapter),
            (*lam).AdapterContext as u64,
        )
    };
    let entry = adapter
        .port()
        .peek(|state| state.memory.lams.table.remove(Key::from_bits(key)));
    // Unmapped here, without the lock.
    drop(entry);
}
