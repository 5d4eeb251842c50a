//! Fast registration: regions whose memory is named by a work request, page by logical page (page nc-ndkpi-ndk\_fn\_fast\_register).
//!
//! A region that was initialised for it owns two lists of pages. One is what the valid registration reaches; the other takes the pages
//! of the next registration, which may be posted while the first is still being invalidated.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::{
    STATUS_IMPLEMENTATION_LIMIT, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use ndis_sys::types::{BOOLEAN, NTSTATUS, PAGE_SIZE};
use ndkpi::{NDK_FN_REQUEST_COMPLETION, NDK_LOGICAL_ADDRESS, NDK_MR, NDK_QP};
use roce::SendOp;

use super::limits::FRMR_PAGES;
use super::memory::{Pages, Region};
use super::mr::{Memory, Mr, Phase};
use super::object::Object;
use super::qp::{Qp, op_access, post_local};
use super::state::State;

/// NdkInitializeFastRegisterMr. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// More pages than FRMRPageCount, or none, are STATUS_IMPLEMENTATION_LIMIT. A region that was created for NdkRegisterMr, or that
/// is initialised already, is STATUS_INVALID_DEVICE_REQUEST (decision X-65).
pub(super) unsafe extern "efiapi" fn initialize_fast_register_mr(
    mr: *mut NDK_MR,
    page_count: u32,
    remote_access: BOOLEAN,
    _completion: NDK_FN_REQUEST_COMPLETION,
    _context: *mut c_void,
) -> NTSTATUS {
    if page_count == 0 || page_count > FRMR_PAGES {
        return STATUS_IMPLEMENTATION_LIMIT;
    }
    // SAFETY: the consumer passes an open MR.
    let mr = unsafe { Object::<Mr>::from_raw(mr) };
    if !mr.fast {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if let Err(status) = mr.port().ready() {
        return status;
    }
    // What a region holds is allocated, and if need be freed, without the lock.
    let list = || {
        Pages::try_new(page_count as usize)
            .ok()
            .map(|pages| Region::paged(pages, mr.key()))
    };
    let mut lists = [list(), list()];
    if lists.iter().any(Option::is_none) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    mr.port()
        .peek(|state| state.initialize(mr, &mut lists, page_count, remote_access != 0))
}

impl State {
    /// Gives a region its two lists and a key. What cannot be used is in `lists` afterwards, to be freed without the lock.
    fn initialize(
        &mut self,
        mr: &Object<Mr>,
        lists: &mut Memory,
        pages: u32,
        remote: bool,
    ) -> NTSTATUS {
        match self.mrs.get_mut(mr.key()) {
            Some(registration) if matches!(registration.phase, Phase::Idle) => {}
            _ => return STATUS_INVALID_DEVICE_REQUEST,
        }
        let regions = lists.each_mut().map(|list| {
            let region = self.memory.insert(list.take()?);
            region.map_err(|back| *list = Some(back)).ok()
        });
        let key = match regions {
            [Some(_), Some(_)] => self.engine.register_fast(mr.pd().id(), remote).ok(),
            _ => None,
        };
        let ([Some(first), Some(second)], Some(key)) = (regions, key) else {
            for (list, region) in lists.iter_mut().zip(regions) {
                if let Some(region) = region {
                    *list = self.memory.remove(region);
                }
            }
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        if let Some(registration) = self.mrs.get_mut(mr.key()) {
            registration.phase = Phase::Fast {
                key,
                lists: [first, second],
                pages,
            };
        }
        STATUS_SUCCESS
    }
}

/// NdkFastRegister. IRQL <= DISPATCH_LEVEL. The pages are copied during the call; the order of parameters is the header's.
///
/// STATUS_ACCESS_VIOLATION for remote rights on a region that was initialised without. STATUS_INVALID_PARAMETER for more pages than the
/// region was initialised for, for pages that no mapping of this adapter has, for a length that they do not cover, and for a base that
/// is not at the same offset in its page as the first byte, so that base 0 needs an offset of 0. STATUS_DEVICE_BUSY while an earlier
/// registration of the region is posted and has not been executed: a chain registers a region once.
pub(super) unsafe extern "efiapi" fn fast_register(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    page_count: u32,
    pages: *const NDK_LOGICAL_ADDRESS,
    first_byte: u32,
    length: usize,
    base: *mut c_void,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP and an open MR.
    let (qp, mr) = unsafe { (Object::<Qp>::from_raw(qp), Object::<Mr>::from_raw(mr)) };
    let base = base as u64;
    let (first_byte, len) = (u64::from(first_byte), length as u64);
    let page = PAGE_SIZE as u64;
    let covered = u64::from(page_count) * page;
    if len == 0
        || first_byte >= page
        || base % page != first_byte
        || len > covered.saturating_sub(first_byte)
    {
        return STATUS_INVALID_PARAMETER;
    }
    let list = || {
        (0..page_count as usize).map(|index| {
            // SAFETY: the consumer passes an array of `page_count` addresses, in memory that is resident.
            unsafe { pages.add(index).read() }.cast_unsigned()
        })
    };
    qp.port().with(|state| {
        let Some(registration) = state.mrs.get_mut(mr.key()) else {
            return STATUS_INVALID_DEVICE_REQUEST;
        };
        let Phase::Fast { key, lists, pages } = registration.phase else {
            return STATUS_INVALID_DEVICE_REQUEST;
        };
        if page_count > pages || !state.memory.are_mapped(list(), first_byte, len) {
            return STATUS_INVALID_PARAMETER;
        }
        let spare = state.engine.spare_region(key, lists);
        let op = SendOp::FastRegister {
            key,
            base,
            len,
            access: op_access(flags),
            region: spare,
        };
        match post_local(state, qp.id(), context, flags, op) {
            Ok(newest) => {
                // Nothing is sent or received before the lock is let go of, and a post that was refused left the list alone, which
                // another registration may be waiting for.
                state.memory.name_pages(spare, list(), first_byte, len);
                if let Some(newest) = newest
                    && let Some(registration) = state.mrs.get_mut(mr.key())
                    && let Phase::Fast { key, .. } = &mut registration.phase
                {
                    *key = newest;
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    })
}
