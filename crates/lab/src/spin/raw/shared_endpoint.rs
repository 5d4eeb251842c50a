//! NDK_SHARED_ENDPOINT_DISPATCH.

use super::Raw;
use super::address::address;
use ndkpi::*;

pub(in crate::spin) fn endpoint_address(endpoint: Raw, room: u32) -> NTSTATUS {
    let table = endpoint.table::<NDK_SHARED_ENDPOINT_DISPATCH>();
    // SAFETY: as the module above says; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        (table.NdkGetLocalAddress)(endpoint.at(), buffer, length)
    })
    .0
}
