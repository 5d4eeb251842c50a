//! Hooked shared endpoints.

use ndkpi::status::*;
use ndkpi::*;

use super::hook::enter;
use super::object::Kind;
use super::tables::{common, slots};

slots![
    NdkCloseSharedEndpoint,
    NdkQueryExtension,
    NdkGetLocalAddress called "NdkGetLocalAddress (shared endpoint)"
];

pub(super) static HOOKS: NDK_SHARED_ENDPOINT_DISPATCH = NDK_SHARED_ENDPOINT_DISPATCH {
    NdkCloseSharedEndpoint: close,
    NdkQueryExtension: query_extension,
    NdkGetLocalAddress: local_address,
};

common!(SharedEndpoint, NdkCloseSharedEndpoint);

unsafe extern "efiapi" fn local_address(
    endpoint: *mut NDK_SHARED_ENDPOINT,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(endpoint.cast(), Kind::SharedEndpoint, &NdkGetLocalAddress) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_SHARED_ENDPOINT_DISPATCH>();
    // SAFETY: the consumer's length; the provider's table.
    unsafe {
        hook.with_length(length, |length| {
            ((*table).NdkGetLocalAddress)(endpoint, address, length)
        })
    }
}
