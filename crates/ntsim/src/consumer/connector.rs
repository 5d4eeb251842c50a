//! Connectors.

use super::address::Address;
use super::pending::{Call, Pending, irql, keep, on_close, on_request};
use super::{Qp, Result, calling, check};
use crate::world::context;
use ndkpi::status::{STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS};
use ndkpi::{NDK_CONNECTOR, NDK_CONNECTOR_DISPATCH, NTSTATUS, SOCKADDR, c_void};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ptr::{NonNull, null, null_mut};
use std::rc::Rc;

/// Reads outstanding at a time, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// By the peer, here.
    pub inbound: u32,
    /// By this side, there.
    pub outbound: u32,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits {
            inbound: 16,
            outbound: 16,
        }
    }
}

/// What NdkGetConnectionData tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionData {
    /// The limits in force.
    pub limits: ReadLimits,
    /// The peer's private data, zero-padded to what the provider says the buffer must hold.
    pub private_data: Vec<u8>,
}

/// The disconnect events of one connector.
#[derive(Default)]
pub struct DisconnectEvents(RefCell<Vec<Call>>);

impl DisconnectEvents {
    /// The events so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.borrow().clone()
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

unsafe extern "efiapi" fn on_disconnect(context: *mut c_void) {
    // SAFETY: the provider passes back the context it was given, which the world keeps.
    let events = unsafe { &*context.cast::<DisconnectEvents>() };
    let call = Call {
        status: STATUS_SUCCESS,
        irql: irql(),
    };
    let _kernel = context::KernelMode::enter();
    events.0.borrow_mut().push(call);
}

/// NdkDisconnectEventCallbackEx: the reason is the provider's own and may be 0.
unsafe extern "efiapi" fn on_disconnect_ex(context: *mut c_void, _reason: u32) {
    // SAFETY: the same context as that of the plain form.
    unsafe { on_disconnect(context) };
}

/// A connector.
pub struct Connector {
    raw: NonNull<NDK_CONNECTOR>,
    events: Rc<DisconnectEvents>,
}

impl Connector {
    /// Wraps a connector that a provider made.
    #[must_use]
    pub fn from_raw(raw: NonNull<NDK_CONNECTOR>) -> Connector {
        Connector {
            raw,
            events: keep(DisconnectEvents::default()),
        }
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_CONNECTOR {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_CONNECTOR_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// The disconnect events so far.
    #[must_use]
    pub fn disconnect_events(&self) -> &DisconnectEvents {
        &self.events
    }

    fn events_context(&self) -> *mut c_void {
        Rc::as_ptr(&self.events).cast_mut().cast()
    }

    /// NdkConnect. Port 0 of `from` lets the provider choose.
    #[must_use]
    pub fn start_connect(
        &self,
        qp: &Qp,
        from: SocketAddr,
        to: SocketAddr,
        limits: ReadLimits,
        private_data: &[u8],
    ) -> Pending {
        let (from, to) = (Address::new(from), Address::new(to));
        let (data, length) = data(private_data);
        Pending::start(|context| {
            // SAFETY: addresses and data are valid during the call, which is as long as the provider may use them.
            unsafe {
                (calling(self.table()).NdkConnect)(
                    self.raw(),
                    qp.raw(),
                    from.as_ptr(),
                    from.len(),
                    to.as_ptr(),
                    to.len(),
                    limits.inbound,
                    limits.outbound,
                    data,
                    length,
                    on_request,
                    context,
                )
            }
        })
    }

    /// NdkCompleteConnect.
    #[must_use]
    pub fn start_complete_connect(&self) -> Pending {
        Pending::start(|context| {
            // SAFETY: the event context lives as long as the world.
            unsafe {
                (calling(self.table()).NdkCompleteConnect)(
                    self.raw(),
                    Some(on_disconnect),
                    self.events_context(),
                    on_request,
                    context,
                )
            }
        })
    }

    /// NdkCompleteConnectEx (NDKPI 2.1).
    #[must_use]
    pub fn start_complete_connect_ex(&self) -> Pending {
        Pending::start(|context| {
            // SAFETY: as above.
            unsafe {
                (calling(self.table()).NdkCompleteConnectEx)(
                    self.raw(),
                    Some(on_disconnect_ex),
                    self.events_context(),
                    on_request,
                    context,
                )
            }
        })
    }

    /// NdkAccept.
    #[must_use]
    pub fn start_accept(&self, qp: &Qp, limits: ReadLimits, private_data: &[u8]) -> Pending {
        let (data, length) = data(private_data);
        Pending::start(|context| {
            // SAFETY: the data is valid during the call; the event context lives as long as the world.
            unsafe {
                (calling(self.table()).NdkAccept)(
                    self.raw(),
                    qp.raw(),
                    limits.inbound,
                    limits.outbound,
                    data,
                    length,
                    Some(on_disconnect),
                    self.events_context(),
                    on_request,
                    context,
                )
            }
        })
    }

    /// NdkAcceptEx (NDKPI 2.1).
    #[must_use]
    pub fn start_accept_ex(&self, qp: &Qp, limits: ReadLimits, private_data: &[u8]) -> Pending {
        let (data, length) = data(private_data);
        Pending::start(|context| {
            // SAFETY: as above.
            unsafe {
                (calling(self.table()).NdkAcceptEx)(
                    self.raw(),
                    qp.raw(),
                    limits.inbound,
                    limits.outbound,
                    data,
                    length,
                    Some(on_disconnect_ex),
                    self.events_context(),
                    on_request,
                    context,
                )
            }
        })
    }

    /// NdkConnect, NdkGetConnectionData and NdkCompleteConnect, waiting for each. What the peer answered. PASSIVE_LEVEL.
    pub fn connect(
        &self,
        qp: &Qp,
        from: SocketAddr,
        to: SocketAddr,
        limits: ReadLimits,
        private_data: &[u8],
    ) -> Result<ConnectionData> {
        self.start_connect(qp, from, to, limits, private_data)
            .wait_here()?;
        let answer = self.connection_data()?;
        self.start_complete_connect().wait_here()?;
        Ok(answer)
    }

    /// NdkAccept, waiting until the peer has completed the connection. PASSIVE_LEVEL.
    pub fn accept(&self, qp: &Qp, limits: ReadLimits, private_data: &[u8]) -> Result<()> {
        self.start_accept(qp, limits, private_data).wait_here()
    }

    /// NdkDisconnect, waiting: after that nothing accesses the queue pair's memory any more. PASSIVE_LEVEL.
    pub fn disconnect(&self) -> Result<()> {
        self.start_disconnect().wait_here()
    }

    /// NdkReject.
    pub fn reject(&self, private_data: &[u8]) -> Result<()> {
        let (data, length) = data(private_data);
        // SAFETY: the data is valid during the call.
        check(unsafe { (calling(self.table()).NdkReject)(self.raw(), data, length) })
    }

    /// NdkGetConnectionData: asks for the size first, then for the data.
    pub fn connection_data(&self) -> Result<ConnectionData> {
        let mut length = 0;
        // SAFETY: null data with length 0 asks for the size.
        check(unsafe {
            (calling(self.table()).NdkGetConnectionData)(
                self.raw(),
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut length,
            )
        })?;
        let mut private_data = vec![0; length as usize];
        let (mut inbound, mut outbound) = (0, 0);
        // SAFETY: the buffer has the size that is passed.
        check(unsafe {
            (calling(self.table()).NdkGetConnectionData)(
                self.raw(),
                &raw mut inbound,
                &raw mut outbound,
                private_data.as_mut_ptr().cast(),
                &raw mut length,
            )
        })?;
        Ok(ConnectionData {
            limits: ReadLimits { inbound, outbound },
            private_data,
        })
    }

    /// NdkGetLocalAddress.
    pub fn local_address(&self) -> Result<SocketAddr> {
        // SAFETY: `address` passes a buffer of the size it tells.
        address(|buffer, length| unsafe {
            (calling(self.table()).NdkGetLocalAddress)(self.raw(), buffer, length)
        })
    }

    /// NdkGetPeerAddress.
    pub fn peer_address(&self) -> Result<SocketAddr> {
        // SAFETY: `address` passes a buffer of the size it tells.
        address(|buffer, length| unsafe {
            (calling(self.table()).NdkGetPeerAddress)(self.raw(), buffer, length)
        })
    }

    /// NdkDisconnect.
    #[must_use]
    pub fn start_disconnect(&self) -> Pending {
        Pending::start(|context| {
            // SAFETY: context as always.
            unsafe { (calling(self.table()).NdkDisconnect)(self.raw(), on_request, context) }
        })
    }

    /// NdkCloseConnector, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseConnector.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe {
                (calling(self.table()).NdkCloseConnector)(self.raw().cast(), on_close, context)
            }
        })
    }
}

fn data(bytes: &[u8]) -> (*const c_void, u32) {
    let pointer = if bytes.is_empty() {
        null()
    } else {
        bytes.as_ptr().cast()
    };
    (pointer, u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// Calls a function that writes an address.
pub(super) fn address(
    call: impl FnOnce(*mut SOCKADDR, *mut u32) -> NTSTATUS,
) -> Result<SocketAddr> {
    let mut address = Address::empty();
    let mut length = Address::capacity();
    check(call(address.as_mut_ptr(), &raw mut length))?;
    address.get().ok_or(STATUS_BUFFER_TOO_SMALL)
}
