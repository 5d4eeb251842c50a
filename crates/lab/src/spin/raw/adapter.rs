//! NDK_ADAPTER_DISPATCH.

use super::events::{on_connect, on_cq, on_create, on_request};
use super::{Address, Raw, context, create};
use ndkpi::*;
use std::ptr::null_mut;

pub(in crate::spin) fn query_info(adapter: Raw, room: u32) -> NTSTATUS {
    let mut info = NDK_ADAPTER_INFO::ZEROED;
    let mut size = room.min(size_of::<NDK_ADAPTER_INFO>() as u32);
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkQueryAdapterInfo)(adapter.at(), &raw mut info, &raw mut size) }
}

pub(in crate::spin) fn create_cq(
    adapter: Raw,
    depth: u32,
    cq: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateCq)(
            adapter.at(),
            depth,
            on_cq,
            context(cq),
            null_mut(),
            on_create,
            context(token),
            out,
        )
    })
}

pub(in crate::spin) fn create_pd(adapter: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe { (table.NdkCreatePd)(adapter.at(), on_create, context(token), out) })
}

pub(in crate::spin) fn create_connector(adapter: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateConnector)(adapter.at(), on_create, context(token), out)
    })
}

pub(in crate::spin) fn create_listener(
    adapter: Raw,
    listener: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateListener)(
            adapter.at(),
            on_connect,
            context(listener),
            on_create,
            context(token),
            out,
        )
    })
}

pub(in crate::spin) fn create_shared_endpoint(
    adapter: Raw,
    at: &Address,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateSharedEndpoint)(
            adapter.at(),
            at.at(),
            at.length,
            on_create,
            context(token),
            out,
        )
    })
}

/// A mapping that is to be built over memory.
pub(in crate::spin) struct Mapping {
    pub(in crate::spin) mdl: *mut ndis_sys::wdm::MDL,
    pub(in crate::spin) length: usize,
    /// Where the mapping goes, which outlives it, and how many bytes there are.
    pub(in crate::spin) at: *mut u8,
    pub(in crate::spin) size: u32,
    /// The request, if there is a completion callback.
    pub(in crate::spin) token: Option<u64>,
}

/// NdkBuildLAM, and where in the first page the memory begins.
pub(in crate::spin) fn build_lam(adapter: Raw, mapping: &Mapping) -> (NTSTATUS, u32) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    let (mut size, mut first_byte) = (mapping.size, 0);
    let completion = mapping
        .token
        .map(|_| on_request as NDK_FN_REQUEST_COMPLETION);
    // SAFETY: as the module above says.
    let status = unsafe {
        (table.NdkBuildLAM)(
            adapter.at(),
            mapping.mdl.cast(),
            mapping.length,
            completion,
            context(mapping.token.unwrap_or(0)),
            mapping.at.cast(),
            &raw mut size,
            &raw mut first_byte,
        )
    };
    (status, first_byte)
}

/// The page addresses of a mapping.
pub(in crate::spin) fn pages(lam: *const u8, into: &mut Vec<NDK_LOGICAL_ADDRESS>) {
    let lam = lam.cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
    // SAFETY: a mapping that was built, with as many addresses as it says.
    unsafe {
        let count = (*lam).AdapterPageCount as usize;
        let first = (&raw const (*lam).AdapterPageArray).cast::<NDK_LOGICAL_ADDRESS>();
        into.extend((0..count).map(|index| first.add(index).read()));
    }
}

pub(in crate::spin) fn release_lam(adapter: Raw, lam: *mut u8) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkReleaseLAM)(adapter.at(), lam.cast()) }
}
