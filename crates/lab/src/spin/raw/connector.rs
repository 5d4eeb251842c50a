//! NDK_CONNECTOR_DISPATCH.

use super::address::address;
use super::events::{on_disconnect, on_disconnect_ex, on_request};
use super::{Address, Raw, context};
use ndkpi::*;
use std::ptr::null_mut;

/// What both ends of a connection say.
#[derive(Clone, Debug)]
pub(in crate::spin) struct Offer {
    pub(in crate::spin) inbound: u32,
    pub(in crate::spin) outbound: u32,
    pub(in crate::spin) data: Vec<u8>,
}

impl Offer {
    fn data(&self) -> (*const c_void, u32) {
        let at = if self.data.is_empty() {
            std::ptr::null()
        } else {
            self.data.as_ptr().cast()
        };
        (at, self.data.len() as u32)
    }
}

/// Where a connection begins.
#[derive(Clone, Copy)]
pub(in crate::spin) enum From {
    Address(Address),
    SharedEndpoint(Raw),
}

/// A connect that is about to be called.
pub(in crate::spin) struct Connecting {
    pub(in crate::spin) connector: Raw,
    pub(in crate::spin) qp: Raw,
    pub(in crate::spin) from: From,
    pub(in crate::spin) to: Address,
    pub(in crate::spin) offer: Offer,
    pub(in crate::spin) token: u64,
}

/// NdkConnect or NdkConnectWithSharedEndpoint.
pub(in crate::spin) fn connect(call: &Connecting) -> NTSTATUS {
    let table = call.connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (connector, qp) = (call.connector.at(), call.qp.at());
    let (to, offer, token) = (&call.to, &call.offer, context(call.token));
    let (inbound, outbound) = (offer.inbound, offer.outbound);
    let (data, size) = offer.data();
    // SAFETY: as the module above says; addresses and data are valid during the call.
    unsafe {
        match &call.from {
            From::Address(from) => {
                let connect = table.NdkConnect;
                let (from, from_size, to, to_size) = (from.at(), from.length, to.at(), to.length);
                connect(
                    connector, qp, from, from_size, to, to_size, inbound, outbound, data, size,
                    on_request, token,
                )
            }
            From::SharedEndpoint(endpoint) => {
                let connect = table.NdkConnectWithSharedEndpoint;
                let (endpoint, to, to_size) = (endpoint.at(), to.at(), to.length);
                connect(
                    connector, qp, endpoint, to, to_size, inbound, outbound, data, size,
                    on_request, token,
                )
            }
        }
    }
}

/// Which disconnect event is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spin) enum Event {
    None,
    Plain,
    /// By the Ex form of the function.
    Ex,
    /// By the Ex form, without an event.
    ExNone,
}

impl Event {
    pub(in crate::spin) fn is_ex(self) -> bool {
        matches!(self, Event::Ex | Event::ExNone)
    }

    fn plain(self) -> Option<NDK_FN_DISCONNECT_EVENT_CALLBACK> {
        (self == Event::Plain).then_some(on_disconnect as NDK_FN_DISCONNECT_EVENT_CALLBACK)
    }

    fn ex(self) -> Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX> {
        (self == Event::Ex).then_some(on_disconnect_ex as NDK_FN_DISCONNECT_EVENT_CALLBACK_EX)
    }
}

pub(in crate::spin) fn complete_connect(
    connector: Raw,
    event: Event,
    id: u64,
    token: u64,
) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (connector, id, token) = (connector.at(), context(id), context(token));
    // SAFETY: as the module above says.
    unsafe {
        if event.is_ex() {
            (table.NdkCompleteConnectEx)(connector, event.ex(), id, on_request, token)
        } else {
            (table.NdkCompleteConnect)(connector, event.plain(), id, on_request, token)
        }
    }
}

/// An accept that is about to be called.
pub(in crate::spin) struct Accepting {
    pub(in crate::spin) connector: Raw,
    pub(in crate::spin) qp: Raw,
    pub(in crate::spin) offer: Offer,
    pub(in crate::spin) event: Event,
    /// The connector, for its event.
    pub(in crate::spin) id: u64,
    pub(in crate::spin) token: u64,
}

/// NdkAccept or NdkAcceptEx.
pub(in crate::spin) fn accept(call: &Accepting) -> NTSTATUS {
    let table = call.connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (connector, qp) = (call.connector.at(), call.qp.at());
    let (id, token) = (context(call.id), context(call.token));
    let (inbound, outbound) = (call.offer.inbound, call.offer.outbound);
    let (data, size) = call.offer.data();
    // SAFETY: as the module above says; the data is valid during the call.
    unsafe {
        if call.event.is_ex() {
            let (accept, event) = (table.NdkAcceptEx, call.event.ex());
            accept(
                connector, qp, inbound, outbound, data, size, event, id, on_request, token,
            )
        } else {
            let (accept, event) = (table.NdkAccept, call.event.plain());
            accept(
                connector, qp, inbound, outbound, data, size, event, id, on_request, token,
            )
        }
    }
}

pub(in crate::spin) fn reject(connector: Raw, data: &[u8]) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as the module above says; the data is valid during the call.
    unsafe { (table.NdkReject)(connector.at(), data.as_ptr().cast(), data.len() as u32) }
}

/// NdkGetConnectionData, and the first bytes of the data.
pub(in crate::spin) fn connection_data(
    connector: Raw,
    room: usize,
    with_limits: bool,
) -> (NTSTATUS, [u8; 8]) {
    let mut data = [0_u8; 256];
    let (mut inbound, mut outbound, mut length) = (0, 0, room.min(data.len()) as u32);
    let at: *mut c_void = if room == 0 {
        null_mut()
    } else {
        data.as_mut_ptr().cast()
    };
    let (inbound, outbound): (*mut u32, *mut u32) = if with_limits {
        (&raw mut inbound, &raw mut outbound)
    } else {
        (null_mut(), null_mut())
    };
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as the module above says.
    let status = unsafe {
        (table.NdkGetConnectionData)(connector.at(), inbound, outbound, at, &raw mut length)
    };
    (status, *data.first_chunk().expect("more than 8 bytes"))
}

pub(in crate::spin) fn connector_address(connector: Raw, peer: bool, room: u32) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let get = if peer {
        table.NdkGetPeerAddress
    } else {
        table.NdkGetLocalAddress
    };
    // SAFETY: as the module above says; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        get(connector.at(), buffer, length)
    })
    .0
}

pub(in crate::spin) fn disconnect(connector: Raw, token: u64) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkDisconnect)(connector.at(), on_request, context(token)) }
}
