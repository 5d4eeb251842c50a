//! NDK_LISTENER_DISPATCH.

use super::address::address;
use super::events::on_request;
use super::{Address, Raw, context};
use ndkpi::*;
use std::net::SocketAddr;

pub(in crate::spin) fn listen(listener: Raw, at: &Address, token: u64) -> NTSTATUS {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe {
        (table.NdkListen)(
            listener.at(),
            at.at(),
            at.length,
            on_request,
            context(token),
        )
    }
}

pub(in crate::spin) fn listener_address(
    listener: Raw,
    room: u32,
) -> (NTSTATUS, Option<SocketAddr>) {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as the module above says; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        (table.NdkGetLocalAddress)(listener.at(), buffer, length)
    })
}

pub(in crate::spin) fn control(listener: Raw, pause: bool) {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkControlConnectEvents)(listener.at(), u8::from(pause)) }
}
